/**
 * What waits to be sent. Messages of one turn go out in one write, blocks uncopied behind their headers; a pipe that is full
 * gets nothing more until it has drained.
 */
import { SEND_AHEAD_BYTES, SEND_QUEUE_BYTES_MAX, WRITE_BYTES } from './limits.ts'
import type { BytePipe } from './types.ts'

export type OutboxEvents = {
  readonly onWritable: () => void
  /** The pipe is gone, or the other side has not read for too long. */
  readonly onLost: (what: string) => void
}

export class Outbox {
  readonly #pipe: BytePipe
  readonly #events: OutboxEvents
  #parts: Uint8Array[] = []
  #taken: (() => void)[] = []
  #waitingBytes = 0
  #isScheduled = false
  #isBlocked = false
  #hasSaidFull = false
  #isFinishing = false
  #isClosed = false
  #sentBytes = 0

  constructor(pipe: BytePipe, events: OutboxEvents) {
    this.#pipe = pipe
    this.#events = events
  }

  get sentBytes(): number {
    return this.#sentBytes
  }

  /**
   * @param onTaken called once the pipe needs the parts no more, where it says so
   * @returns false: queued, but nothing more should be until `onWritable`
   */
  push(parts: readonly Uint8Array[], onTaken?: () => void): boolean {
    if (this.#isClosed || this.#isFinishing) return false
    if (onTaken !== undefined) this.#taken.push(onTaken)
    for (const part of parts) {
      this.#parts.push(part)
      this.#waitingBytes += part.byteLength
    }
    if (!this.#isBlocked && this.#waitingBytes >= WRITE_BYTES) this.flush()
    else if (!this.#isBlocked) this.#schedule()
    else if (this.#waitingBytes > SEND_QUEUE_BYTES_MAX) this.#lose('the other side does not read')
    if (this.#isFull) this.#hasSaidFull = true
    return !this.#isFull
  }

  /** What the pipe takes next is there already when it has drained: else every piece would wait for the disk. */
  get #isFull(): boolean {
    return this.#isBlocked && this.#waitingBytes >= SEND_AHEAD_BYTES
  }

  /** Hands everything to the pipe, where it takes anything. */
  flush(): void {
    this.#isScheduled = false
    if (this.#isBlocked || this.#isClosed || this.#parts.length === 0) return
    const [parts, taken] = [this.#parts, this.#taken]
    this.#sentBytes += this.#waitingBytes
    this.#parts = []
    this.#taken = []
    this.#waitingBytes = 0
    try {
      const onTaken = (): void => {
        for (const tell of taken) tell()
      }
      if (this.#pipe.sendParts(parts, taken.length === 0 ? undefined : onTaken)) return
    } catch {
      this.#lose('the connection is gone')
      return
    }
    this.#isBlocked = true
    this.#pipe.drained().then(
      () => this.#drained(),
      () => this.#lose('the connection is gone'),
    )
  }

  /** Takes nothing more. Resolves when the pipe has taken all that waited; rejects where it breaks. */
  async finish(): Promise<void> {
    this.flush()
    this.#isFinishing = true
    while (this.#isBlocked && !this.#isClosed) {
      await this.#pipe.drained()
      // The other who waited for it was first, and has written what was left.
    }
    this.#isClosed = true
  }

  /** Takes nothing more, and forgets what waits. */
  drop(): void {
    this.#isClosed = true
    this.#parts = []
    this.#taken = []
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    queueMicrotask(() => this.flush())
  }

  #drained(): void {
    this.#isBlocked = false
    this.flush()
    if (this.#isFull || !this.#hasSaidFull || this.#isFinishing) return
    this.#hasSaidFull = false
    this.#events.onWritable()
  }

  #lose(what: string): void {
    if (this.#isClosed) return
    this.drop()
    this.#events.onLost(what)
  }
}
