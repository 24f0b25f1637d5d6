/**
 * Which sessions are in use, or about to be. A session belongs to one connection at a time: two nodes that dial one another
 * at once would else resume the same session on both connections, in the same epoch, and take the frames of one for replays
 * of the other's.
 */
import { uuidText } from './uuid.ts'

/** Of one node. */
export class SessionClaims {
  readonly #held = new Map<string, SessionClaim>()

  /** For one connection: it holds no session yet. */
  newClaim(): SessionClaim {
    return new SessionClaim(this.#held)
  }
}

export class SessionClaim {
  readonly #held: Map<string, SessionClaim>
  #id: string | undefined
  #isClosed = false

  constructor(held: Map<string, SessionClaim>) {
    this.#held = held
  }

  /**
   * Takes this session in the place of the one that was held.
   *
   * @returns false: another connection has it, or this one is over; nothing has changed
   */
  take(session: Uint8Array): boolean {
    const id = uuidText(session)
    const holder = this.#held.get(id)
    if (holder !== undefined || this.#isClosed) return holder === this
    this.#release()
    this.#held.set(id, this)
    this.#id = id
    return true
  }

  /** The connection is over: others may have the session. What it still negotiates gets none. */
  close(): void {
    this.#isClosed = true
    this.#release()
  }

  #release(): void {
    if (this.#id !== undefined) this.#held.delete(this.#id)
    this.#id = undefined
  }
}
