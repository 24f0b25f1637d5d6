/** NATs that nobody here wrote: the Linux kernel's, between network namespaces. They are told apart, and ICE gets through. */
import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { createGatewayNamespaces, namespacesMissing, runTool } from '../../test/support/namespaces.ts'
import type { NatReport } from './detect.ts'
import type { IceSelectedPair } from './ice.ts'
import type { IceDescription } from './ice-description.ts'
import type { FilteringBehaviour, MappingBehaviour, NatKind } from './types.ts'

type Case = {
  readonly what: string
  /** Rules of the gateway; OUT is its interface outside. */
  readonly postrouting?: string
  readonly prerouting?: string
  readonly forward?: string
  readonly kind: NatKind
  readonly mapping: MappingBehaviour
  readonly filtering: FilteringBehaviour
  readonly ports: string
}

const CASES: readonly Case[] = [
  {
    what: 'a gateway that only forwards',
    kind: 'none',
    mapping: 'direct',
    filtering: 'endpoint-independent',
    ports: 'preserved',
  },
  {
    what: 'a firewall without translation',
    forward: 'iifname OUT ct state new drop',
    kind: 'none',
    mapping: 'direct',
    filtering: 'address-and-port-dependent',
    ports: 'preserved',
  },
  {
    what: 'masquerade, as home routers have it',
    postrouting: 'oifname OUT masquerade',
    kind: 'port-restricted',
    mapping: 'endpoint-independent',
    filtering: 'address-and-port-dependent',
    ports: 'preserved',
  },
  {
    what: 'masquerade, and everything from outside to the client',
    postrouting: 'oifname OUT masquerade',
    prerouting: 'iifname OUT udp dport 1024-65535 dnat ip to 192.168.77.2',
    kind: 'full-cone',
    mapping: 'endpoint-independent',
    filtering: 'endpoint-independent',
    ports: 'preserved',
  },
  {
    what: 'masquerade with random ports',
    postrouting: 'oifname OUT masquerade fully-random',
    kind: 'symmetric',
    mapping: 'address-and-port-dependent',
    filtering: 'address-and-port-dependent',
    ports: 'random',
  },
]

const missing = namespacesMissing() ?? false

for (const { what, kind, mapping, filtering, ports, ...rules } of CASES) {
  test(`${what}: ${kind}`, { skip: missing, timeout: 60_000 }, async t => {
    const namespaces = createGatewayNamespaces()
    t.after(() => namespaces.remove())
    const nft = (...args: string[]): string => runTool('ip', 'netns', 'exec', namespaces.gateway, 'nft', ...args)
    nft('add', 'table', 'inet', 'nat')
    for (const hook of ['prerouting', 'postrouting', 'forward'] as const) {
      const type = hook === 'forward' ? 'filter' : 'nat'
      nft('add', 'chain', 'inet', 'nat', hook, `{ type ${type} hook ${hook} priority 0 ; }`)
      const rule = rules[hook]?.replaceAll('OUT', namespaces.outside)
      if (rule !== undefined) nft('add', 'rule', 'inet', 'nat', hook, ...rule.split(' '))
    }
    const inside = (namespace: string, file: string, ...args: string[]): string[] => {
      return ['netns', 'exec', namespace, process.execPath, `test/peers/${file}`, ...args]
    }
    const server = spawn('ip', inside(namespaces.internet, 'stun-server.ts', '198.51.100.1', '198.51.100.2'))
    t.after(async () => {
      const ended = once(server, 'exit')
      server.kill()
      await ended
    })
    await once(server.stdout, 'data')
    const found = await new Promise<string>((resolve, reject) => {
      const client = spawn('ip', inside(namespaces.client, 'detect-nat.ts', '198.51.100.1'))
      let text = ''
      client.stdout.on('data', chunk => (text += String(chunk)))
      client.stderr.on('data', chunk => reject(new Error(String(chunk))))
      client.on('close', () => resolve(text))
    })
    const report = JSON.parse(found) as NatReport
    assert.deepEqual(
      { kind: report.kind, mapping: report.mapping, filtering: report.filtering, ports: report.ports.kind },
      { kind, mapping, filtering, ports },
    )
    assert.equal(report.address, kind === 'none' ? '192.168.77.2' : '198.51.100.7')
  })
}

for (const masquerade of ['masquerade', 'masquerade fully-random']) {
  test(`ICE connects through ${masquerade} to a machine outside`, { skip: missing, timeout: 60_000 }, async t => {
    const namespaces = createGatewayNamespaces()
    t.after(() => namespaces.remove())
    const nft = (...args: string[]): string => runTool('ip', 'netns', 'exec', namespaces.gateway, 'nft', ...args)
    nft('add', 'table', 'inet', 'nat')
    nft('add', 'chain', 'inet', 'nat', 'out', '{ type nat hook postrouting priority 0 ; }')
    nft('add', 'rule', 'inet', 'nat', 'out', 'oifname', namespaces.outside, ...masquerade.split(' '))
    // The outside knows no way to inside addresses, as it should be.
    runTool('ip', '-n', namespaces.internet, 'route', 'del', '192.168.77.0/24')
    const start = (namespace: string, ...args: string[]): ChildProcessWithoutNullStreams => {
      const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, ...args])
      t.after(async () => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const ended = once(child, 'exit')
        child.kill()
        await ended
      })
      return child
    }
    const server = start(namespaces.internet, 'test/peers/stun-server.ts', '198.51.100.1', '198.51.100.2')
    await once(server.stdout, 'data')
    const sides = [
      start(namespaces.client, 'test/peers/ice-peer.ts', 'controlling', '198.51.100.1'),
      start(namespaces.internet, 'test/peers/ice-peer.ts', 'controlled', '198.51.100.1'),
    ]
    const lines = sides.map(side => createInterface({ input: side.stdout })[Symbol.asyncIterator]())
    const next = (): Promise<unknown[]> =>
      Promise.all(lines.map(async line => JSON.parse(String((await line.next()).value)) as unknown))
    const descriptions = (await next()) as IceDescription[]
    for (const [index, side] of sides.entries()) side.stdin.write(`${JSON.stringify(descriptions[1 - index])}\n`)
    const [ofClient, ofOther] = (await next()) as IceSelectedPair[]
    // That machine has two addresses, and a socket for each that sends from the first, where it is seen as well: three
    // candidates that are all its own. On a busy machine any of them may be the first to answer.
    assert.ok(ofClient !== undefined)
    const { address, port } = ofClient.remote
    assert.match(address, /^198\.51\.100\.[12]$/)
    const used = descriptions[1]?.candidates.find(candidate => candidate.address === address && candidate.port === port)
    assert.equal(ofClient.kind, used?.type === 'host' ? 'host' : 'reflexive')
    assert.equal(ofOther?.kind, 'reflexive')
    assert.equal(ofOther.remote.address, '198.51.100.7')
    assert.deepEqual(await next(), ['heard', 'heard'])
    for (const side of sides) side.stdin.end()
    await Promise.all(sides.map(side => once(side, 'exit')))
  })
}
