/**
 * Betters the paths to peers: whoever is reached through a relay, or by ICE, is dialled at its own addresses; where that
 * leads nowhere, punched; then left alone for a while that doubles, until something changes. The peer that was dialled
 * starts, since it has had the connection for the shorter time (as in libp2p's DCUtR); the other one only where it does not.
 */
import { type Clock, type Logger, messageOf, type Random, sleep, uniform } from '#base'
import { PATH_RETRY_MS_MAX, PATH_RETRY_MS_MIN, PATH_START_WAIT_MS } from '../limits.ts'
import type { Peer, PeerEvent } from '../types.ts'

export type PathKeeperDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly onPeer: (listener: (event: PeerEvent) => void) => void
  /** The addresses of the peer that are worth a dial from here. */
  readonly addressesOf: (peer: Peer) => readonly string[]
  /** Dials beside the connections that there are; resolves once the peer has joined that way. */
  readonly dial: (
    peer: string,
    addresses: readonly string[],
    options: { readonly signal: AbortSignal },
  ) => Promise<void>
  readonly punch: (peer: string, options: { readonly signal: AbortSignal }) => Promise<unknown>
  /** Clock.monotonic() when the peer itself last started a punch. */
  readonly servedAt: (peer: string) => number | undefined
  /** Whether another punch can be started now, with this peer. */
  readonly hasRoomFor: (peer: string) => boolean
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
}

/** How long a punch waits where as many as may be are under way, or one with this peer is. */
const ROOM_WAIT_MS = 1_000

type Kept = {
  peer: Peer
  readonly ended: AbortController
  /** Aborted where a wait is not worth its time any more. */
  woken: AbortController
  waitMs: number
  /** Clock.monotonic() of the last turn. */
  lookedAt: number
  /** The path is as good as it gets: what is under way comes to its end, and nothing follows. */
  isDone: boolean
}

export class PathKeeper {
  readonly #deps: PathKeeperDeps
  readonly #kept = new Map<string, Kept>()

  constructor(deps: PathKeeperDeps) {
    this.#deps = deps
    deps.onPeer(event => this.#onPeer(event))
    deps.stopping.addEventListener('abort', () => this.#stop(), { once: true })
  }

  /** Peers whose path is being bettered. */
  get size(): number {
    return this.#kept.size
  }

  /** Our own addresses or NAT have changed: what failed may work now. */
  changed(): void {
    for (const kept of this.#kept.values()) this.#wake(kept)
  }

  #onPeer({ kind, peer }: PeerEvent): void {
    const kept = this.#kept.get(peer.id)
    const isWanted = kind !== 'left' && (peer.path.kind === 'relayed' || peer.path.kind === 'ice')
    if (!isWanted) {
      if (kept === undefined) return
      this.#kept.delete(peer.id)
      kept.isDone = true
      // What is under way has just succeeded, perhaps, and has its last step before it.
      if (kind === 'left') kept.ended.abort(new Error('the peer has left'))
      else kept.woken.abort(new Error('the path is good'))
      return
    }
    if (kept === undefined) {
      this.#start(peer)
      return
    }
    const hasMoved = textOf(kept.peer) !== textOf(peer)
    kept.peer = peer
    if (hasMoved) this.#wake(kept)
  }

  #start(peer: Peer): void {
    if (this.#deps.stopping.aborted) return
    const kept = {
      peer,
      ended: new AbortController(),
      woken: new AbortController(),
      waitMs: PATH_RETRY_MS_MIN,
      lookedAt: this.#deps.clock.monotonic(),
      isDone: false,
    }
    this.#kept.set(peer.id, kept)
    void this.#keep(kept)
  }

  /** Never rejects. */
  async #keep(kept: Kept): Promise<void> {
    const { log } = this.#deps
    const { signal } = kept.ended
    const { id, direction } = kept.peer
    if (direction === 'outbound') await this.#rest(kept, PATH_START_WAIT_MS)
    while (!signal.aborted && !kept.isDone) {
      try {
        if (!this.#isTheirs(kept)) await this.#better(kept)
      } catch (error) {
        if (signal.aborted || kept.isDone) return
        log.debug('no better path to a peer', { peer: id, path: kept.peer.path.kind, error: messageOf(error) })
      }
      // Both where nothing was found, and where the event of a better session is still to come.
      const spreadMs = kept.waitMs * (0.5 + uniform(this.#deps.random))
      kept.waitMs = Math.min(PATH_RETRY_MS_MAX, kept.waitMs * 2)
      await this.#rest(kept, spreadMs)
    }
  }

  /** Whether the peer, whose turn it is rather than ours, has had one since we last looked. */
  #isTheirs(kept: Kept): boolean {
    const { clock, servedAt } = this.#deps
    const { peer, lookedAt } = kept
    kept.lookedAt = clock.monotonic()
    return peer.direction === 'outbound' && (servedAt(peer.id) ?? Number.NEGATIVE_INFINITY) >= lookedAt
  }

  async #better(kept: Kept): Promise<void> {
    const { addressesOf, dial, punch, hasRoomFor, log } = this.#deps
    const { signal } = kept.ended
    const { id } = kept.peer
    const addresses = addressesOf(kept.peer)
    if (addresses.length > 0) {
      try {
        await dial(id, addresses, { signal })
        return
      } catch (error) {
        signal.throwIfAborted()
        log.debug('a peer is not reached at its own addresses', { peer: id, error: messageOf(error) })
      }
    }
    while (!hasRoomFor(id)) await sleep(this.#deps.clock, ROOM_WAIT_MS, { signal })
    await punch(id, { signal })
  }

  /** Waits, or until something has changed. */
  async #rest(kept: Kept, waitMs: number): Promise<void> {
    if (kept.isDone) return
    const signal = AbortSignal.any([kept.ended.signal, kept.woken.signal])
    await sleep(this.#deps.clock, waitMs, { signal }).catch(() => undefined) // Woken or ended: the caller looks.
    kept.woken = new AbortController()
  }

  #wake(kept: Kept): void {
    kept.waitMs = PATH_RETRY_MS_MIN
    kept.woken.abort(new Error('something has changed'))
  }

  #stop(): void {
    for (const { ended } of this.#kept.values()) ended.abort(this.#deps.stopping.reason)
    this.#kept.clear()
  }
}

/** Where the peer says that it is. */
function textOf({ offer }: Peer): string {
  return [...offer.addresses].sort().join(' ')
}
