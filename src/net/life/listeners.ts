/** Those who listen to events of one kind: bounded, and one that fails does not keep the others from hearing. */
import { assert, type Logger, messageOf } from '#base'
import { LISTENERS_MAX } from '../limits.ts'

export class Listeners<E> {
  readonly #log: Logger
  readonly #what: string
  readonly #listeners = new Set<(event: E) => void>()

  /** @param what the events, in the plural, for the log */
  constructor(log: Logger, what: string) {
    this.#log = log
    this.#what = what
  }

  /** @returns how to stop listening */
  add(listener: (event: E) => void): () => void {
    assert(this.#listeners.size < LISTENERS_MAX, `as many listen to ${this.#what} as may`)
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  tell(event: E): void {
    for (const listener of this.#listeners) {
      try {
        listener(event)
      } catch (error) {
        this.#log.error(`a listener to ${this.#what} failed`, { error: messageOf(error) })
      }
    }
  }
}
