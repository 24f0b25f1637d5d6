/** From a relayed connection to a direct one, between real hosts behind every pair of NATs, beside what theory says. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { createLab, type Lab, labUnavailable, NAT_KINDS, type NatKind } from './lab.ts'
import { expectedTcp, expectedUdp } from './punch.ts'
import { better, join, type PathFound, PunchNode } from './punch-client.ts'

/** One way, on one side of each pair. */
const DELAY_MS = 20

const ATTEMPTS = 2

/** The best first. */
const PATHS = ['direct', 'punched', 'ice', 'relayed'] as const

/** What each path is measured with. */
const SENT_BYTES = 32 * 1024 * 1024

const PAIRS = NAT_KINDS.flatMap((a, index) => NAT_KINDS.slice(index).map(b => [a, b] as const))

/** At loopback alone: nobody dials that, and QUIC over ICE comes in there. */
const HIDDEN = ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/udp/0/quic-v1']

describe('a relayed connection', { skip: labUnavailable() ?? false }, () => {
  const endings: (() => Promise<void>)[] = []
  let lab: Lab
  let server: PunchNode
  let second: PunchNode
  const left = new Map<NatKind, Awaited<ReturnType<Lab['natHost']>>>()
  const right = new Map<NatKind, Awaited<ReturnType<Lab['natHost']>>>()

  before(async () => {
    lab = await createLab({ after: action => void endings.push(action) })
    const [host, other] = [await lab.publicHost('server'), await lab.publicHost('second')]
    server = await serverOn(host)
    second = await serverOn(other)
    for (const kind of NAT_KINDS) {
      left.set(kind, await lab.natHost(`${kind}-left`, { kind, link: { delayMs: DELAY_MS } }))
      right.set(kind, await lab.natHost(`${kind}-right`, { kind }))
    }
  })

  after(async () => {
    for (const end of endings) await end()
  })

  it('becomes one by TCP from both sides where theory says', async t => {
    const found = await matrix({ dials: true })
    t.diagnostic(table('TCP', found))
    assert.deepEqual(
      pathsOf(found),
      theory((a, b) => (expectedTcp(a, b) === 'none' ? 'relayed' : 'punched')),
    )
  })

  it('becomes one by ICE and QUIC where theory says', async t => {
    const found = await matrix({ dials: false, stun: true })
    t.diagnostic(table('ICE', found))
    // Ports of a sequence are not foreseen for UDP.
    assert.deepEqual(
      pathsOf(found),
      theory((a, b) => (expectedUdp(a, b) === 'seen' ? 'ice' : 'relayed')),
    )
  })

  it('becomes one at inside addresses where both are behind one NAT', async () => {
    const home = await lab.site('home', { kind: 'port-restricted', hosts: ['ann', 'ben'] })
    const [ann, ben] = home.hosts
    assert(ann !== undefined && ben !== undefined)
    const listen = ['/ip4/0.0.0.0/tcp/0']
    await bettered([ann, ben], host => PunchNode.start(lab, host, { listen }), 'direct')
  })

  it('becomes a punched one behind one NAT where neither listens', async () => {
    const home = await lab.site('flat', { kind: 'symmetric', hosts: ['cleo', 'dan'] })
    const [cleo, dan] = home.hosts
    assert(cleo !== undefined && dan !== undefined)
    await bettered([cleo, dan], host => node(host, { dials: true }), 'punched')
  })

  it('carries bytes, whatever path it becomes', async t => {
    const speeds: string[] = []
    const measure = async (what: string, a: PunchNode, b: PunchNode): Promise<void> => {
      let tookMs = Number.POSITIVE_INFINITY
      // The first time is for programs and windows to get warm.
      for (let times = 0; times < 3; times += 1) {
        a.do({ what: 'send', peer: b.id, bytes: SENT_BYTES })
        const sent = await a.until(({ event }) => event === 'sent' || event === 'failed')
        assert.equal(sent.bytes, SENT_BYTES, sent.error)
        tookMs = Math.min(tookMs, sent.tookMs ?? 0)
      }
      speeds.push(`${what} ${Math.round(SENT_BYTES / 2 ** 20 / (tookMs / 1_000))} MiB/s`)
    }
    for (const listen of ['tcp/0', 'udp/0/quic-v1']) {
      const name = listen.slice(0, 3)
      const [one, two] = [await lab.publicHost(`${name}-one`), await lab.publicHost(`${name}-two`)]
      const [a, b] = [await publicOn(one, listen), await publicOn(two, listen)]
      a.do({ what: 'connect', address: b.addresses[0] ?? '' })
      await a.until(({ event }) => event === 'joined')
      await measure(`dialled ${listen}`, a, b)
    }
    for (const [what, means] of [
      ['relayed', {}],
      ['punched', { dials: true }],
      ['ice', { stun: true }],
    ] as const) {
      const kind = { kind: 'full-cone' } as const
      const [one, two] = [await lab.natHost(`${what}-one`, kind), await lab.natHost(`${what}-two`, kind)]
      const [a, b] = await bettered([one, two], host => node(host, means), what)
      await measure(what, a, b)
    }
    t.diagnostic(speeds.join(', '))
  })

  function publicOn(host: PunchNode['host'], listen: string): Promise<PunchNode> {
    return PunchNode.start(lab, host, { listen: [`/ip4/${host.ipv4}/${listen}`], plane: false })
  }

  function serverOn(host: PunchNode['host']): Promise<PunchNode> {
    const address = host.ipv4 ?? ''
    return PunchNode.start(lab, host, { listen: [`/ip4/${address}/tcp/0`], public: [address] })
  }

  type Means = { readonly dials?: boolean; readonly stun?: boolean }

  async function node(host: PunchNode['host'], { dials, stun }: Means): Promise<PunchNode> {
    const started = await PunchNode.start(lab, host, {
      listen: HIDDEN,
      ...(stun === true ? { stun: server.host.ipv4 ?? '' } : {}),
    })
    if (dials === true) {
      for (const to of [server, second]) {
        started.do({ what: 'connect', address: to.addresses[0] ?? '' })
        await started.until(({ event, peer }) => event === 'joined' && peer === to.id)
      }
    }
    return started
  }

  /**
   * Two nodes and the path that one of them comes to. As in the matrix, an attempt may fail on a machine that stands still;
   * a path that is better is never right.
   */
  async function bettered(
    [one, two]: readonly [PunchNode['host'], PunchNode['host']],
    start: (host: PunchNode['host']) => Promise<PunchNode>,
    path: (typeof PATHS)[number],
  ): Promise<readonly [PunchNode, PunchNode]> {
    const said: string[] = []
    for (let count = 0; count < ATTEMPTS; count += 1) {
      const [a, b] = [await start(one), await start(two)]
      await join(a, b, server)
      const found = (await better(a, b)).path
      if (found === path) return [a, b]
      const isWorse = PATHS.findIndex(name => name === found) > PATHS.indexOf(path)
      assert(isWorse, `${found} where ${path} is the best that can be`)
      said.push(...a.said(), ...b.said())
      a.stop()
      b.stop()
    }
    return assert.fail(`no ${path} path in ${ATTEMPTS} attempts:\n${said.join('\n')}`)
  }

  function nodeOf(side: typeof left, kind: NatKind, means: Means): Promise<PunchNode> {
    const host = side.get(kind)
    assert(host !== undefined)
    return node(host, means)
  }

  /** Pairs one after another: a connection of another pair would take the port that one foresees. */
  async function matrix(means: Means): Promise<Record<string, PathFound>> {
    const found: Record<string, PathFound> = {}
    for (const [a, b] of PAIRS) {
      let best: PathFound = { path: 'relayed', afterMs: 0 }
      // A machine that stands still lets an attempt fail; better than theory is never right.
      for (let count = 0; count < ATTEMPTS && best.path === 'relayed'; count += 1) {
        const [first, other] = [await nodeOf(left, a, means), await nodeOf(right, b, means)]
        await join(first, other, server)
        best = await better(first, other)
        if (process.env['LAB_SHOW'] !== undefined) process.stderr.write(`${a} - ${b}: ${JSON.stringify(best)}\n`)
        if (process.env['LAB_SHOW'] === 'all') process.stderr.write(`${first.said().join('\n')}\n`)
        first.stop()
        other.stop()
        if (expectedTcp(a, b) === 'none' || (means.stun === true && expectedUdp(a, b) !== 'seen')) break
      }
      found[`${a} - ${b}`] = best
    }
    return found
  }
})

function pathsOf(found: Readonly<Record<string, PathFound>>): Record<string, string> {
  return Object.fromEntries(Object.entries(found).map(([pair, { path }]) => [pair, path]))
}

function theory(expected: (a: NatKind, b: NatKind) => string): Record<string, string> {
  return Object.fromEntries(PAIRS.map(([a, b]) => [`${a} - ${b}`, expected(a, b)]))
}

/** A table in Markdown, the upper triangle of a symmetric matrix. */
function table(title: string, found: Readonly<Record<string, PathFound>>): string {
  const cell = (pair: string): string => {
    const result = found[pair]
    if (result === undefined) return ''
    return result.path === 'relayed' ? 'relayed' : `${result.path} ${result.afterMs} ms`
  }
  const rows = NAT_KINDS.map(a => [a, ...NAT_KINDS.map(b => cell(`${a} - ${b}`))])
  const lines = [[title, ...NAT_KINDS], NAT_KINDS.map(() => '---').concat('---'), ...rows]
  return `\n${lines.map(cells => `| ${cells.join(' | ')} |`).join('\n')}\n`
}
