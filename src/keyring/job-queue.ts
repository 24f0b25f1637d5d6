/** Jobs on something that does few things at a time, such as a token: they wait for their turn, and not for ever. */
import { type Clock, TimeoutError, withDeadline } from '#base'
import { KeyringError } from './errors.ts'

export type JobOptions = {
  /** What is waited for, as the subject of an error's sentence. */
  readonly what: string
  readonly timeoutMs: number
}

export class JobQueue {
  readonly #clock: Clock
  readonly #options: { readonly runningMax: number; readonly waitingMax: number }
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(clock: Clock, options: { readonly runningMax: number; readonly waitingMax: number }) {
    this.#clock = clock
    this.#options = options
  }

  /**
   * Runs a job when its turn has come; a job whose time is up before is not begun. One that goes on after its time keeps
   * its place until it ends, because what it uses is still in use.
   * @throws KeyringError KEYRING_BUSY, KEYRING_TIMEOUT; else what the job throws
   */
  async run<T>(options: JobOptions, job: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#waiting.length >= this.#options.waitingMax) {
      throw new KeyringError({ code: 'KEYRING_BUSY' }, `${options.what} has more to sign than it can: try again`)
    }
    try {
      return await withDeadline(this.#clock, options, async signal => {
        await this.#turn(signal)
        try {
          return await job(signal)
        } finally {
          this.#next()
        }
      })
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error
      const { timeoutMs } = options
      throw new KeyringError({ code: 'KEYRING_TIMEOUT', timeoutMs }, error.message, { cause: error })
    }
  }

  /** Resolves when the caller has a place; it is handed on from job to job, so that nobody can slip in between. */
  async #turn(signal: AbortSignal): Promise<void> {
    if (this.#running < this.#options.runningMax) {
      this.#running++
      return
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.push(resolve)
    const giveUp = (): void => {
      const place = this.#waiting.indexOf(resolve)
      if (place >= 0) this.#waiting.splice(place, 1)
    }
    signal.addEventListener('abort', giveUp, { once: true })
    await promise
    signal.removeEventListener('abort', giveUp)
    if (!signal.aborted) return
    this.#next()
    signal.throwIfAborted()
  }

  #next(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running--
    else next()
  }
}
