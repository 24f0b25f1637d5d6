/** Decides whether and when a crashed engine child is started again: back-off, and at most three times a minute. */
import { CHILD_RESTART_WINDOW_MS, CHILD_RESTARTS_MAX } from './limits.ts'

/** The first restart is quick: most crashes are single. The later ones leave a broken machine some air. */
const DELAYS_MS = [100, 1_000, 5_000] as const

export class RestartPolicy {
  readonly #crashes: number[] = []
  #count = 0

  /** Restarts that were granted, ever. */
  get count(): number {
    return this.#count
  }

  /** Notes a crash. @returns milliseconds until the restart; undefined where there were too many */
  crashed(nowMs: number): number | undefined {
    this.#crashes.push(nowMs)
    while ((this.#crashes[0] ?? nowMs) <= nowMs - CHILD_RESTART_WINDOW_MS) this.#crashes.shift()
    if (this.#crashes.length > CHILD_RESTARTS_MAX) return undefined
    this.#count++
    return DELAYS_MS[this.#crashes.length - 1] ?? DELAYS_MS[DELAYS_MS.length - 1]
  }

  /** Somebody looked at it and loads anew: what was is forgotten. */
  forgive(): void {
    this.#crashes.length = 0
  }
}
