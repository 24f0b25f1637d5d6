/**
 * Whether a frame was taken before: by this process or by one before it, on any connection. A frame is known by its
 * replay key, in two generations of a Bloom filter. It may be wrong, rarely, and then always to the safe side: a frame is
 * refused that is new. So a hit is refused and never punished.
 *
 * **What is forgotten is refused.** Keys are forgotten in whole generations. With one, the *horizon* moves up to the
 * latest time of a frame in it, and a frame whose time is not behind the horizon is `stale`. So nothing that was taken is
 * ever taken again, however the generations turn: after a minute, or earlier when one is full. As a frame's time lies
 * within 30 s of ours, the horizon of a generation that turned after a minute or more lies 30 s back, where frames are
 * too old anyway; only a node that takes more than 2184 frames a second, for long, begins to refuse late ones.
 *
 * **Restarts.** A process that ends in order writes everything down (`flush`). While one runs, what is written says only
 * "running, horizon H", and H is ahead of every frame that was taken: it is moved, and written, before one that is later
 * is taken. A process that was killed leaves that behind, so the next one refuses all that the killed one may have
 * taken, for at most a few seconds. It needs nothing of the filter for that, and no clock but the frames' own.
 * Frames under keys that were agreed on after its start are none of those, so peers who come back at once are let in.
 * State that is damaged is as good as none: what is not later than now is refused. No state at all is a new node, which
 * has taken nothing.
 *
 * **Clocks that go back.** Were the horizon far in the future, the node would be deaf until then. It can only be there if
 * our clock was; so it is brought back to 30 s from now: nothing that is acceptable at that moment will be taken.
 */
import type { Clock, Logger, Random } from '#base'
import { messageOf } from '#base'
import { Bloom, placesOf } from './bloom.ts'
import { FRAME_AGE_MS_MAX, REPLAY_FRAMES_MAX, REPLAY_LEASE_MS } from './limits.ts'
import { decodeReplayState, encodeReplayState, REPLAY_SECRET_BYTES, type ReplayGeneration } from './replay-state.ts'
import type { ReplayStore } from './types.ts'

/** A frame can be 30 s early, and is acceptable until it is 30 s late. */
const GENERATION_MS = 2 * FRAME_AGE_MS_MAX
const NEVER = Number.NEGATIVE_INFINITY

/** `fresh`: it is known from now on. `seen`: it was known. `stale`: it may have been, and was forgotten; or its time is off. */
export type ReplayVerdict = 'fresh' | 'seen' | 'stale'

export type ReplayFilterDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly store: ReplayStore
  readonly log: Logger
}

/** What names a frame for ever: who sent it, in which session, under which keys, as which of its frames. */
export function replayKey(frame: {
  readonly sender: Uint8Array
  readonly session: Uint8Array
  readonly epoch: number
  readonly sequence: number
}): Uint8Array {
  const { sender, session, epoch, sequence } = frame
  const numbersAt = sender.byteLength + session.byteLength
  const key = new Uint8Array(numbersAt + 12)
  key.set(sender)
  key.set(session, sender.byteLength)
  const view = new DataView(key.buffer, numbersAt)
  view.setUint32(0, epoch)
  view.setUint32(4, Math.floor(sequence / 2 ** 32))
  view.setUint32(8, sequence >>> 0)
  return key
}

export class ReplayFilter {
  readonly #deps: ReplayFilterDeps
  readonly #framesMax: number
  #secret: Uint8Array
  #current = emptyGeneration()
  #previous = emptyGeneration()
  #turnedAtMs: number
  /** A frame that is not later is refused. */
  #horizonMs = NEVER
  /** A frame that is not later may have been taken by a process before this one. */
  #formerMs = NEVER
  /** What the store says of a process that is killed now; `NEVER`: it holds everything. */
  #leasedMs = NEVER

  constructor(deps: ReplayFilterDeps, options: { readonly framesMax?: number } = {}) {
    this.#deps = deps
    this.#framesMax = options.framesMax ?? REPLAY_FRAMES_MAX
    this.#turnedAtMs = deps.clock.monotonic()
    this.#secret = deps.random.bytes(REPLAY_SECRET_BYTES)
    this.#restore(deps.store.load())
  }

  /**
   * Asks for a frame, and remembers it where it is fresh.
   * @param timeMs the frame's time on our own clock: corrected by the offset, where that was measured
   * @param keysSinceMs when this process began to agree on the keys that the frame is under. @default unknown
   */
  check(key: Uint8Array, timeMs: number, keysSinceMs = Number.POSITIVE_INFINITY): ReplayVerdict {
    const now = this.#deps.clock.now()
    if (Math.abs(timeMs - now) > FRAME_AGE_MS_MAX) return 'stale'
    const latest = now + FRAME_AGE_MS_MAX
    if (this.#horizonMs > latest + REPLAY_LEASE_MS) this.#horizonMs = latest
    if (this.#formerMs > latest + REPLAY_LEASE_MS) this.#formerMs = latest
    if (timeMs <= this.#horizonMs || (timeMs <= this.#formerMs && timeMs < keysSinceMs)) return 'stale'
    const places = placesOf(this.#secret, key)
    if (this.#current.bloom.has(places) || this.#previous.bloom.has(places)) return 'seen'
    this.#lease(timeMs)
    this.#turnIfDue()
    const { bloom, count, newestMs } = this.#current
    bloom.add(places)
    this.#current = { bloom, count: count + 1, newestMs: Math.max(newestMs, timeMs) }
    return 'fresh'
  }

  /** Writes everything down, for a process that ends in order. @throws what the store throws */
  flush(): void {
    this.#deps.store.save(
      encodeReplayState({
        kind: 'clean',
        horizonMs: Math.max(this.#horizonMs, this.#formerMs),
        secret: this.#secret,
        generations: [this.#current, this.#previous],
      }),
    )
    this.#leasedMs = NEVER
  }

  #restore(bytes: Uint8Array | undefined): void {
    if (bytes === undefined) return
    const state = decodeReplayState(bytes)
    if (state === undefined) {
      this.#deps.log.warn('the state of the replay filter is damaged: frames up to now are refused')
      this.#formerMs = this.#deps.clock.now()
      return
    }
    this.#formerMs = state.horizonMs
    if (state.kind === 'running') {
      this.#leasedMs = state.horizonMs
      return
    }
    this.#secret = state.secret
    this.#current = state.generations[0]
    this.#previous = state.generations[1]
  }

  /** Before a frame is taken: what is on disk must say that it was. */
  #lease(timeMs: number): void {
    if (timeMs <= this.#leasedMs) return
    const before = Math.max(this.#horizonMs, this.#formerMs, this.#current.newestMs, this.#previous.newestMs)
    const taken = Math.max(timeMs, before)
    this.#leasedMs = taken + REPLAY_LEASE_MS
    try {
      this.#deps.store.save(encodeReplayState({ kind: 'running', horizonMs: this.#leasedMs }))
    } catch (error) {
      // A full disk is no reason to stop talking: only a kill before the next write that succeeds leaves a gap.
      this.#deps.log.warn('the state of the replay filter cannot be written', { error: messageOf(error) })
    }
  }

  #turnIfDue(): void {
    const now = this.#deps.clock.monotonic()
    if (now - this.#turnedAtMs < GENERATION_MS && this.#current.count < this.#framesMax) return
    this.#turnedAtMs = now
    this.#horizonMs = Math.max(this.#horizonMs, this.#previous.newestMs)
    this.#previous = this.#current
    this.#current = emptyGeneration()
  }
}

function emptyGeneration(): ReplayGeneration {
  return { bloom: new Bloom(), count: 0, newestMs: NEVER }
}
