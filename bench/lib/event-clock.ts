/** A clock for large simulations: time goes from one timer to the next, and thousands of them cost no more than a heap. */
import type { CancelTimer, Clock } from '#base'

type Timer = { readonly at: number; readonly order: number; action: (() => void) | undefined }

export class EventClock implements Clock {
  #now: number
  #order = 0
  readonly #heap: Timer[] = []

  constructor(startMs: number) {
    this.#now = startMs
  }

  now(): number {
    return this.#now
  }

  monotonic(): number {
    return this.#now
  }

  after(delayMs: number, action: () => void): CancelTimer {
    const timer: Timer = { at: this.#now + Math.max(0, delayMs), order: this.#order++, action }
    this.#heap.push(timer)
    this.#rise(this.#heap.length - 1)
    // What was cancelled stays in the heap until its time has come; it does nothing then.
    return () => {
      timer.action = undefined
    }
  }

  /** Fires all that is due until then. */
  advanceTo(endMs: number): void {
    for (let next = this.#heap[0]; next !== undefined && next.at <= endMs; next = this.#heap[0]) {
      const last = this.#heap.pop()
      if (last !== undefined && this.#heap.length > 0) {
        this.#heap[0] = last
        this.#sink(0)
      }
      this.#now = Math.max(this.#now, next.at)
      const { action } = next
      next.action = undefined
      action?.()
    }
    this.#now = endMs
  }

  #isBefore(a: number, b: number): boolean {
    const [left, right] = [this.#heap[a], this.#heap[b]]
    if (left === undefined || right === undefined) return left !== undefined
    return left.at < right.at || (left.at === right.at && left.order < right.order)
  }

  #swap(a: number, b: number): void {
    const [left, right] = [this.#heap[a], this.#heap[b]]
    if (left === undefined || right === undefined) return
    this.#heap[a] = right
    this.#heap[b] = left
  }

  #rise(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1
      if (!this.#isBefore(at, parent)) return
      this.#swap(at, parent)
      at = parent
    }
  }

  #sink(from: number): void {
    for (let at = from; ; ) {
      let first = at
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#heap.length && this.#isBefore(child, first)) first = child
      }
      if (first === at) return
      this.#swap(at, first)
      at = first
    }
  }
}
