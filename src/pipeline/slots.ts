/**
 * The KV slots of this node's stage. A slot reaches a new generation only after everything of the last one was zeroed.
 *
 *     free -> held -> releasing -> free
 *                         '-> dirty -> releasing      the engine could not zero it: tried again when it is needed
 *
 * A crash of the engine empties every slot; answers that belong to the process before are told by their epoch.
 */
import { assert } from '#base'

type SlotState = 'free' | 'held' | 'releasing' | 'dirty'

/** Proof that a release was begun, to be given back with its outcome. */
export type SlotRelease = { readonly slot: number; readonly epoch: number }

export class Slots {
  #states: SlotState[] = []
  #epoch = 0

  /** The engine has this many slots. Slots beyond it are forgotten. */
  resize(count: number): void {
    while (this.#states.length < count) this.#states.push('free')
    this.#states.length = count
  }

  get freeCount(): number {
    return this.#states.filter(state => state === 'free').length
  }

  get isReleasing(): boolean {
    return this.#states.includes('releasing')
  }

  /** free -> held */
  take(): number | undefined {
    const slot = this.#states.indexOf('free')
    if (slot < 0) return undefined
    this.#states[slot] = 'held'
    return slot
  }

  /** held | dirty -> releasing */
  release(slot: number): SlotRelease {
    assert(this.#states[slot] === 'held' || this.#states[slot] === 'dirty', 'a slot that is in use is released')
    this.#states[slot] = 'releasing'
    return { slot, epoch: this.#epoch }
  }

  /** releasing -> free | dirty */
  settled(release: SlotRelease, isZeroed: boolean): void {
    if (release.epoch !== this.#epoch || release.slot >= this.#states.length) return
    this.#states[release.slot] = isZeroed ? 'free' : 'dirty'
  }

  /** A slot that must be zeroed before it is of use, if there is one. */
  dirty(): number | undefined {
    const slot = this.#states.indexOf('dirty')
    return slot < 0 ? undefined : slot
  }

  /** any -> free: the process that held the rows is gone. */
  reset(): void {
    this.#epoch++
    this.#states.fill('free')
  }
}
