/** What the two roles see of a stream that a peer opened: answers go back on it, rows come from it. */
import type { StageMessage } from '#wire'

/** One incoming stream, as long as it lives. Sending on an ended one does nothing. */
export interface Session {
  /** The authenticated peer at the other end. */
  readonly peer: string
  send(message: StageMessage): void
  /** Tells the sender that a chunk was computed. */
  credit(generation: string, step: number): void
}

/** What becomes of a step or result whose header has come. */
export type Taking =
  /** Collect the rows and hand them over; `lost` is called instead where the stream ends before they are complete. */
  | { readonly kind: 'take'; readonly take: (rows: Uint8Array) => void; readonly lost: () => void }
  /** Read past the rows: the header was enough. */
  | { readonly kind: 'skip' }
  /** As `skip`, and count it against the sender: it belongs to nothing here. */
  | { readonly kind: 'stray' }

/** Ids of generations that have ended, the last so many: what still arrives for them is late, not wrong. */
export class EndedGenerations {
  readonly #ids = new Set<string>()
  readonly #max: number

  constructor(max: number) {
    this.#max = max
  }

  add(id: string): void {
    this.#ids.add(id)
    if (this.#ids.size <= this.#max) return
    for (const oldest of this.#ids) {
      this.#ids.delete(oldest)
      return
    }
  }

  has(id: string): boolean {
    return this.#ids.has(id)
  }
}
