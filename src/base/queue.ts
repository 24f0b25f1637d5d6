/** A queue with a bound, between one side that pushes and one that reads with `for await`. */
import { abortError } from './errors.ts'

export class BoundedQueue<T> {
  readonly #capacity: number
  readonly #items: T[] = []
  #end: { readonly error?: Error } | undefined
  #wake: (() => void) | undefined

  /** @param capacity how many items may wait; a push beyond it is refused, never buffered */
  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get size(): number {
    return this.#items.length
  }

  /** Adds an item. False means full or ended: the caller decides what that costs whom. */
  push(item: T): boolean {
    if (this.#end !== undefined || this.#items.length >= this.#capacity) return false
    this.#items.push(item)
    this.#wake?.()
    return true
  }

  /** No more items. Those that wait are still read; then the reader ends, or throws `error` if one is given. */
  end(error?: Error): void {
    this.#end ??= error === undefined ? {} : { error }
    this.#wake?.()
  }

  /** Takes the next item; undefined once the queue has ended. One reader at a time. */
  async take(options: { readonly signal?: AbortSignal } = {}): Promise<T | undefined> {
    const { signal } = options
    for (;;) {
      if (signal?.aborted === true) throw abortError(signal)
      const item = this.#items.shift()
      if (item !== undefined) return item
      if (this.#end !== undefined) {
        if (this.#end.error !== undefined) throw this.#end.error
        return undefined
      }
      await new Promise<void>(resolve => {
        const wake = (): void => {
          signal?.removeEventListener('abort', wake)
          this.#wake = undefined
          resolve()
        }
        this.#wake = wake
        signal?.addEventListener('abort', wake, { once: true })
      })
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const item = await this.take()
      if (item === undefined) return
      yield item
    }
  }
}
