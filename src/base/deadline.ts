/** Bounds on waiting: every wait in the project has one, even where its caller gave none. */
import type { Clock } from './clock.ts'
import { KoinonError, abortError } from './errors.ts'

/** Something took longer than it was allowed to. */
export class TimeoutError extends KoinonError<{ readonly code: 'TIMEOUT'; readonly timeoutMs: number }> {
  override readonly name = 'TimeoutError'

  constructor(what: string, timeoutMs: number) {
    super({ code: 'TIMEOUT', timeoutMs }, `${what} took longer than ${timeoutMs} ms`)
  }
}

export type DeadlineOptions = {
  /** What is waited for, as the subject of the error's sentence. */
  readonly what: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

/**
 * Runs `task` with a signal that aborts at the deadline or with the caller's own signal. Settles at that moment even
 * where the task ignores its signal; the timer is gone when this settles.
 */
export async function withDeadline<T>(
  clock: Clock,
  options: DeadlineOptions,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeout = new AbortController()
  const cancel = clock.after(options.timeoutMs, () => timeout.abort(new TimeoutError(options.what, options.timeoutMs)))
  const signal = options.signal === undefined ? timeout.signal : AbortSignal.any([timeout.signal, options.signal])
  try {
    return await abortable(task(signal), signal)
  } finally {
    cancel()
  }
}

/** Settles like `promise`, or rejects with the signal's reason, whichever is first. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(abortError(signal))
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
