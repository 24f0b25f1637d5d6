/**
 * Real nodes behind every pair of NATs, with one public node that relays: whether they meet, how, and after what time.
 * What the lab's theory says of TCP and UDP (docs/guides/lab.md) is what the nodes must reach.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { PeerSummary } from '#wire'
import { until } from '../../tools/swarm.ts'
import { turnServerMissing } from '../support/turn-server.ts'
import { labDataDir, type LabNode, NODE_PORT, startLabNode } from './koinon-node.ts'
import { createLab, type Host, type Lab, labUnavailable, NAT_KINDS, type NatKind, type SiteHost } from './lab.ts'
import { expectedTcp, expectedUdp } from './punch.ts'

/** One way, on one side of each pair: calls cross on their way, as they do between real places. */
const DELAY_MS = 20

const MEET_MS_MAX = 60_000

/** A punch may fail on a machine that stands still, after 90 s at most. The next one follows up to 45 s later. */
const DIRECT_MS_MAX = 180_000

const SECRET = 'a secret of the lab for its nodes'

const PAIRS = NAT_KINDS.flatMap((a, index) => NAT_KINDS.slice(index).map(b => [a, b] as const))

type Outcome = {
  readonly path: string
  /** From the start of the second node's networking to a session with the first, and to a direct one. */
  readonly meetMs: number
  readonly directMs: number | undefined
}

describe('nodes behind NATs', { skip: labUnavailable() ?? false }, () => {
  const endings: (() => Promise<void>)[] = []
  const hosts = new Map<string, SiteHost>()
  let lab: Lab
  let relay: LabNode

  before(async () => {
    lab = await createLab({ after: action => void endings.push(action) })
    relay = await startLabNode(lab, await lab.publicHost('relay'), { args: ['--relay', 'on'], env: SECRETS })
    for (const kind of NAT_KINDS) {
      hosts.set(`${kind} left`, await lab.natHost(`${kind}-left`, { kind, link: { delayMs: DELAY_MS } }))
      hosts.set(`${kind} right`, await lab.natHost(`${kind}-right`, { kind }))
    }
  })

  after(async () => {
    for (const end of endings) await end()
  })

  it('meet, and come to a direct connection where there is one', { timeout: 45 * 60_000 }, async t => {
    const outcomes = new Map<string, Outcome>()
    const faults: string[] = []
    for (const [a, b] of PAIRS) {
      const outcome = await meet(a, b)
      outcomes.set(`${a} - ${b}`, outcome)
      const canBeDirect = isDirectInTheory(a, b)
      if (canBeDirect !== (outcome.directMs !== undefined)) faults.push(`${a} - ${b}: ${outcome.path}`)
    }
    t.diagnostic(table(outcomes))
    assert.deepEqual(faults, [])
  })

  const skip = turnServerMissing()
  it('come to a UDP path by a TURN server where no NAT allows one', { timeout: 5 * 60_000, skip }, async t => {
    const server = await lab.publicHost('turn')
    const directory = await labDataDir(t)
    lab.run(server, turnArguments(server, directory))
    const file = join(directory, 'turn.json')
    await writeFile(file, JSON.stringify({ server: `${server.ipv4}:3478`, username: 'koinon', password: 'secret' }))
    const [left, right] = [hosts.get('symmetric left'), hosts.get('symmetric right')]
    assert(left !== undefined && right !== undefined)
    const options = { args: ['--peer', relay.address, '--turn', file], env: SECRETS }
    const [first, second] = await Promise.all([
      startLabNode(lab, left, { ...options, listen: listenOf(left) }),
      startLabNode(lab, right, { ...options, listen: listenOf(right) }),
    ])
    const isOverUdp = async (): Promise<true | undefined> =>
      (await peerOf(first, second))?.path.kind === 'ice' ? true : undefined
    await until(isOverUdp, { what: 'a path by TURN', timeoutMs: DIRECT_MS_MAX })
    await Promise.all([first.kill(), second.kill()])
  })

  async function meet(a: NatKind, b: NatKind): Promise<Outcome> {
    const [left, right] = [hosts.get(`${a} left`), hosts.get(`${b} right`)]
    assert(left !== undefined && right !== undefined)
    const args = ['--peer', relay.address]
    const options = { args, env: SECRETS }
    const [first, second] = await Promise.all([
      startLabNode(lab, left, { ...options, listen: listenOf(left) }),
      startLabNode(lab, right, { ...options, listen: listenOf(right) }),
    ])
    const start = performance.now()
    const met = await until(() => peerOf(first, second), { what: `${a} meeting ${b}`, timeoutMs: MEET_MS_MAX })
    const meetMs = performance.now() - start
    let last = met
    const isDirect = async (): Promise<true | undefined> => {
      last = (await peerOf(first, second)) ?? last
      return last.path.kind === 'relayed' ? undefined : true
    }
    const timeoutMs = isDirectInTheory(a, b) ? DIRECT_MS_MAX : 0
    const direct = await until(isDirect, { what: 'a direct path', timeoutMs }).catch(() => undefined)
    const directMs = direct === undefined ? undefined : performance.now() - start
    await Promise.all([first.kill(), second.kill()])
    return { path: `${last.path.kind} ${last.path.transport}`, meetMs, directMs }
  }
})

/** An open relay for one account, which is what coturn is for. */
function turnArguments({ ipv4 = '' }: Host, directory: string): string[] {
  const listening = [
    '-n',
    '--listening-ip',
    ipv4,
    '--relay-ip',
    ipv4,
    '--listening-port',
    '3478',
    '--no-tls',
    '--no-dtls',
  ]
  const account = ['--lt-cred-mech', '--user', 'koinon:secret', '--realm', 'koinon', '--no-cli', '--log-file', 'stdout']
  const files = [`--pidfile=${join(directory, 'pid')}`, `--userdb=${join(directory, 'turndb')}`]
  return ['turnserver', ...listening, ...account, ...files]
}

const SECRETS = { KOINON_SWARM_SECRET: SECRET }

function listenOf(host: SiteHost): string[] {
  const { ipv4 = '0.0.0.0' } = host
  return [`/ip4/${ipv4}/tcp/${NODE_PORT}`, `/ip4/${ipv4}/udp/${NODE_PORT}/quic-v1`]
}

async function peerOf(node: LabNode, other: LabNode): Promise<PeerSummary | undefined> {
  return (await node.client.peers()).find(({ peer }) => peer === other.ready.peer)
}

function isDirectInTheory(a: NatKind, b: NatKind): boolean {
  return expectedTcp(a, b) !== 'none' || expectedUdp(a, b) === 'seen'
}

function table(outcomes: ReadonlyMap<string, Outcome>): string {
  const rows = [...outcomes].map(([pair, { path, meetMs, directMs }]) => {
    const seconds = (ms: number | undefined): string => (ms === undefined ? '' : (ms / 1000).toFixed(1))
    return `| ${pair.replace(' - ', ' | ')} | ${path} | ${seconds(meetMs)} | ${seconds(directMs)} |`
  })
  return `\n| one side | other side | path | s to connect | s to direct |\n|---|---|---|---|---|\n${rows.join('\n')}\n`
}
