/** When a fetch that failed is tried again, and when it is given up. */
import { type Clock, type Random, sleep, uniform } from '#base'
import { ORIGIN_BACKOFF_MS, ORIGIN_BACKOFF_MS_MAX, ORIGIN_PROGRESS_BYTES, ORIGIN_TRIES_MAX } from '../limits.ts'

/** A failure that may pass: the connection broke, the server is busy. */
export class PassingError extends Error {
  override readonly name = 'PassingError'
  /** The wait that the server asks for, in milliseconds. */
  readonly retryAfterMs: number

  constructor(message: string, options: { readonly cause?: unknown; readonly retryAfterMs?: number } = {}) {
    super(message, { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs ?? 0
  }
}

/** The failures of one fetch. */
export interface Retries {
  /** Bytes came: after enough of them, failures before count no more. */
  progress(bytes: number): void
  /** @returns whether to try again, after a wait. @throws the signal's reason */
  again(failure: { readonly retryAfterMs: number }, signal: AbortSignal): Promise<boolean>
}

export function createRetries(deps: { readonly clock: Clock; readonly random: Random }): Retries {
  let failures = 0
  let received = 0
  return {
    progress: bytes => {
      received += bytes
    },
    again: async ({ retryAfterMs }, signal) => {
      // A server that gives a few bytes and resets for ever is given up like one that gives none.
      if (received >= ORIGIN_PROGRESS_BYTES) failures = 0
      received = 0
      failures++
      if (failures >= ORIGIN_TRIES_MAX) return false
      const backoffMs = Math.min(ORIGIN_BACKOFF_MS_MAX, ORIGIN_BACKOFF_MS * 2 ** (failures - 1))
      const jitteredMs = backoffMs * (0.5 + uniform(deps.random) / 2)
      await sleep(deps.clock, Math.max(jitteredMs, retryAfterMs), { signal })
      return true
    },
  }
}
