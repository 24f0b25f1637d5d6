/** Lets a bounded number in at once, and a bounded number wait for their turn, first come first served. */
import { type Clock, codeOf, withDeadline } from '#base'
import { NodeError } from './errors.ts'

export type GateOptions = {
  readonly runningMax: number
  readonly waitingMax: number
  readonly waitMsMax: number
  /** What runs and waits, in the plural. @default 'completions' */
  readonly what?: string
}

export class Gate {
  readonly #clock: Clock
  readonly #options: GateOptions
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(clock: Clock, options: GateOptions) {
    this.#clock = clock
    this.#options = options
  }

  get #what(): string {
    return this.#options.what ?? 'completions'
  }

  get running(): number {
    return this.#running
  }

  /**
   * Waits for a turn.
   * @returns gives the turn back; calling it again does nothing
   * @throws NodeError NODE_BUSY where the queue is full, or after the longest wait; the signal's reason
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    const { runningMax, waitingMax, waitMsMax } = this.#options
    signal.throwIfAborted()
    if (this.#running < runningMax) this.#running++
    else if (this.#waiting.length >= waitingMax) throw this.#busy()
    else {
      const turn = Promise.withResolvers<void>()
      const take = turn.resolve
      this.#waiting.push(take)
      const options = { what: `waiting for other ${this.#what}`, timeoutMs: waitMsMax, signal }
      try {
        await withDeadline(this.#clock, options, () => turn.promise)
      } catch (error) {
        const index = this.#waiting.indexOf(take)
        if (index >= 0) this.#waiting.splice(index, 1)
        // The turn came at the same moment as the end of the wait: it goes to the next one.
        else this.#leave()
        throw codeOf(error) === 'TIMEOUT' ? this.#busy() : error
      }
    }
    let isInside = true
    return () => {
      if (isInside) this.#leave()
      isInside = false
    }
  }

  /** The next one takes over the place, so the count stays. */
  #leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running--
    else next()
  }

  #busy(): NodeError {
    const [running, waiting] = [this.#running, this.#waiting.length]
    return new NodeError(
      { code: 'NODE_BUSY', running, waiting },
      `the node is busy: ${running} ${this.#what} run and ${waiting} wait; try again later`,
    )
  }
}
