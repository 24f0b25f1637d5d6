/**
 * The node's side of the thread that verifies and writes blobs: started when needed. What comes while it is busy goes to it
 * together, because a message costs as much as writing a small block does.
 */
import { Worker } from 'node:worker_threads'
import { messageOf } from '#base'
import { workerEnvironment } from '#formats'
import { BLOB_TURN_BYTES, BLOB_TURN_CALLS_MAX, BLOB_TURNS_MAX } from '../limits.ts'
import type { BlobAnswers, BlobCall, BlobReplies, BlobReply, BlobRequest } from './blob-calls.ts'
import type { BufferPool } from './buffer-pool.ts'

/** What the file system, or the thread, said. Never leaves the store. */
class BlobThreadError extends Error {
  override readonly name = 'BlobThreadError'
}

type Waiting = { readonly resolve: (answer: never) => void; readonly reject: (error: Error) => void }

export class BlobThread {
  readonly #pool: BufferPool
  readonly #waiting = new Map<number, Waiting>()
  #queue: BlobRequest[] = []
  #queuedBytes = 0
  #turns = 0
  #worker: Worker | undefined
  /** Why there is no thread any more. What it knew is lost with it, so there is no other one. */
  #end: string | undefined
  #next = 0
  #isSoon = false

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Bytes of blocks that wait. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** A number for a blob that is to be opened. */
  newBlob(): number {
    return this.#next++
  }

  /** Calls are done in order, `sync` aside. @throws BlobThreadError */
  call<C extends BlobCall>(blob: number, call: C): Promise<BlobAnswers[C['kind']]> {
    const { promise, resolve, reject } = Promise.withResolvers<BlobAnswers[C['kind']]>()
    if (this.#end !== undefined) {
      reject(new BlobThreadError(this.#end))
      return promise
    }
    const id = this.#next++
    this.#waiting.set(id, { resolve, reject })
    this.#queue.push({ id, blob, call })
    this.#queuedBytes += bytesIn(call)
    // Calls of the same turn of the event loop go together.
    if (!this.#isSoon) queueMicrotask(() => this.#send())
    this.#isSoon = true
    return promise
  }

  /** Ends the thread. Calls that wait fail. Idempotent. */
  async close(): Promise<void> {
    const worker = this.#worker
    this.#lose('it was ended')
    await worker?.terminate()
  }

  #send(): void {
    this.#isSoon = false
    while (this.#end === undefined && this.#turns < BLOB_TURNS_MAX && this.#queue.length > 0) {
      const turn = this.#takeTurn()
      const buffers = turn.flatMap(({ call }) =>
        call.kind === 'write' ? call.write.parts.map(p => p.bytes.buffer) : [],
      )
      const worker = this.#start()
      worker.ref()
      worker.postMessage(turn, buffers)
      this.#turns++
    }
  }

  #takeTurn(): BlobRequest[] {
    let bytes = 0
    let count = 0
    for (const { call } of this.#queue) {
      const more = bytesIn(call)
      if (count > 0 && (count >= BLOB_TURN_CALLS_MAX || bytes + more > BLOB_TURN_BYTES)) break
      bytes += more
      count++
    }
    return this.#queue.splice(0, count)
  }

  #start(): Worker {
    if (this.#worker !== undefined) return this.#worker
    // Nothing of the node's environment or flags: this is about files only.
    const worker = new Worker(new URL('./blob-worker.ts', import.meta.url), { env: workerEnvironment(), execArgv: [] })
    this.#worker = worker
    worker.on('message', (answer: BlobReplies) => this.#settle(worker, answer))
    worker.on('error', error => this.#lose(messageOf(error)))
    worker.on('exit', () => this.#lose('it ended'))
    return worker
  }

  #settle(worker: Worker, { replies, buffers, isTurn }: BlobReplies): void {
    for (const buffer of buffers) {
      this.#queuedBytes -= buffer.byteLength
      this.#pool.give(buffer)
    }
    for (const reply of replies) this.#answer(reply)
    if (isTurn) this.#turns--
    this.#send()
    // The process may end while nothing is being done.
    if (this.#waiting.size === 0) worker.unref()
  }

  #answer(reply: BlobReply): void {
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if ('error' in reply) waiting?.reject(new BlobThreadError(reply.error))
    else waiting?.resolve(reply.answer as never)
  }

  #lose(reason: string): void {
    if (this.#end !== undefined) return
    this.#end = `the thread that writes blobs is gone: ${reason}`
    this.#queue = []
    this.#queuedBytes = 0
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(new BlobThreadError(this.#end))
  }
}

function bytesIn(call: BlobCall): number {
  if (call.kind !== 'write') return 0
  return call.write.parts.reduce((sum, { bytes }) => sum + bytes.byteLength, 0)
}
