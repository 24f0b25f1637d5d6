/** Says now and then that what was written is to go to the disk itself: after so many bytes, or so much time. */
import type { CancelTimer, Clock } from '#base'
import { BLOB_SYNC_BYTES, BLOB_SYNC_MS } from '../limits.ts'

export class BlobSyncer {
  readonly #clock: Clock
  readonly #sync: () => Promise<void>
  #bytes = 0
  #running: Promise<void> | undefined
  #cancel: CancelTimer | undefined
  #isEnded = false

  /** @param sync one at a time; what it rejects with costs hashing after a loss of power, and it is tried again */
  constructor(clock: Clock, sync: () => Promise<void>) {
    this.#clock = clock
    this.#sync = sync
  }

  wrote(bytes: number): void {
    this.#bytes += bytes
    if (this.#isEnded) return
    if (this.#bytes >= BLOB_SYNC_BYTES) this.#start()
    else this.#cancel ??= this.#clock.after(BLOB_SYNC_MS, () => this.#start())
  }

  /** No sync runs when it resolves, and none begins. */
  async end(): Promise<void> {
    this.#isEnded = true
    this.#cancel?.()
    await this.#running
  }

  #start(): void {
    if (this.#running !== undefined) return
    this.#cancel?.()
    this.#cancel = undefined
    this.#bytes = 0
    this.#running = this.#sync()
      .catch(() => undefined) // As the constructor says.
      .then(() => {
        this.#running = undefined
        if (this.#bytes > 0) this.wrote(0)
      })
  }
}
