/** Waiting for something to become true of the swarm, by its events: no polling, and always with a bound. */
import { type CancelTimer, type Clock, withDeadline } from '#base'
import type { Host } from '#net'

export type WatchOptions = { readonly what: string; readonly timeoutMs: number; readonly signal: AbortSignal }

export class PeerWatch {
  readonly #clock: Clock
  readonly #host: Pick<Host, 'isSomebodyComing'>
  readonly #listeners = new Set<() => void>()

  constructor(clock: Clock, host: Pick<Host, 'isSomebodyComing' | 'onPeer'>) {
    this.#clock = clock
    this.#host = host
    host.onPeer(() => {
      for (const listener of this.#listeners) listener()
    })
  }

  /** Resolves once `isTrue` holds; it is asked now and after every event. @throws TimeoutError, the signal's reason */
  until(isTrue: () => boolean, options: WatchOptions): Promise<void> {
    return withDeadline(this.#clock, options, signal => {
      const done = Promise.withResolvers<void>()
      const check = (): void => {
        if (signal.aborted || isTrue()) done.resolve()
      }
      this.#listeners.add(check)
      signal.addEventListener('abort', check, { once: true })
      check()
      return done.promise.finally(() => {
        this.#listeners.delete(check)
        signal.removeEventListener('abort', check)
      })
    })
  }

  /**
   * Resolves once nothing happened for `quietMs`, and nobody is just coming: on a busy machine a dial may take longer.
   * @throws TimeoutError, the signal's reason
   */
  quiet(quietMs: number, options: WatchOptions): Promise<void> {
    return withDeadline(this.#clock, options, signal => {
      const done = Promise.withResolvers<void>()
      let cancel: CancelTimer = () => undefined
      const restart = (): void => {
        cancel()
        if (signal.aborted) done.resolve()
        else cancel = this.#clock.after(quietMs, () => (this.#host.isSomebodyComing() ? restart() : done.resolve()))
      }
      this.#listeners.add(restart)
      signal.addEventListener('abort', restart, { once: true })
      restart()
      return done.promise.finally(() => {
        cancel()
        this.#listeners.delete(restart)
        signal.removeEventListener('abort', restart)
      })
    })
  }
}
