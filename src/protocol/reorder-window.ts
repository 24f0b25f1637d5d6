/** Which sequence numbers have arrived: a bitmap that slides with the highest one (RFC 4303, section 3.4.3). */
import { assert } from '#base'

/**
 * `fresh`: may be taken. `duplicate`: was taken. `stale`: too far behind the highest to know. `ahead`: so far in front
 * that no reordering explains it.
 */
export type WindowVerdict = 'fresh' | 'duplicate' | 'stale' | 'ahead'

/** Asking changes nothing: a frame is recorded once it has been proved authentic, so that forged ones move nothing. */
export class ReorderWindow {
  readonly #size: number
  readonly #bits: Uint32Array
  #highest = -1

  /** @param size how far a number may lie behind or in front of the highest; a multiple of 32 */
  constructor(size: number) {
    assert(size > 0 && size % 32 === 0, 'a window is made of words of 32 bits')
    this.#size = size
    this.#bits = new Uint32Array(size / 32)
  }

  check(sequence: number): WindowVerdict {
    if (sequence > this.#highest + this.#size) return 'ahead'
    if (sequence > this.#highest) return 'fresh'
    if (sequence <= this.#highest - this.#size) return 'stale'
    return this.#has(sequence) ? 'duplicate' : 'fresh'
  }

  /** @param sequence one that `check` calls fresh */
  record(sequence: number): void {
    assert(this.check(sequence) === 'fresh', 'only a fresh number is recorded')
    for (let passed = this.#highest + 1; passed < sequence; passed++) this.#set(passed, false)
    this.#set(sequence, true)
    this.#highest = Math.max(this.#highest, sequence)
  }

  #has(sequence: number): boolean {
    const bit = sequence % this.#size
    return ((this.#bits[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0
  }

  #set(sequence: number, isTaken: boolean): void {
    const bit = sequence % this.#size
    const word = this.#bits[bit >>> 5] ?? 0
    const mask = 1 << (bit & 31)
    this.#bits[bit >>> 5] = isTaken ? word | mask : word & ~mask
  }
}
