/**
 * The order of the calls on one blob. Large writes go to the disk while more is verified: where a machine has to find memory
 * for what is written, that takes longer than hashing it does. What would get in the way of a write that is under way waits
 * for it, and what comes after that waits too.
 */
import { BLOB_ASIDE_BYTES_MIN } from '../limits.ts'
import type { BlobCall } from './blob-calls.ts'
import type { PieceWrite } from './blob-file.ts'

/** Whether a write is worth the way to another thread and back. */
export function isLarge({ parts }: PieceWrite): boolean {
  return parts.reduce((sum, { bytes }) => sum + bytes.byteLength, 0) >= BLOB_ASIDE_BYTES_MIN
}

export class BlobOrder {
  /** Those that are under way, by piece. They never reject. */
  readonly #writes = new Map<number, Promise<unknown>>()
  /** When the last call that had to wait has begun. It never rejects. */
  #begun: Promise<unknown> | undefined

  /** Begins a call now, where nothing is in its way. @returns what `begin` does, at once or later */
  run<T>(call: BlobCall, begin: () => T | Promise<T>): T | Promise<T> {
    const obstacle = this.#obstacleTo(call)
    if (this.#begun === undefined && obstacle === undefined) return this.#begin(call, begin)
    // Its obstacle is looked for again when its turn comes: what was waiting before it may be one.
    const turn = (this.#begun ?? Promise.resolve()).then(() => this.#obstacleTo(call))
    const begun = turn.then(() => ({ answer: this.#begin(call, begin) }))
    const ended = begun.then(
      () => undefined,
      () => undefined, // Whoever asked hears of it.
    )
    this.#begun = ended
    void ended.then(() => {
      if (this.#begun === ended) this.#begun = undefined
    })
    return begun.then(({ answer }) => answer)
  }

  #begin<T>(call: BlobCall, begin: () => T | Promise<T>): T | Promise<T> {
    const answer = begin()
    if (call.kind !== 'write' || !(answer instanceof Promise)) return answer
    const { piece } = call.write
    const forget = (): void => void this.#writes.delete(piece)
    this.#writes.set(piece, answer.then(forget, forget))
    return answer
  }

  #obstacleTo(call: BlobCall): Promise<unknown> | undefined {
    switch (call.kind) {
      case 'write':
        return this.#writes.get(call.write.piece)
      case 'drop':
      case 'close':
      case 'remove':
        return this.#writes.size === 0 ? undefined : Promise.all(this.#writes.values())
      default:
        return undefined
    }
  }
}
