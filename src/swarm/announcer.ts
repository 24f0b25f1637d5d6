/**
 * Keeps what is shared or pulled here announced in the DHT (BEP 5), so that stock clients find this node: at once for a new
 * model, then again before the DHT forgets it. What is not announced any more is forgotten there by itself.
 */
import { type Clock, type Logger, messageOf, type Random, uniform, withDeadline } from '#base'
import type { SwarmDht } from './bittorrent/dht.ts'
import { ANNOUNCE_INTERVAL_MS, ANNOUNCE_MS_MAX, ANNOUNCE_RETRY_MS, ANNOUNCES_MAX } from './limits.ts'
import { SHORT_HASH_BYTES } from './wire/protocol.ts'

export type AnnouncerDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly dht: Pick<SwarmDht, 'announce'>
}

/** A model, as far as the DHT is concerned. */
export type Announceable = { readonly model: string; readonly infoHash: Uint8Array }

type Announced = { dueAt: number; ending: AbortController | undefined }

export class Announcer {
  readonly #deps: AnnouncerDeps
  /** TCP. */
  readonly #port: number
  readonly #models = new Map<string, Announced>()
  readonly #tasks = new Set<Promise<void>>()
  #hasEnded = false

  constructor(deps: AnnouncerDeps, options: { readonly port: number }) {
    this.#deps = deps
    this.#port = options.port
  }

  /** Announces what is due of these; what is not among them any more is left alone. */
  round(models: readonly Announceable[]): void {
    if (this.#hasEnded) return
    const now = this.#deps.clock.monotonic()
    const ids = new Set(models.map(({ model }) => model))
    for (const [id, { ending }] of this.#models) {
      if (ids.has(id)) continue
      ending?.abort(new Error('the model is not shared any more'))
      this.#models.delete(id)
    }
    for (const model of models) {
      const announced = this.#models.get(model.model) ?? { dueAt: now, ending: undefined }
      this.#models.set(model.model, announced)
      if (this.#tasks.size >= ANNOUNCES_MAX) continue
      if (announced.ending === undefined && announced.dueAt <= now) this.#start(model, announced)
    }
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    this.#hasEnded = true
    for (const { ending } of this.#models.values()) ending?.abort(new Error('the swarm stops'))
    await Promise.all(this.#tasks)
  }

  #start(model: Announceable, announced: Announced): void {
    announced.ending = new AbortController()
    const task = this.#announce(model, announced.ending.signal).then(waitMs => {
      announced.ending = undefined
      // Many that began together must not come together every time.
      announced.dueAt = this.#deps.clock.monotonic() + waitMs * (0.8 + 0.2 * uniform(this.#deps.random))
      this.#tasks.delete(task)
    })
    this.#tasks.add(task)
  }

  /** Never rejects. @returns when to announce it again */
  async #announce({ model, infoHash }: Announceable, signal: AbortSignal): Promise<number> {
    const { clock, dht, log } = this.#deps
    const deadline = { what: 'announcing a model in the DHT', timeoutMs: ANNOUNCE_MS_MAX, signal }
    try {
      const stored = await withDeadline(clock, deadline, signal =>
        dht.announce(infoHash.slice(0, SHORT_HASH_BYTES), this.#port, { signal }),
      )
      return stored > 0 ? ANNOUNCE_INTERVAL_MS : ANNOUNCE_RETRY_MS
    } catch (error) {
      log.debug('a model could not be announced', { model, error: messageOf(error) })
      return ANNOUNCE_RETRY_MS
    }
  }
}
