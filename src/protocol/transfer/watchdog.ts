/** Notices that nothing has happened for a while. Touching it costs no timer, so it can be done for every chunk. */
import type { CancelTimer, Clock } from '#base'

export class Watchdog {
  readonly #clock: Clock
  readonly #onIdle: () => void
  #idleMs: number
  #touchedAt: number
  #cancel: CancelTimer

  /** @param onIdle called once, when nothing has touched the watchdog for `idleMs` */
  constructor(clock: Clock, idleMs: number, onIdle: () => void) {
    this.#clock = clock
    this.#idleMs = idleMs
    this.#onIdle = onIdle
    this.#touchedAt = clock.monotonic()
    this.#cancel = clock.after(idleMs, () => this.#look())
  }

  touch(): void {
    this.#touchedAt = this.#clock.monotonic()
  }

  /** From now on another time counts. */
  restart(idleMs: number): void {
    this.#cancel()
    this.#idleMs = idleMs
    this.touch()
    this.#cancel = this.#clock.after(idleMs, () => this.#look())
  }

  /** No more. Idempotent. */
  end(): void {
    this.#cancel()
  }

  #look(): void {
    const left = this.#touchedAt + this.#idleMs - this.#clock.monotonic()
    if (left <= 0) this.#onIdle()
    else this.#cancel = this.#clock.after(left, () => this.#look())
  }
}
