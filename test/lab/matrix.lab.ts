/** Which pairs of NATs two hosts can connect through: tried for every pair, beside what theory says. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { createLab, type Lab, labUnavailable, NAT_KINDS, type NatKind } from './lab.ts'
import { Probe } from './probe-client.ts'
import { expectedTcp, expectedUdp, type Party, punchTcp, punchUdp } from './punch.ts'

/** One way, on one side of each pair: calls cross on their way, as they do between real places. */
const DELAY_MS = 20

const ATTEMPTS = 3

type Trial<T extends string> = {
  readonly attempt: (a: Party, b: Party, server: Probe) => Promise<T>
  readonly expected: (a: NatKind, b: NatKind) => T
  /** Outcomes, the worst first. */
  readonly ranks: readonly T[]
}

const PAIRS = NAT_KINDS.flatMap((a, index) => NAT_KINDS.slice(index).map(b => [a, b] as const))

describe('a direct connection', { skip: labUnavailable() ?? false }, () => {
  const endings: (() => Promise<void>)[] = []
  const left = new Map<NatKind, Party>()
  const right = new Map<NatKind, Party>()
  let server: Probe

  before(async () => {
    const lab = await createLab({ after: action => void endings.push(action) })
    server = new Probe(lab, await lab.publicHost('server'))
    for (const kind of NAT_KINDS) {
      left.set(kind, await party(lab, kind, 'left'))
      right.set(kind, await party(lab, kind, 'right'))
    }
  })

  after(async () => {
    for (const end of endings) await end()
  })

  it('by UDP works where theory says', async t => {
    const outcomes = await tryAll({ attempt: punchUdp, expected: expectedUdp, ranks: ['none', 'predicted', 'seen'] })
    t.diagnostic(table('UDP', outcomes))
    assert.deepEqual(outcomes, theory(expectedUdp))
  })

  it('by TCP works where theory says', async t => {
    const ranks = ['none', 'predicted', 'one listens', 'both dial'] as const
    const outcomes = await tryAll({ attempt: punchTcp, expected: expectedTcp, ranks })
    t.diagnostic(table('TCP', outcomes))
    assert.deepEqual(outcomes, theory(expectedTcp))
  })

  async function party(lab: Lab, kind: NatKind, side: 'left' | 'right'): Promise<Party> {
    const link = side === 'left' ? { link: { delayMs: DELAY_MS } } : {}
    const host = await lab.natHost(`${kind}-${side}`, { kind, ...link })
    return { kind, host, probe: new Probe(lab, host) }
  }

  /**
   * Pairs one after another: a second connection through the same router would take the port that one predicts. The best
   * of a few attempts counts, since a machine that stands still lets one fail; better than theory is never right.
   */
  async function tryAll<T extends string>({ attempt, expected, ranks }: Trial<T>): Promise<Record<string, T>> {
    const outcomes: Record<string, T> = {}
    for (const [a, b] of PAIRS) {
      const [first, second] = [left.get(a), right.get(b)]
      assert(first !== undefined && second !== undefined)
      let best = -1
      for (let count = 0; count < ATTEMPTS && best < ranks.indexOf(expected(a, b)); count += 1) {
        best = Math.max(best, ranks.indexOf(await attempt(first, second, server)))
      }
      const outcome = ranks[best]
      assert(outcome !== undefined)
      outcomes[`${a} - ${b}`] = outcome
    }
    return outcomes
  }
})

function theory(expected: (a: NatKind, b: NatKind) => string): Record<string, string> {
  return Object.fromEntries(PAIRS.map(([a, b]) => [`${a} - ${b}`, expected(a, b)]))
}

/** A table in Markdown, the upper triangle of a symmetric matrix. */
function table(title: string, outcomes: Readonly<Record<string, string>>): string {
  const rows = NAT_KINDS.map(a => [a, ...NAT_KINDS.map(b => outcomes[`${a} - ${b}`] ?? '')])
  const lines = [[title, ...NAT_KINDS], NAT_KINDS.map(() => '---').concat('---'), ...rows]
  return `\n${lines.map(cells => `| ${cells.join(' | ')} |`).join('\n')}\n`
}
