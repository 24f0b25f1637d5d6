/**
 * `npm run -s sim -- discovery`: nodes in one process, without any DHT, which know one bootstrap address. The simulated time
 * until every node knows every other, and what an exchange took.
 */
import { type Clock, sleep } from '#base'
import { createMemorySwarm, type SwarmNode } from '../../test/support/discovery-swarm.ts'
import { mean, rounded, type SimOptions, type SimResult } from './sim-report.ts'

const MINUTE_MS = 60_000
const STEP_MS = 1_000
const REDIAL_MS = 5_000
const REDIALS_MAX = 100
const PASSED_MS_MAX = 30 * MINUTE_MS
/** All are started within a minute. */
const START_STEPS_MAX = 60

export type DiscoverySimOptions = Pick<SimOptions, 'seed' | 'onRow'> & {
  /** Sizes of swarm: one row for each. */
  readonly swarms: readonly number[]
}

/** `all_known_s` is -1 where it took longer than half an hour. */
export async function simulateDiscovery({ swarms, seed, onRow }: DiscoverySimOptions): Promise<SimResult> {
  const rows: Record<string, number>[] = []
  for (const nodes of swarms) {
    const row = await simulateSwarm(nodes, seed)
    rows.push(row)
    onRow?.(row)
  }
  return { sim: 'discovery', seed, nodes: Math.max(...swarms), rows }
}

/** Starts them all within a minute, the bootstrap first, and waits until all know all. */
async function simulateSwarm(nodes: number, seed: number): Promise<Record<string, number>> {
  const cpuAt = process.cpuUsage()
  const swarm = createMemorySwarm(seed)
  const sizes: number[] = []
  for (let i = 0; i < nodes; i++) {
    const { discovery } = swarm.add()
    discovery.onEvent(event => {
      if (event.kind === 'exchanged') sizes.push(event.sentBytes)
    })
  }
  const [bootstrap, ...others] = swarm.nodes
  bootstrap?.discovery.start()
  const perStep = Math.ceil(others.length / Math.min(START_STEPS_MAX, nodes))
  let passedMs = 0
  const pass = async (): Promise<void> => {
    await swarm.pass(STEP_MS)
    passedMs += STEP_MS
  }
  for (let from = 0; from < others.length; from += perStep) {
    for (const node of others.slice(from, from + perStep)) {
      node.discovery.start()
      void dialUntilThere(node, bootstrap?.host.address ?? '', swarm.clock)
    }
    await pass()
  }
  const isOver = (): boolean => swarm.nodes.every(({ discovery }) => discovery.status().knownPeers === nodes - 1)
  while (!isOver() && passedMs < PASSED_MS_MAX) await pass()
  const isAllKnown = isOver()
  await swarm.stop()
  return {
    nodes,
    all_known_s: isAllKnown ? passedMs / 1000 : -1,
    // Each exchange has two sides.
    exchanges: sizes.length / 2,
    side_bytes_mean: Math.round(mean(sizes)),
    side_bytes_max: Math.max(...sizes),
    sent_bytes_per_node: Math.round((mean(sizes) * sizes.length) / nodes),
    cpu_s: rounded(process.cpuUsage(cpuAt).user / 1e6),
  }
}

/** As a host does with the addresses that it keeps: again and again while nobody is there. */
async function dialUntilThere({ host }: SwarmNode, address: string, clock: Clock): Promise<void> {
  for (let attempt = 0; attempt < REDIALS_MAX && host.peers().length === 0; attempt++) {
    await host.connect(address).catch(() => sleep(clock, REDIAL_MS)) // It is full for now.
  }
}
