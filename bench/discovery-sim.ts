/**
 * `node bench/discovery-sim.ts [--nodes 50] [--seed 1] [--json]`: nodes in one process, without any DHT, which know one
 * bootstrap address. Prints the simulated time until every node knows every other, and what an exchange took.
 */
import { parseArgs } from 'node:util'
import { type Clock, sleep } from '#base'
import type { SwarmNode } from '../test/support/discovery-swarm.ts'
import { createMemorySwarm } from '../test/support/discovery-swarm.ts'

const MINUTE_MS = 60_000
const STEP_MS = 1_000
const REDIAL_MS = 5_000

type Outcome = {
  readonly nodes: number
  readonly seed: number
  readonly everyoneKnownMs: number | undefined
  readonly exchanges: number
  readonly exchangeBytes: { readonly mean: number; readonly max: number }
  readonly bytesPerNode: number
}

/** Starts them all within a minute, the bootstrap first, and waits until all know all, at most half an hour. */
export async function simulateDiscovery(nodes: number, seed: number): Promise<Outcome> {
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
  const stepsOfStart = Math.min(60, nodes)
  const perStep = Math.ceil(others.length / stepsOfStart)
  for (let from = 0; from < others.length; from += perStep) {
    for (const node of others.slice(from, from + perStep)) {
      node.discovery.start()
      void dialUntilThere(node, bootstrap?.host.address ?? '', swarm.clock)
    }
    await swarm.pass(STEP_MS)
  }
  let passedMs = perStep === 0 ? 0 : STEP_MS * Math.ceil(others.length / perStep)
  const isOver = (): boolean => swarm.nodes.every(({ discovery }) => discovery.status().knownPeers === nodes - 1)
  while (!isOver() && passedMs < 30 * MINUTE_MS) {
    await swarm.pass(STEP_MS)
    passedMs += STEP_MS
  }
  const everyoneKnownMs = isOver() ? passedMs : undefined
  await swarm.stop()
  const total = sizes.reduce((sum, size) => sum + size, 0)
  return {
    nodes,
    seed,
    everyoneKnownMs,
    exchanges: sizes.length / 2,
    exchangeBytes: { mean: Math.round(total / sizes.length), max: Math.max(...sizes) },
    bytesPerNode: Math.round(total / nodes),
  }
}

/** As a host does with the addresses that it keeps: again and again while nobody is there. */
async function dialUntilThere({ host }: SwarmNode, address: string, clock: Clock): Promise<void> {
  for (let attempt = 0; attempt < 100 && host.peers().length === 0; attempt++) {
    await host.connect(address).catch(() => sleep(clock, REDIAL_MS)) // It is full for now.
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { nodes: { type: 'string' }, seed: { type: 'string' }, json: { type: 'boolean' } },
  })
  const counts = values.nodes === undefined ? [50, 200] : [Number(values.nodes)]
  for (const count of counts) {
    const outcome = await simulateDiscovery(count, Number(values.seed ?? 1))
    const { everyoneKnownMs: ms, exchanges, exchangeBytes, bytesPerNode } = outcome
    const time = ms === undefined ? 'not within 30 min' : `${ms / 1000} s`
    process.stdout.write(
      values.json === true
        ? `${JSON.stringify(outcome)}\n`
        : `${count} nodes (seed ${outcome.seed}): everyone knows everyone after ${time}; ${exchanges} exchanges, ` +
            `${exchangeBytes.mean} bytes a side (at most ${exchangeBytes.max}), ${bytesPerNode} bytes sent per node\n`,
    )
  }
}
