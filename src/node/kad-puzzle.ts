/**
 * The price of a place in routing tables (S/Kademlia): where anybody may join, a node shows in its offer that it has
 * spent a second on its id. It is spent once; the solution is kept.
 */
import { type Clock, fromHex, type KeyValueStore, type Logger, messageOf, type Random, toHex } from '#base'
import { publicKeyOfPeer } from '#crypto'
import { solvePuzzle, verifyPuzzle } from '#kad'
import type { Peer } from '#net'
import { isOfThisMachine } from '#wire'
import { PUZZLE_KEPT_MS } from './limits.ts'

const STORED = 'own/puzzle/'

/** Whether a peer may be in the routing table. @param isClosed every peer has proved the swarm's secret */
export function mayRoute(peer: Pick<Peer, 'id' | 'offer' | 'remoteAddress'>, isClosed: boolean): boolean {
  if (isClosed || isOfThisMachine(peer.remoteAddress ?? '')) return true
  const publicKey = publicKeyOfPeer(peer.id)
  const { puzzle } = peer.offer
  return publicKey !== undefined && puzzle !== undefined && verifyPuzzle(publicKey, fromHex(puzzle))
}

/** Our own solution, as hexadecimal digits. @returns undefined where none was found, which the log says */
export async function ownPuzzle(
  deps: { readonly clock: Clock; readonly random: Random; readonly log: Logger; readonly store: KeyValueStore },
  peer: string,
  options: { readonly signal: AbortSignal },
): Promise<string | undefined> {
  const publicKey = publicKeyOfPeer(peer)
  if (publicKey === undefined) return undefined
  const kept = deps.store.get(STORED + peer)?.value
  if (kept !== undefined && verifyPuzzle(publicKey, kept)) return toHex(kept)
  try {
    const value = await solvePuzzle(deps, publicKey, options)
    deps.store.put({ key: STORED + peer, value, expiresAt: deps.clock.now() + PUZZLE_KEPT_MS })
    return toHex(value)
  } catch (error) {
    if (!options.signal.aborted) deps.log.warn('the id puzzle was not solved', { error: messageOf(error) })
    return undefined
  }
}
