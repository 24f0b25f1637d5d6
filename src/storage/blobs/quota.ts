/** How many bytes the blobs of a store may have together, and how many they have. */

export class Quota {
  readonly limitBytes: number
  #bytes = 0
  #reservedBytes = 0

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  get freeBytes(): number {
    return this.limitBytes - this.#bytes - this.#reservedBytes
  }

  /** Sets bytes aside that are about to be written. @returns whether there is room */
  reserve(bytes: number): boolean {
    if (bytes > this.freeBytes) return false
    this.#reservedBytes += bytes
    return true
  }

  /** Ends a reservation. */
  release(bytes: number): void {
    this.#reservedBytes -= bytes
  }

  /** Counts what is here now; negative: what is gone. */
  count(bytes: number): void {
    this.#bytes += bytes
  }
}
