/** Publishes this node's metadata when it is due (`publish-state.ts` says when), one publication at a time. */
import { type CancelTimer, type Clock, KoinonError, type Logger, messageOf, withDeadline } from '#base'
import { PUBLISH_MS_MAX } from './limits.ts'
import type { MetadataNetwork } from './metadata-network.ts'
import { type OwnFacts, PublishPlan, type PublishOptions, type PublishState } from './publish-state.ts'
import type { KnownPeerStore } from '#storage'

export type MetadataPublisherDeps = {
  readonly clock: Clock
  readonly log: Logger
  /** Our own peer id. */
  readonly self: string
  readonly network: MetadataNetwork
  readonly store?: Pick<KnownPeerStore, 'sequence' | 'setSequence'> | undefined
  readonly onPublished?: (sequence: number, stored: number) => void
}

export class MetadataPublisher {
  readonly #deps: MetadataPublisherDeps
  readonly #plan: PublishPlan
  readonly #ended = new AbortController()
  #cancelTimer: CancelTimer | undefined
  #hasAsked = false
  #isBusy = false
  #running: Promise<void> = Promise.resolve()

  constructor(deps: MetadataPublisherDeps, options: PublishOptions = {}) {
    this.#deps = deps
    this.#plan = new PublishPlan(deps.store?.sequence(), options)
  }

  get state(): PublishState {
    return this.#plan.state
  }

  /** The number of what was published last. */
  get sequence(): number | undefined {
    return this.#plan.sequence
  }

  /** Says what is true of this node now. Whatever has changed is published at once. */
  update(facts: OwnFacts): void {
    if (this.#ended.signal.aborted) return
    this.#plan.update(facts, this.#deps.clock.monotonic())
    this.#schedule()
  }

  /** Resolves when nothing is under way any more. Idempotent. */
  async stop(): Promise<void> {
    this.#ended.abort(new Error('discovery stops'))
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    await this.#running
  }

  #schedule(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    const dueAt = this.#plan.dueAt
    if (dueAt === undefined || this.#isBusy || this.#ended.signal.aborted) return
    const now = this.#deps.clock.monotonic()
    if (dueAt <= now) {
      this.#isBusy = true
      this.#running = this.#publish().finally(() => {
        this.#isBusy = false
        this.#schedule()
      })
    } else this.#cancelTimer = this.#deps.clock.after(dueAt - now, () => this.#schedule())
  }

  async #publish(): Promise<void> {
    const { clock, log, network, store } = this.#deps
    // Whatever is due is due until it has begun: a number that is not known yet is asked for in between.
    if (!this.#hasAsked) this.#plan.learn(await this.#askNetwork())
    this.#hasAsked = true
    if (this.#ended.signal.aborted || this.#plan.dueAt === undefined) return
    const item = this.#plan.begin(clock.monotonic(), clock.now())
    store?.setSequence(item.sequence)
    try {
      const stored = await this.#bounded(signal => network.put(item, { signal }))
      if (stored === 0) this.#plan.failed(clock.monotonic())
      else {
        this.#plan.succeeded(clock.monotonic())
        this.#deps.onPublished?.(item.sequence, stored)
      }
    } catch (error) {
      const newer = error instanceof KoinonError && 'sequence' in error.fault ? Number(error.fault.sequence) : undefined
      if (newer === undefined) this.#plan.failed(clock.monotonic())
      else this.#plan.superseded(newer, clock.monotonic())
      if (!this.#ended.signal.aborted) log.debug('the metadata was not published', { error: messageOf(error) })
    }
  }

  async #askNetwork() {
    const { network, self } = this.#deps
    return this.#bounded(signal => network.get(self, { signal })).catch(() => undefined) // Nobody answers: as if none.
  }

  #bounded<T>(task: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = this.#ended
    return withDeadline(this.#deps.clock, { what: 'publishing metadata', timeoutMs: PUBLISH_MS_MAX, signal }, task)
  }
}
