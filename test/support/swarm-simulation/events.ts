/** What happens when, in a simulated world: a heap of events by time, then by the order in which they were made. */

type Event = { readonly at: number; readonly order: number; readonly action: () => void }

export class Events {
  now = 0
  count = 0
  readonly #heap: Event[] = []
  #made = 0

  after(delayMs: number, action: () => void): void {
    this.at(this.now + delayMs, action)
  }

  at(time: number, action: () => void): void {
    const heap = this.#heap
    const event = { at: Math.max(time, this.now), order: this.#made++, action }
    let at = heap.push(event) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = heap[parent]
      if (above === undefined || !isBefore(event, above)) break
      heap[at] = above
      at = parent
    }
    heap[at] = event
  }

  /** @returns whether anything was left to happen */
  step(): boolean {
    const heap = this.#heap
    const [first] = heap
    const last = heap.pop()
    if (first === undefined || last === undefined) return false
    if (heap.length > 0) this.#sink(last)
    this.now = first.at
    this.count++
    first.action()
    return true
  }

  #sink(event: Event): void {
    const heap = this.#heap
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      let below = heap[child]
      if (below === undefined) break
      const right = heap[child + 1]
      if (right !== undefined && isBefore(right, below)) {
        below = right
        child++
      }
      if (!isBefore(below, event)) break
      heap[at] = below
      at = child
    }
    heap[at] = event
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
