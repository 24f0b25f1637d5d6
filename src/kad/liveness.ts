/** Which peers of the routing table still answer. kad-dht asks only when a bucket is full, and so keeps the dead for long. */
import type { PeerId } from '@libp2p/interface'
import type { Clock } from '#base'
import { PEER_FAILURES_MAX } from './limits.ts'

type Heard = { at: number; failures: number }

export class Liveness {
  readonly #clock: Clock
  readonly #onDead: (peer: PeerId) => void
  readonly #peers = new Map<string, Heard>()

  constructor(deps: { readonly clock: Clock; readonly onDead: (peer: PeerId) => void }) {
    this.#clock = deps.clock
    this.#onDead = deps.onDead
  }

  /** A peer has entered the routing table. */
  entered(peer: PeerId): void {
    this.#peers.set(peer.toString(), { at: this.#clock.monotonic(), failures: 0 })
  }

  left(peer: PeerId): void {
    this.#peers.delete(peer.toString())
  }

  /** A request was answered, or was not. Of peers outside of the table nothing is noted. */
  heard(peer: PeerId, isAnswered: boolean): void {
    const known = this.#peers.get(peer.toString())
    if (known === undefined) return
    known.failures = isAnswered ? 0 : known.failures + 1
    if (isAnswered) known.at = this.#clock.monotonic()
    if (known.failures >= PEER_FAILURES_MAX) this.#onDead(peer)
  }

  /** Those of them not heard of for longest. */
  quietest(peers: readonly PeerId[], max: number): PeerId[] {
    const at = (peer: PeerId): number => this.#peers.get(peer.toString())?.at ?? 0
    return [...peers].sort((a, b) => at(a) - at(b)).slice(0, max)
  }
}
