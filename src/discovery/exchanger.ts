/** Who exchanges known peers with whom and when: after a peer has joined, in every round, and whenever a peer asks. */
import { type ByteStream, type Logger, messageOf, withDeadline } from '#base'
import { isFault, type PeerFault } from './errors.ts'
import { exchange, type Exchanged, type ExchangeDeps, type ExchangeOptions } from './exchange.ts'
import type { KnownPeer, KnownPeers } from './known-peers.ts'
import { EXCHANGE_BURST_MAX, EXCHANGE_MS_MAX, EXCHANGE_REFILL_S, EXCHANGES_SERVED_MAX } from './limits.ts'
import { PeerRates } from './peer-rates.ts'
import type { DiscoveryHost } from './types.ts'

export type ExchangerDeps = ExchangeDeps & {
  readonly log: Logger
  readonly host: Pick<DiscoveryHost, 'open'>
  readonly peers: KnownPeers
  readonly onFault: (peer: string, fault: PeerFault) => void
  readonly onExchanged: (peer: string, exchanged: Exchanged, learned: readonly KnownPeer[]) => void
}

export class Exchanger {
  readonly #deps: ExchangerDeps
  readonly #options: ExchangeOptions
  readonly #rates: PeerRates
  readonly #begun = new Map<string, Promise<void>>()
  readonly #served = new Set<Promise<void>>()
  readonly #ended = new AbortController()

  constructor(deps: ExchangerDeps, options: ExchangeOptions = {}) {
    this.#deps = deps
    this.#options = options
    this.#rates = new PeerRates(deps.clock, { tokensMax: EXCHANGE_BURST_MAX, refillS: EXCHANGE_REFILL_S })
  }

  /** Exchanges that are under way. */
  get running(): number {
    return this.#begun.size + this.#served.size
  }

  /** Begins an exchange with a connected peer, where none is under way. Never rejects. */
  begin(peer: string): Promise<void> {
    if (this.#ended.signal.aborted) return Promise.resolve()
    const running = this.#begun.get(peer) ?? this.#begin(peer).finally(() => this.#begun.delete(peer))
    this.#begun.set(peer, running)
    return running
  }

  /** Answers an exchange that a peer has begun. Never rejects. */
  async serve(stream: ByteStream): Promise<void> {
    const isRefused = this.#ended.signal.aborted || this.#served.size >= EXCHANGES_SERVED_MAX
    const isFlood = !isRefused && !this.#rates.take(stream.peer)
    if (isFlood) this.#deps.onFault(stream.peer, { code: 'DISCOVERY_FLOOD', what: 'too many exchanges' })
    if (isRefused || isFlood) {
      stream.abort(new Error('no exchange now'))
      return
    }
    const served: Promise<void> = this.#run(stream).finally(() => this.#served.delete(served))
    this.#served.add(served)
    await served
  }

  /** Resolves when no exchange is under way. */
  async stop(): Promise<void> {
    this.#ended.abort(new Error('discovery stops'))
    await Promise.all([...this.#begun.values(), ...this.#served])
  }

  async #begin(peer: string): Promise<void> {
    const { clock, host, log } = this.#deps
    const { signal } = this.#ended
    try {
      const deadline = { what: 'a stream for an exchange', timeoutMs: EXCHANGE_MS_MAX, signal }
      const open = (inner: AbortSignal) => host.open(peer, '/koinon/exchange/1', { signal: inner })
      await this.#run(await withDeadline(clock, deadline, open))
    } catch (error) {
      // The peer has gone, or is of a version without exchanges.
      if (!signal.aborted) log.debug('no exchange with a peer', { error: messageOf(error) })
    }
  }

  async #run(stream: ByteStream): Promise<void> {
    const { log, onFault } = this.#deps
    const { signal } = this.#ended
    const { peer } = stream
    try {
      const outcome = await exchange(this.#deps, stream, { ...this.#options, signal })
      if (isFault(outcome)) onFault(peer, outcome)
      else this.#take(peer, outcome)
    } catch (error) {
      if (!signal.aborted) log.debug('an exchange broke off', { error: messageOf(error) })
    }
  }

  #take(peer: string, exchanged: Exchanged): void {
    const { clock, peers, identity } = this.#deps
    const { hello, told } = exchanged
    const learned: KnownPeer[] = []
    if (hello.topic === identity().topic) {
      const { publicKey, dhtNodeId, isRelay, record } = hello
      peers.met({ publicKey, isRelay, lastSeen: clock.now(), ...given({ dhtNodeId, record }) })
      for (const { ageMs, ...facts } of told) {
        const row = peers.told({ ...facts, lastSeen: clock.now() - ageMs }, peer)
        if (row !== undefined) learned.push(row)
      }
    }
    this.#deps.onExchanged(peer, exchanged, learned)
  }
}

/** Without what is undefined. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(kept) as { [K in keyof T]?: Exclude<T[K], undefined> }
}
