/**
 * Writes frames to a stream in order, at once where the stream has room, else when it has again. A frame that finds the
 * way free costs no turn of the event loop: decoding steps depend on that.
 */
import { type ByteStream, type Clock, withDeadline } from '#base'
import { LINK_MESSAGES_MAX, LINK_STALL_MS_MAX } from './limits.ts'

/** One message: its frames, made as they are taken. `isWanted` false drops it as long as none of them was written. */
type Job = { readonly frames: Iterator<Uint8Array, undefined>; readonly isWanted: () => boolean; hasBegun: boolean }

const always = (): boolean => true

type Phase =
  /** Frames wait: for the stream to be there, or for room in it. */
  | { readonly status: 'waiting' }
  | { readonly status: 'ready'; readonly stream: ByteStream }
  | { readonly status: 'failed' }

export class FrameWriter {
  readonly #clock: Clock
  readonly #onFailed: (error: unknown) => void
  readonly #jobs: Job[] = []
  #phase: Phase = { status: 'waiting' }

  /** @param onFailed called once, with the reason, when the stream takes no more */
  constructor(clock: Clock, onFailed: (error: unknown) => void) {
    this.#clock = clock
    this.#onFailed = onFailed
  }

  /** Gives the writer its stream: what waited is written. */
  attach(stream: ByteStream): void {
    if (this.#phase.status !== 'waiting') return
    this.#phase = { status: 'ready', stream }
    this.#pump()
  }

  /** Writes one frame. */
  send(frame: Uint8Array): void {
    if (this.#phase.status === 'ready') this.#put(this.#phase.stream, frame)
    else this.#queue({ frames: [frame].values(), isWanted: always, hasBegun: false })
  }

  /** Writes a message of several frames; nothing else comes between them. */
  sendAll(frames: Iterator<Uint8Array, undefined>, isWanted: () => boolean): void {
    this.#queue({ frames, isWanted, hasBegun: false })
    if (this.#phase.status === 'ready') this.#pump()
  }

  /** Drops what waits. Nothing is written any more, and nobody is told. */
  end(): void {
    this.#phase = { status: 'failed' }
    this.#jobs.length = 0
  }

  #queue(job: Job): void {
    if (this.#phase.status === 'failed') return
    if (this.#jobs.length >= LINK_MESSAGES_MAX) {
      this.#fail(new Error('the other side does not read'))
      return
    }
    this.#jobs.push(job)
  }

  #pump(): void {
    while (this.#phase.status === 'ready') {
      const job = this.#jobs[0]
      if (job === undefined) return
      const next = job.hasBegun || job.isWanted() ? job.frames.next() : undefined
      if (next === undefined || next.done === true) {
        this.#jobs.shift()
        continue
      }
      job.hasBegun = true
      this.#put(this.#phase.stream, next.value)
    }
  }

  #put(stream: ByteStream, frame: Uint8Array): void {
    let hasRoom: boolean
    try {
      hasRoom = stream.send(frame)
    } catch (error) {
      this.#fail(error)
      return
    }
    if (hasRoom) return
    this.#phase = { status: 'waiting' }
    withDeadline(this.#clock, { what: 'sending to a peer', timeoutMs: LINK_STALL_MS_MAX }, () => stream.drained()).then(
      () => this.attach(stream),
      (error: unknown) => this.#fail(error),
    )
  }

  #fail(error: unknown): void {
    if (this.#phase.status === 'failed') return
    this.end()
    this.#onFailed(error)
  }
}
