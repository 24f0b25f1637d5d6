/**
 * Failed authentications cost time: the first few are free, since many nodes may share one address, then the wait doubles
 * with each failure. Time forgives: failures halve every `PENALTY_HALF_LIFE_MS`. A success forgives all, so an honest node
 * behind the same address is not shut out by another's old failures.
 */
import type { Clock } from '#base'
import { BACK_OFF_FAILURES_MAX, BACK_OFF_MS_MAX } from './limits.ts'
import { backOffMs, type PenaltyRecords } from './penalty-records.ts'

export class BackOff {
  readonly #clock: Clock
  readonly #records: PenaltyRecords

  constructor(deps: { readonly clock: Clock; readonly records: PenaltyRecords }) {
    this.#clock = deps.clock
    this.#records = deps.records
  }

  /** Undefined: the subject may try to authenticate now. Else how long it has to wait, in milliseconds. */
  mayTry(subject: string): number | undefined {
    const waitMs = (this.#records.find(subject)?.retryAt ?? 0) - this.#clock.now()
    return waitMs > 0 ? Math.min(waitMs, BACK_OFF_MS_MAX) : undefined
  }

  /** @returns how long the subject has to wait from now on; 0: it may try again at once */
  failed(subject: string): number {
    const now = this.#clock.now()
    const record = this.#records.update(subject, record => {
      record.failures = Math.min(BACK_OFF_FAILURES_MAX, record.failures + 1)
      record.retryAt = now + backOffMs(record.failures)
    })
    return record.retryAt - now
  }

  succeeded(subject: string): void {
    if (this.#records.find(subject) === undefined) return
    this.#records.update(subject, record => {
      record.failures = 0
      record.retryAt = 0
    })
  }
}
