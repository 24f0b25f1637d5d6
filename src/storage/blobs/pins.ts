/** Pieces that must stay, each as long as somebody says so. */
import type { Bitfield } from '#base'

export class Pins {
  readonly #sets = new Set<Bitfield>()

  get isEmpty(): boolean {
    return [...this.#sets].every(pieces => pieces.isEmpty)
  }

  /** @returns ends it; idempotent */
  add(pieces: Bitfield): () => void {
    const own = pieces.clone()
    this.#sets.add(own)
    return () => void this.#sets.delete(own)
  }

  has(piece: number): boolean {
    for (const pieces of this.#sets) if (pieces.has(piece)) return true
    return false
  }
}
