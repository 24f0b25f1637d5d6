/**
 * `npm run -s sim -- swarm`: one seeder to one and to several leechers, every upload capped, in simulated time: how many times
 * longer it takes until all have everything. And free riders beside those who give.
 */
import { Bitfield } from '#base'
import { MIB, SwarmWorld } from '../../test/support/swarm-simulation.ts'
import { rounded, type SimOptions, type SimResult } from './sim-report.ts'

const UP_MIB = 20
const DOWN_MIB = 500
const LATENCY_MS = 0.5
const PASSED_MS_MAX = 3_600_000

export type SwarmSimOptions = Pick<SimOptions, 'seed' | 'onRow'> & {
  readonly leechers: number
  /** Sizes of the file in MiB: one row for each. */
  readonly sizes: readonly number[]
}

export async function simulateSwarm({ leechers, sizes, seed, onRow }: SwarmSimOptions): Promise<SimResult> {
  const rows = sizes.map(mib => {
    const cpuAt = process.cpuUsage()
    const one = fanOut(seed, { leechers: 1, mib })
    const many = fanOut(seed, { leechers, mib })
    const row = {
      leechers,
      mib,
      one_s: rounded(one.tookMs / 1000),
      all_s: rounded(many.tookMs / 1000),
      ratio: rounded(many.tookMs / one.tookMs),
      seed_sent: rounded(many.seedSent),
      waste: rounded(many.waste),
      cpu_s: rounded(process.cpuUsage(cpuAt).user / 1e6),
    }
    onRow?.(row)
    return row
  })
  return { sim: 'swarm', seed, nodes: leechers + 1, rows }
}

/** `seedSent`: of the file, what the seeder sent; 1 were the least. `waste`: the worst leecher's share of useless bytes. */
export function fanOut(
  seed: number,
  { leechers, mib }: { readonly leechers: number; readonly mib: number },
): { readonly tookMs: number; readonly seedSent: number; readonly waste: number } {
  const bytes = mib * MIB
  const world = new SwarmWorld(seed, { pieceCount: mib, pieceBytes: MIB, bytes }, () => LATENCY_MS)
  const common = { line: { up: UP_MIB * MIB, down: DOWN_MIB * MIB }, requestBytesMax: MIB, givesLeaves: true }
  const seeder = world.add({ name: 'seed', ...common, has: Bitfield.full(mib) })
  for (let index = 0; index < leechers; index++) world.add({ name: `leecher${index}`, ...common })
  for (const [index, node] of world.nodes.entries())
    for (const other of world.nodes.slice(0, index)) world.network.connect(node, other)
  world.run(() => world.nodes.every(node => node.isComplete), PASSED_MS_MAX)
  const wastes = world.nodes.map(node => node.download.facts(world.events.now).wastedBytes / bytes)
  return { tookMs: world.events.now, seedSent: seeder.sentBytes / bytes, waste: Math.max(...wastes) }
}
