/** The port mapper against a gateway that nobody here wrote: miniupnpd with nftables, in a network namespace. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import {
  createGatewayNamespaces,
  type GatewayNamespaces,
  namespacesMissing,
  runTool,
} from '../../../test/support/namespaces.ts'
import type { PortMapping } from './types.ts'

function missing(): string | false {
  if (spawnSync('miniupnpd', ['--version']).error !== undefined) return 'miniupnpd (Debian: miniupnpd) is not installed'
  return namespacesMissing() ?? false
}

/** miniupnpd refuses to work with an outside address that is reserved, so it is told another one. */
const OUTSIDE = '11.22.33.44'

function configuration(namespaces: GatewayNamespaces, directory: string): string {
  return [
    `ext_ifname=${namespaces.outside}`,
    `ext_ip=${OUTSIDE}`,
    `listening_ip=${namespaces.inside}`,
    'enable_natpmp=yes',
    'enable_upnp=yes',
    'secure_mode=yes',
    'port=0',
    `lease_file=${join(directory, 'leases')}`,
    'upnp_table_name=filter',
    'upnp_nat_table_name=filter',
    'upnp_forward_chain=miniupnpd',
    'upnp_nat_chain=prerouting_miniupnpd',
    'upnp_nat_postrouting_chain=postrouting_miniupnpd',
    'uuid=11111111-2222-3333-4444-555555555555',
    'allow 1024-65535 192.168.77.0/24 1024-65535',
    'deny 0-65535 0.0.0.0/0 0-65535',
    '',
  ].join('\n')
}

async function startGateway(namespaces: GatewayNamespaces, directory: string): Promise<ChildProcess> {
  const file = join(directory, 'miniupnpd.conf')
  writeFileSync(file, configuration(namespaces, directory))
  const inGateway = ['netns', 'exec', namespaces.gateway]
  runTool('ip', ...inGateway, 'nft', 'add', 'table', 'inet', 'filter')
  for (const chain of ['miniupnpd', 'prerouting_miniupnpd', 'postrouting_miniupnpd']) {
    runTool('ip', ...inGateway, 'nft', 'add', 'chain', 'inet', 'filter', chain)
  }
  const args = [...inGateway, 'miniupnpd', '-d', '-f', file, '-P', join(directory, 'pid')]
  const gateway = spawn('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  for await (const line of createInterface({ input: gateway.stderr })) {
    if (line.includes('Listening for NAT-PMP/PCP traffic')) {
      gateway.stderr.resume()
      return gateway
    }
  }
  throw new Error('miniupnpd ended')
}

for (const way of ['pmp', 'upnp'] as const) {
  test(`miniupnpd maps ports by ${way} and takes them back`, { skip: missing(), timeout: 60_000 }, async t => {
    const namespaces = createGatewayNamespaces()
    const directory = mkdtempSync(join(tmpdir(), 'koinon-nat-'))
    t.after(() => {
      namespaces.remove()
      rmSync(directory, { recursive: true })
    })
    const gateway = await startGateway(namespaces, directory)
    t.after(async () => {
      const ended = once(gateway, 'exit')
      gateway.kill()
      await ended
    })
    const rules = (): string => runTool('ip', 'netns', 'exec', namespaces.gateway, 'nft', 'list', 'ruleset')
    const args = ['netns', 'exec', namespaces.client, process.execPath, 'test/peers/map-ports.ts', way]
    const client = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: client.stdout })[Symbol.asyncIterator]()
    const next = async (): Promise<unknown> => JSON.parse(String((await lines.next()).value))

    const udp = (await next()) as PortMapping
    assert.deepEqual(
      { ...udp, via: '', leaseSeconds: 0 },
      {
        protocol: 'udp',
        internalPort: 4000,
        externalPort: 4500,
        externalAddress: OUTSIDE,
        isPublic: true,
        via: '',
        leaseSeconds: 0,
      },
    )
    assert.ok(way === 'upnp' ? udp.via === 'upnp' : udp.via !== 'upnp')
    t.diagnostic(`by ${udp.via}, for ${udp.leaseSeconds} s`)
    assert.equal(((await next()) as PortMapping).externalPort, 4001)
    assert.match(rules(), /dport 4500 dnat ip to 192\.168\.77\.2:4000/)
    assert.match(rules(), /dport 4001 dnat ip to 192\.168\.77\.2:4001/)
    client.stdin.write('stop\n')
    assert.equal(await next(), 'stopped')
    assert.doesNotMatch(rules(), /dnat/)
  })
}
