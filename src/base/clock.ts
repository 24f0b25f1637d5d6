/**
 * Time as a collaborator. Nothing else in the project reads a global clock or sets a global timer, so that a test or a
 * simulation owns time and a run can be replayed.
 */
import { abortError } from './errors.ts'

/** Cancels a timer. Calling it twice, or after the timer fired, does nothing. */
export type CancelTimer = () => void

export interface Clock {
  /** Wall-clock time in milliseconds since the epoch: for dates, never for durations. */
  now(): number
  /** Milliseconds from an arbitrary start, never going back: for durations. */
  monotonic(): number
  /** Calls `action` once, `delayMs` from now. The timer does not keep the process alive. */
  after(delayMs: number, action: () => void): CancelTimer
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (delayMs, action) => {
    const timer: unknown = setTimeout(action, delayMs)
    // Browsers return a number; Node an object whose timer must not hold the process open.
    if (typeof timer === 'object' && timer !== null && 'unref' in timer) (timer as { unref(): void }).unref()
    return () => clearTimeout(timer as ReturnType<typeof setTimeout>)
  },
}

/** A clock that stands still until `advance` is called: for tests and simulations. */
export class ManualClock implements Clock {
  #now: number
  #next = 0
  readonly #timers = new Map<number, { readonly at: number; readonly action: () => void }>()

  constructor(startMs = 0) {
    this.#now = startMs
  }

  now(): number {
    return this.#now
  }

  monotonic(): number {
    return this.#now
  }

  after(delayMs: number, action: () => void): CancelTimer {
    const id = this.#next++
    this.#timers.set(id, { at: this.#now + delayMs, action })
    return () => void this.#timers.delete(id)
  }

  /** Moves time forward and fires due timers in order of their time, then of their making. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0]
      if (due === undefined) break
      this.#timers.delete(due[0])
      this.#now = Math.max(this.#now, due[1].at)
      due[1].action()
    }
    this.#now = end
  }
}

/** Waits, or rejects with the signal's reason. */
export function sleep(clock: Clock, delayMs: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
  const { signal } = options
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortError(signal))
      return
    }
    const onAbort = (): void => {
      cancel()
      if (signal !== undefined) reject(abortError(signal))
    }
    const cancel = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/**
 * Calls `action` every `periodMs` until the signal aborts. A slow action delays the next turn: turns never overlap.
 * `action` must handle its own errors: a rejection ends the loop and is returned.
 */
export async function repeat(
  clock: Clock,
  action: () => void | Promise<void>,
  options: { readonly periodMs: number; readonly signal: AbortSignal },
): Promise<void> {
  while (!options.signal.aborted) {
    try {
      await sleep(clock, options.periodMs, { signal: options.signal })
    } catch {
      return // The only way that sleep() rejects is the signal: the loop is over, as asked.
    }
    await action()
  }
}
