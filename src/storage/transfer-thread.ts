/** The node's side of the thread that writes arriving attachments: started when needed, ended when idle. */
import { Worker } from 'node:worker_threads'
import { type CancelTimer, type Clock, KoinonError } from '#base'
import { workerEnvironment } from '#formats'
import { TRANSFER_THREAD_IDLE_MS } from './limits.ts'
import type { TransferAnswers, TransferCall, TransferReply, TransferRequest } from './transfer-calls.ts'

/** What the file system, or the thread, said. */
export class TransferThreadError extends KoinonError<{ readonly code: 'TRANSFER_STORE'; readonly errno?: string }> {
  override readonly name = 'TransferThreadError'
}

type Waiting = { readonly resolve: (answer: never) => void; readonly reject: (error: Error) => void }

export class TransferThread {
  readonly #clock: Clock
  readonly #waiting = new Map<number, Waiting>()
  readonly #files = new Set<number>()
  #worker: Worker | undefined
  #cancelIdle: CancelTimer | undefined
  #next = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A number for a file that is to be opened. */
  newFile(): number {
    return this.#next++
  }

  /** Calls are done in order. @throws TransferThreadError */
  call<C extends TransferCall>(file: number, call: C): Promise<TransferAnswers[C['kind']]> {
    const id = this.#next++
    const worker = this.#start()
    if (call.kind === 'open') this.#files.add(file)
    else if (call.kind !== 'append') this.#files.delete(file)
    const { promise, resolve, reject } = Promise.withResolvers<TransferAnswers[C['kind']]>()
    this.#waiting.set(id, { resolve, reject })
    worker.ref()
    const request: TransferRequest = { id, file, call }
    worker.postMessage(request, call.kind === 'append' ? [call.chunk.buffer] : [])
    return promise
  }

  /** Ends the thread. Calls that wait fail. */
  async close(): Promise<void> {
    this.#cancelIdle?.()
    const worker = this.#worker
    if (worker === undefined) return
    // From now on a call starts another one.
    this.#lose(worker, 'it was ended')
    await worker.terminate()
  }

  #start(): Worker {
    this.#cancelIdle?.()
    this.#cancelIdle = undefined
    if (this.#worker !== undefined) return this.#worker
    // Nothing of the node's environment or flags: this is about files only.
    const worker = new Worker(new URL('./transfer-worker.ts', import.meta.url), {
      env: workerEnvironment(),
      execArgv: [],
    })
    this.#worker = worker
    worker.on('message', (reply: TransferReply) => this.#settle(worker, reply))
    worker.on('error', error => this.#lose(worker, error.message))
    worker.on('exit', () => this.#lose(worker, 'it ended'))
    return worker
  }

  #settle(worker: Worker, reply: TransferReply): void {
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if ('error' in reply) waiting?.reject(failure(reply.error, reply.errno))
    else waiting?.resolve(reply.answer as never)
    // The process may end while nothing is being written.
    if (this.#waiting.size > 0) return
    worker.unref()
    if (this.#files.size > 0) return
    this.#cancelIdle?.()
    this.#cancelIdle = this.#clock.after(TRANSFER_THREAD_IDLE_MS, () => void this.close())
  }

  #lose(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    this.#files.clear()
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(failure(`the thread that writes attachments is gone: ${reason}`))
  }
}

function failure(message: string, errno?: string): TransferThreadError {
  return new TransferThreadError({ code: 'TRANSFER_STORE', ...(errno === undefined ? {} : { errno }) }, message)
}
