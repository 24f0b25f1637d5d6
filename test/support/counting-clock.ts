/** A manual clock that says how many timers wait, so that a leak of them is seen. */
import { ManualClock } from '#base'

export class CountingClock extends ManualClock {
  #pending = 0

  /** Timers that have neither fired nor been cancelled. */
  get pending(): number {
    return this.#pending
  }

  override after(delayMs: number, action: () => void): () => void {
    let isOver = false
    const end = (): void => {
      if (!isOver) this.#pending--
      isOver = true
    }
    this.#pending++
    const cancel = super.after(delayMs, () => {
      end()
      action()
    })
    return () => {
      end()
      cancel()
    }
  }
}
