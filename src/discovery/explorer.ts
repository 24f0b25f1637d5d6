/**
 * Recursive discovery, within bounds: peers that we hear of are dialled, which brings more peers. How far from those whom
 * we met on our own account, how many at once and in a round, and how many that one peer has told of, all have a limit;
 * who cannot be reached is left alone for longer and longer, and a NAT node without a relay until its metadata changes.
 */
import { type Clock, type Logger, messageOf, withDeadline } from '#base'
import { type DialFacts, planDial } from './dial-plan.ts'
import {
  DIAL_MS_MAX,
  DIAL_RETRY_MS_MAX,
  DIAL_RETRY_MS_MIN,
  DIALS_FAILED_MAX,
  DIALS_MAX,
  DIALS_WAITING_MAX,
  DISCOVERY_DEPTH_MAX,
  METADATA_FRESH_MS,
  PEERS_WANTED,
  ROUND_DIALS_MAX,
  SOURCE_DIALS_MAX,
} from './limits.ts'
import type { VersionedMetadata } from './peer-metadata.ts'
import type { AbortOptions } from './types.ts'

export type ExplorerDeps = {
  readonly clock: Clock
  readonly log: Logger
  /** Dials a multiaddr and admits. @returns the peer id */
  readonly connect: (address: string, options: AbortOptions) => Promise<string>
  readonly isConnected: (peer: string) => boolean
  /** Peers that are connected. */
  readonly connectedCount: () => number
  /** From the cache or the network. */
  readonly metadataOf: (peer: string, options: AbortOptions) => Promise<VersionedMetadata | undefined>
  readonly recordAddressesOf: (peer: string) => readonly string[]
  readonly ownPublicHost: () => string | undefined
}

export type ExplorerOptions = {
  /** @default 24 */
  readonly peersWanted?: number
  /** @default 6 */
  readonly depthMax?: number
  /** @default 4 */
  readonly dialsMax?: number
  /** @default 32 */
  readonly roundDialsMax?: number
  /** @default 8 */
  readonly sourceDialsMax?: number
}

/** Whom to dial, and because of whom. */
export type Candidate = {
  /** Peer id. */
  readonly peer: string
  /** Who has told of it. */
  readonly source: string
}

type Failure = { readonly until: number; readonly waitMs: number }

export class Explorer {
  readonly #deps: ExplorerDeps
  readonly #options: Required<ExplorerOptions>
  readonly #waiting = new Map<string, Candidate>()
  readonly #dialling = new Map<string, Promise<void>>()
  readonly #failed = new Map<string, Failure>()
  /** Skipped, and the number of the metadata that said so. */
  readonly #skipped = new Map<string, number>()
  /** Of connected peers that we met because of another one. */
  readonly #depths = new Map<string, number>()
  readonly #roundDials = new Map<string, number>()
  #dialsInRound = 0
  readonly #ended = new AbortController()

  constructor(deps: ExplorerDeps, options: ExplorerOptions = {}) {
    this.#deps = deps
    this.#options = {
      peersWanted: options.peersWanted ?? PEERS_WANTED,
      depthMax: options.depthMax ?? DISCOVERY_DEPTH_MAX,
      dialsMax: options.dialsMax ?? DIALS_MAX,
      roundDialsMax: options.roundDialsMax ?? ROUND_DIALS_MAX,
      sourceDialsMax: options.sourceDialsMax ?? SOURCE_DIALS_MAX,
    }
  }

  /** Peers that wait, or are being dialled. */
  get pending(): number {
    return this.#waiting.size + this.#dialling.size
  }

  /** Whether more peers are wanted. */
  get isHungry(): boolean {
    return this.#deps.connectedCount() < this.#options.peersWanted
  }

  /** Takes whom it may. Whoever waits already, failed lately or comes from too far away is left out. */
  add(candidates: readonly Candidate[]): void {
    for (const candidate of candidates) {
      const { peer, source } = candidate
      if (this.#waiting.size >= DIALS_WAITING_MAX) break
      if (this.#waiting.has(peer) || this.#dialling.has(peer) || this.#deps.isConnected(peer)) continue
      if ((this.#depths.get(source) ?? 0) >= this.#options.depthMax) continue
      if ((this.#failed.get(peer)?.until ?? 0) > this.#deps.clock.monotonic()) continue
      this.#waiting.set(peer, candidate)
    }
    this.#next()
  }

  /** A new round: its allowances are whole again. */
  newRound(): void {
    this.#roundDials.clear()
    this.#dialsInRound = 0
    this.#next()
  }

  /** The peer is not connected any more. */
  left(peer: string): void {
    this.#depths.delete(peer)
  }

  /** Resolves when no dial is under way. */
  async stop(): Promise<void> {
    this.#ended.abort(new Error('discovery stops'))
    this.#waiting.clear()
    await Promise.all(this.#dialling.values())
    for (const map of [this.#failed, this.#skipped, this.#depths, this.#roundDials]) map.clear()
  }

  #next(): void {
    for (const [peer, candidate] of this.#waiting) {
      const isFull = this.#dialling.size >= this.#options.dialsMax || this.#dialsInRound >= this.#options.roundDialsMax
      if (isFull || this.#ended.signal.aborted) return
      if (!this.isHungry) {
        this.#waiting.clear() // Known peers are asked for again when somebody leaves.
        return
      }
      const bySource = this.#roundDials.get(candidate.source) ?? 0
      if (bySource >= this.#options.sourceDialsMax) continue
      this.#waiting.delete(peer)
      if (this.#deps.isConnected(peer)) continue
      this.#roundDials.set(candidate.source, bySource + 1)
      this.#dialsInRound++
      const dial = this.#dial(candidate).finally(() => {
        this.#dialling.delete(peer)
        this.#next()
      })
      this.#dialling.set(peer, dial)
    }
  }

  async #dial({ peer, source }: Candidate): Promise<void> {
    const { clock, log } = this.#deps
    const deadline = { what: 'a dial', timeoutMs: DIAL_MS_MAX, signal: this.#ended.signal }
    try {
      const isReached = await withDeadline(clock, deadline, signal => this.#reach(peer, signal))
      if (!isReached) return
      this.#failed.delete(peer)
      this.#depths.set(peer, (this.#depths.get(source) ?? 0) + 1)
    } catch (error) {
      if (this.#ended.signal.aborted) return
      log.debug('a peer could not be reached', { error: messageOf(error) })
      this.#fail(peer)
    }
  }

  /** @returns false where there is nothing to dial. @throws where no address leads to the peer */
  async #reach(peer: string, signal: AbortSignal): Promise<boolean> {
    const found = await this.#deps.metadataOf(peer, { signal }).catch(() => undefined) // The record is left.
    const facts: DialFacts = {
      isConnected: this.#deps.isConnected(peer),
      found,
      recordAddresses: this.#deps.recordAddressesOf(peer),
      ownPublicHost: this.#deps.ownPublicHost(),
    }
    const plan = planDial(peer, facts)
    if (plan.kind === 'reuse') return true
    if (plan.kind === 'skip') {
      if (plan.sequence === undefined) throw new Error('it is not known where the peer is')
      // Looked at again when its metadata is fetched anew: that costs a query, and no dial.
      remember(this.#skipped, peer, plan.sequence)
      const until = this.#deps.clock.monotonic() + METADATA_FRESH_MS
      remember(this.#failed, peer, { until, waitMs: DIAL_RETRY_MS_MIN })
      return false
    }
    this.#skipped.delete(peer)
    let last: unknown = new Error('no address')
    for (const address of plan.addresses) {
      signal.throwIfAborted()
      try {
        if ((await this.#deps.connect(address, { signal })) === peer) return true
      } catch (error) {
        last = error
      }
    }
    throw last
  }

  /** Fresh metadata of a peer: where it was skipped because of an older one, it may be tried again at once. */
  metadataChanged(peer: string, sequence: number): void {
    const skippedAt = this.#skipped.get(peer)
    if (skippedAt === undefined || skippedAt >= sequence) return
    this.#skipped.delete(peer)
    this.#failed.delete(peer)
  }

  #fail(peer: string): void {
    const before = this.#failed.get(peer)?.waitMs
    const waitMs = before === undefined ? DIAL_RETRY_MS_MIN : Math.min(2 * before, DIAL_RETRY_MS_MAX)
    remember(this.#failed, peer, { until: this.#deps.clock.monotonic() + waitMs, waitMs })
  }
}

/** Sets the newest, and forgets the oldest where there are too many. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > DIALS_FAILED_MAX && oldest !== undefined) map.delete(oldest)
}
