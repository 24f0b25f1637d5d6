/**
 * The life of one connection. No input or output happens here: whoever owns it says what happened, and is told which
 * state follows.
 *
 *     connecting --joined--> connected --looked--> idle --looked--> stale --closed--> closed
 *                                ^--------used------'                        (from each of them)
 */
export type ConnectionState =
  /** Bytes go back and forth, and the peer has not been admitted yet. */
  | 'connecting'
  /** Of use: a service's stream is open, or something was said that is no ping. */
  | 'connected'
  /** No stream is open, and nothing but pings was said since the last look but one. */
  | 'idle'
  /** Idle past the limit, and nobody holds it: it is being closed. */
  | 'stale'
  | 'closed'

/** What a look at a connection finds. */
export type Look = {
  /** Clock.monotonic(). */
  readonly now: number
  /** Open streams of services. */
  readonly streams: number
  /** Whether it is to stay although it is of no use. */
  readonly isHeld: boolean
  readonly idleAfterMs: number
  readonly idleLimitMs: number
}

export class ConnectionLife {
  #state: ConnectionState = 'connecting'
  #usedAt: number

  /** @param now Clock.monotonic() */
  constructor(now: number) {
    this.#usedAt = now
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Clock.monotonic() when it was of use last. */
  get usedAt(): number {
    return this.#usedAt
  }

  /** connecting -> connected */
  joined(now: number): ConnectionState | undefined {
    return this.#state === 'connecting' ? this.#enter('connected', now) : undefined
  }

  /** idle -> connected */
  used(now: number): ConnectionState | undefined {
    this.#usedAt = now
    return this.#state === 'idle' ? this.#enter('connected', now) : undefined
  }

  /** connected -> idle; idle -> connected or stale */
  looked({ now, streams, isHeld, idleAfterMs, idleLimitMs }: Look): ConnectionState | undefined {
    if (this.#state !== 'connected' && this.#state !== 'idle') return undefined
    if (streams > 0) return this.used(now)
    const idleMs = now - this.#usedAt
    if (idleMs >= idleLimitMs && !isHeld) return this.#enter('stale')
    return this.#state === 'connected' && idleMs >= idleAfterMs ? this.#enter('idle') : undefined
  }

  /** -> closed */
  closed(): ConnectionState | undefined {
    return this.#state === 'closed' ? undefined : this.#enter('closed')
  }

  #enter(state: ConnectionState, usedAt = this.#usedAt): ConnectionState {
    this.#state = state
    this.#usedAt = usedAt
    return state
  }
}
