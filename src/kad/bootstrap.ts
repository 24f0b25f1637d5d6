/** Joining through known nodes: any of several will do, and none has to answer at once. */
import type { PeerId } from '@libp2p/interface'
import { type Clock, type Random, sleep, uniform } from '#base'
import { type AddressBook, decodeAddress, decodePeer } from './address-book.ts'
import type { Dht } from './dht.ts'
import { KadError } from './errors.ts'
import {
  BOOTSTRAP_NODES_MAX,
  BOOTSTRAP_PARALLEL_MAX,
  BOOTSTRAP_ROUNDS_MAX,
  BOOTSTRAP_WAIT_MS,
  BOOTSTRAP_WAIT_MS_MAX,
} from './limits.ts'
import { forEachLimited } from './sender.ts'

export type BootstrapDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly dht: () => Dht
  readonly addresses: AddressBook
}

export type BootstrapOptions = { readonly rounds?: number; readonly signal: AbortSignal }

/**
 * Tries all nodes in rounds until one of them is in the routing table.
 * @returns how many are
 * @throws KadError KAD_BOOTSTRAP_FAILED; the signal's reason
 */
export async function bootstrap(
  deps: BootstrapDeps,
  nodes: readonly string[],
  options: BootstrapOptions,
): Promise<number> {
  const peers = nodes.slice(0, BOOTSTRAP_NODES_MAX).flatMap(node => peerAt(deps.addresses, node))
  const rounds = options.rounds ?? BOOTSTRAP_ROUNDS_MAX
  for (let round = 0; round < rounds && peers.length > 0; round++) {
    if (round > 0) await sleep(deps.clock, waitMs(deps.random, round), { signal: options.signal })
    const reached = await askAll(deps, shuffled(deps.random, peers), options.signal)
    if (reached > 0) return reached
  }
  throw new KadError(
    { code: 'KAD_BOOTSTRAP_FAILED', rounds },
    `none of the bootstrap nodes answered in ${rounds} rounds; give others, or see that they run`,
  )
}

async function askAll({ dht }: BootstrapDeps, peers: readonly PeerId[], signal: AbortSignal): Promise<number> {
  const { routingTable } = dht()
  let reached = 0
  await forEachLimited(peers, BOOTSTRAP_PARALLEL_MAX, async peer => {
    // The library gives up quietly where the peer does not answer its ping.
    await routingTable.add(peer, { signal }).catch(() => undefined)
    if ((await routingTable.find(peer)) !== undefined) reached++
  })
  signal.throwIfAborted()
  return reached
}

function peerAt(addresses: AddressBook, node: string): PeerId[] {
  const address = decodeAddress(node)
  const last = address?.getComponents().at(-1)
  const peer = last?.name === 'p2p' && last.value !== undefined ? decodePeer(last.value) : undefined
  if (address === undefined || peer === undefined) return []
  addresses.told(peer, [address])
  return [peer]
}

/** Doubles with each round; half of it is chance, so that a swarm that starts again together does not ask together. */
function waitMs(random: Random, round: number): number {
  const longest = Math.min(BOOTSTRAP_WAIT_MS_MAX, BOOTSTRAP_WAIT_MS * 2 ** (round - 1))
  return longest / 2 + (uniform(random) * longest) / 2
}

function shuffled<T>(random: Random, items: readonly T[]): T[] {
  return items
    .map(item => ({ item, at: random.uint32() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
