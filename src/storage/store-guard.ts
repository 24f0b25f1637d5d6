/**
 * A node goes on when its disk is full or its database is damaged: what then cannot be kept is lost at the next start,
 * and the log says so. For stores whose loss costs time or comfort only; what decides whom to trust throws instead.
 */
import { type Clock, type Logger, messageOf } from '#base'
import { DATABASE_WARNING_PERIOD_MS } from './limits.ts'

export class StoreGuard {
  readonly #clock: Clock
  readonly #log: Logger
  #quietUntil = Number.NEGATIVE_INFINITY

  constructor(deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#clock = deps.clock
    this.#log = deps.log
  }

  /** The result of `action`, or `fallback` where it throws. @param what completes "cannot ..." for people */
  attempt<T>(what: string, fallback: T, action: () => T): T {
    try {
      return action()
    } catch (error) {
      this.warn(what, error)
      return fallback
    }
  }

  /** Says that something was not kept; says it once a minute at most, because a full disk fails every time. */
  warn(what: string, error: unknown): void {
    const now = this.#clock.monotonic()
    if (now < this.#quietUntil) return
    this.#quietUntil = now + DATABASE_WARNING_PERIOD_MS
    this.#log.warn(`cannot ${what}: the node goes on without it`, { error: messageOf(error) })
  }
}
