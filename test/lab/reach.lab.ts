/** Nodes behind NATs of every kind find out which it is, and one whose gateway maps ports is reached from outside. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { ReachReport } from '#wire'
import { createLab, type Host, type Lab, type LabProcess, labUnavailable, NAT_KINDS, type NatKind } from './lab.ts'

const skip = labUnavailable() ?? false
const NODE = fileURLToPath(new URL('../peers/reach-node.ts', import.meta.url))
const STUN = fileURLToPath(new URL('../peers/stun-server.ts', import.meta.url))

/** From the first packet to the kind of a NAT, on a busy machine. */
const FOUND_MS_MAX = 60_000

type ReachNode = { readonly process: LabProcess; readonly address: string }

async function startNode(lab: Lab, host: Host, options: object = {}): Promise<ReachNode> {
  const given = { listen: `/ip4/${host.ipv4 ?? ''}/tcp/4001`, ...options }
  const process = lab.run(host, [globalThis.process.execPath, NODE, JSON.stringify(given)])
  const line = await process.nextLine()
  if (line === undefined) throw new Error(process.stderr())
  const [address = ''] = JSON.parse(line) as string[]
  return { process, address }
}

/** The first state of the node that is so. */
async function becomes({ process }: ReachNode, isSo: (report: ReachReport) => boolean): Promise<ReachReport> {
  for (;;) {
    const line = await process.nextLine({ timeoutMs: FOUND_MS_MAX })
    if (line === undefined) throw new Error(`the node ended: ${process.stderr()}`)
    const report = JSON.parse(line) as ReachReport
    if (isSo(report)) return report
  }
}

/** A STUN server with two addresses: then filtering shows too. */
async function startStun(lab: Lab): Promise<string> {
  const host = await lab.publicHost('stun')
  const [first = '', second] = [host.ipv4, '198.20.0.10']
  const internet = { ...host, name: 'internet', namespace: host.namespace.replace(/stun$/, 'internet') }
  const { stdout } = await lab.exec(internet, ['ip', '-o', 'route', 'get', first])
  const port = / dev (\S+)/.exec(stdout)?.[1] ?? ''
  await lab.exec(internet, ['ip', 'route', 'replace', `${second}/32`, 'dev', port])
  await lab.exec(host, ['ip', 'addr', 'add', `${second}/32`, 'dev', 'eth0'])
  const server = lab.run(host, [process.execPath, STUN, first, second])
  assert.equal(await server.nextLine(), 'serving')
  return first
}

/** Two nodes on the internet, which prove each other public. */
async function startHelpers(lab: Lab): Promise<readonly [ReachNode, ReachNode]> {
  const first = await startNode(lab, await lab.publicHost('first'))
  const second = await startNode(lab, await lab.publicHost('second'), { peers: [first.address] })
  for (const node of [first, second]) await becomes(node, ({ stunPort }) => stunPort !== undefined)
  return [first, second]
}

const EXPECTED: Readonly<Record<NatKind, readonly [kind: string, type: string, ports: string]>> = {
  none: ['none', 'public', 'preserved'],
  'full-cone': ['full-cone', 'nat', 'preserved'],
  restricted: ['restricted', 'nat', 'preserved'],
  'port-restricted': ['port-restricted', 'nat', 'preserved'],
  'symmetric-sequential': ['symmetric', 'nat', 'sequence'],
  symmetric: ['symmetric', 'nat', 'random'],
}

describe('a node in the lab', { skip }, () => {
  it('finds out which NAT it is behind, and whether it can be reached', { timeout: 180_000 }, async t => {
    const lab = await createLab(t)
    const stun = await startStun(lab)
    const peers = (await startHelpers(lab)).map(({ address }) => address)
    const found: Record<string, readonly string[]> = {}
    for (const kind of NAT_KINDS) {
      const host = await lab.natHost(`behind-${kind}`, { kind })
      const node = await startNode(lab, host, { peers, stun: [stun], mapPorts: false })
      const isFound = ({ nat, type }: ReachReport): boolean => nat.ageMs !== undefined && type !== 'unknown'
      const { nat, type } = await becomes(node, isFound)
      found[kind] = [nat.kind, type, nat.ports]
      if (kind !== 'none') assert.equal(nat.address, host.site.publicIpv4())
      node.process.kill()
    }
    assert.deepEqual(found, EXPECTED)
  })

  it('tells a port-restricted NAT by the STUN servers of public nodes alone', { timeout: 120_000 }, async t => {
    const lab = await createLab(t)
    const peers = (await startHelpers(lab)).map(({ address }) => address)
    const node = await startNode(lab, await lab.natHost('inside', { kind: 'port-restricted' }), { peers })
    const { nat } = await becomes(node, report => report.nat.kind === 'port-restricted')
    assert.deepEqual([nat.mapping, nat.filtering], ['endpoint-independent', 'unknown'])
  })

  const noGateway = spawnSync('miniupnpd', ['--version']).error && 'miniupnpd (Debian: miniupnpd) is not installed'
  it('is reached through the port that miniupnpd maps', { skip: noGateway ?? false, timeout: 120_000 }, async t => {
    const lab = await createLab(t)
    const peers = (await startHelpers(lab)).map(({ address }) => address)
    const inside = await lab.natHost('inside', { kind: 'port-restricted' })
    await startGateway(t, lab, inside.site.router)
    const node = await startNode(lab, inside, { peers })
    const report = await becomes(node, ({ type, transports }) => type === 'public' && transports.plane === 'reachable')
    assert.deepEqual(report.external, [
      { address: `/ip4/${inside.site.publicIpv4()}/tcp/4001`, source: 'gateway', reach: 'reachable' },
    ])
    assert.equal(report.mapping.state, 'mapped')
    // Given back at the end: the gateway lets nobody in any more.
    node.process.endInput()
    await node.process.ended
    const { stdout } = await lab.exec(inside.site.router, ['nft', 'list', 'table', 'inet', 'upnp'])
    assert.doesNotMatch(stdout, /dnat/)
  })
})

/** miniupnpd in a table of its own, whose chain is asked before those of the NAT. */
async function startGateway(t: TestContext, lab: Lab, router: Host): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'koinon-reach-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const rules = `table inet upnp {
    chain forward_upnp { }
    chain out_upnp { }
    chain in_upnp { }
    chain prerouting { type nat hook prerouting priority -110; jump in_upnp; }
  }`
  await lab.exec(router, ['nft', '-f', '-'], { input: rules })
  const file = join(directory, 'miniupnpd.conf')
  writeFileSync(file, CONFIGURATION.replace('DIRECTORY', directory))
  const gateway = lab.run(router, ['sh', '-c', `exec miniupnpd -d -f ${file} -P ${join(directory, 'pid')} 2>&1`])
  for await (const line of gateway.lines) if (line.includes('Listening for NAT-PMP/PCP traffic')) return
  throw new Error('miniupnpd ended')
}

const CONFIGURATION = `
ext_ifname=wan
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
port=0
lease_file=DIRECTORY/leases
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=forward_upnp
upnp_nat_chain=in_upnp
upnp_nat_postrouting_chain=out_upnp
uuid=11111111-2222-3333-4444-555555555555
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`
