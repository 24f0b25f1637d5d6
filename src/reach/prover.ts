/**
 * Has places proved, one dial-back after the other: which place is due, and which peer can say something about it. Peers
 * that we dialled ourselves are asked first: nobody can come in numbers to be asked.
 */
import { type Clock, type Logger, messageOf } from '#base'
import type { Host, Peer } from '#net'
import { decodePlace, isPublicIp, type Place } from './address.ts'
import type { DialBackClient, Helper } from './dial-back-client.ts'
import { HELPER_REST_MS, HELPERS_MAX } from './limits.ts'
import type { Proofs } from './proofs.ts'

export type ProverDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly host: Pick<Host, 'peers'>
  readonly client: Pick<DialBackClient, 'ask'>
  readonly proofs: Proofs
  readonly isUsable?: (ip: string) => boolean
  /** Something has been shown. */
  readonly onProved: () => void
}

export class Prover {
  readonly #deps: ProverDeps
  readonly #stopping = new AbortController()
  /** Until when a peer is left alone. */
  readonly #resting = new Map<string, number>()
  #places: readonly Place[] = []
  #running: Promise<void> | undefined
  #network = new AbortController()

  constructor(deps: ProverDeps) {
    this.#deps = deps
  }

  get isAsking(): boolean {
    return this.#running !== undefined
  }

  /** Looks after these places from now on. Returns at once. */
  look(places: readonly Place[]): void {
    this.#places = places
    if (this.#stopping.signal.aborted || this.#running !== undefined) return
    this.#running = this.#prove().finally(() => {
      this.#running = undefined
    })
  }

  /** What is being asked is about a network that this node has left. */
  clear(): void {
    this.#network.abort(new Error('the network has changed'))
    this.#network = new AbortController()
    this.#resting.clear()
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the node is stopping'))
    await this.#running
  }

  /** Never rejects. Ends: each question makes something less due, or its peer rest. */
  async #prove(): Promise<void> {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      await this.#ask(next)
      if (this.#stopping.signal.aborted) return
    }
  }

  async #ask({ helper, place }: { readonly helper: Helper; readonly place: Place }): Promise<void> {
    const { client, proofs, log, onProved } = this.#deps
    const network = this.#network.signal
    const { transport } = place
    try {
      const isReached = await client.ask(helper, place, { signal: AbortSignal.any([this.#stopping.signal, network]) })
      if (network.aborted) return
      if (isReached) proofs.proved(place)
      else proofs.failed(place, helper.ip)
      log.debug('a peer has dialled back', { peer: helper.peer, transport, isReached })
      onProved()
    } catch (error) {
      if (!network.aborted) this.#rest(helper.peer)
      log.debug('a peer did not dial back', { peer: helper.peer, transport, reason: messageOf(error) })
    }
  }

  #next(): { readonly helper: Helper; readonly place: Place } | undefined {
    const peers = this.#deps.host.peers().toSorted((a, b) => rankOf(a) - rankOf(b))
    for (const place of this.#places) {
      for (const peer of peers) {
        const helper = this.#helperFor(place, peer)
        if (helper !== undefined && this.#deps.proofs.isDue(place, helper.ip)) return { helper, place }
      }
    }
    return undefined
  }

  /** Undefined where the peer cannot tell: it would refuse, or sits with us behind one NAT. */
  #helperFor(place: Place, peer: Peer): Helper | undefined {
    const { isUsable = isPublicIp, clock } = this.#deps
    const there = peer.remoteAddress === undefined ? undefined : decodePlace(peer.remoteAddress)
    const here = peer.observedAddress === undefined ? undefined : decodePlace(peer.observedAddress)
    if (there === undefined || !isUsable(there.ip) || there.ip === place.ip || here?.ip !== place.ip) return undefined
    if (place.transport === 'quic' && there.transport === 'quic') return undefined
    if (place.transport === 'plane' && peer.offer.planePort === undefined) return undefined
    if ((this.#resting.get(peer.id) ?? Number.NEGATIVE_INFINITY) > clock.monotonic()) return undefined
    return { peer: peer.id, ip: there.ip }
  }

  #rest(peer: string): void {
    this.#resting.delete(peer)
    this.#resting.set(peer, this.#deps.clock.monotonic() + HELPER_REST_MS)
    for (const oldest of this.#resting.keys()) {
      if (this.#resting.size <= HELPERS_MAX) break
      this.#resting.delete(oldest)
    }
  }
}

function rankOf({ direction }: Peer): number {
  return direction === 'outbound' ? 0 : 1
}
