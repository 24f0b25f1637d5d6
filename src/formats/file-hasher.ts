/**
 * Hashes a file in threads: the node's own thread does nothing but wait, and each core takes the next run of pieces as soon
 * as it has done one. The threads read the very file that is open, by its descriptor, so that nobody can swap it between.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { abortError } from '#base'
import { FormatError } from './errors.ts'
import type { HashAnswer, HashTask } from './hash-calls.ts'
import { HASH_RUN_PIECES, HASH_THREADS_MAX } from './limits.ts'
import { HASH_BYTES, type HashedFile, LEAF_BYTES, PIECE_BYTES, PieceTree, pieceCount } from './pieces.ts'
import { workerEnvironment } from './worker-environment.ts'

export type HashOptions = {
  readonly signal?: AbortSignal
  /** Bytes hashed so far, and in all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  /** 1 to 4. @default one for each core, at most 4 */
  readonly threads?: number
}

/**
 * @param file.descriptor of a regular file; must stay open until this has ended @param file.size bytes, at least 1
 * @throws FormatError FORMAT_GGUF_TRUNCATED where the file became shorter; the signal's reason; what reading said
 */
export async function hashOpenFile(
  file: { readonly descriptor: number; readonly size: number },
  options: HashOptions = {},
): Promise<HashedFile> {
  const { signal, onProgress } = options
  if (signal !== undefined) refuseAborted(signal)
  const { descriptor, size } = file
  const pieces = pieceCount(size)
  const task: HashTask = {
    descriptor,
    size,
    next: new SharedArrayBuffer(4),
    layer: new SharedArrayBuffer(pieces * HASH_BYTES),
    leaves: new SharedArrayBuffer(Math.ceil(size / LEAF_BYTES) * HASH_BYTES),
  }
  const wanted = options.threads ?? availableParallelism()
  const runs = Math.ceil(pieces / HASH_RUN_PIECES)
  let doneBytes = 0
  const onRun = (bytes: number): void => {
    doneBytes += bytes
    onProgress?.(doneBytes, size)
  }
  const threads = Array.from({ length: Math.max(1, Math.min(wanted, HASH_THREADS_MAX, runs)) }, () =>
    startThread(task, onRun),
  )
  const stop = (): void => {
    Atomics.store(new Int32Array(task.next), 0, pieces)
  }
  signal?.addEventListener('abort', stop, { once: true })
  // All of them have ended before anything else happens: the descriptor is closed afterwards.
  const failures: Error[] = []
  const settled = threads.map(thread =>
    thread.catch((error: Error) => {
      failures.push(error)
      stop()
    }),
  )
  await Promise.all(settled)
  signal?.removeEventListener('abort', stop)
  if (signal !== undefined) refuseAborted(signal)
  if (failures[0] !== undefined) throw failures[0]
  // Copied out of the shared memory: what is handed on is nobody else's.
  return { tree: new PieceTree(new Uint8Array(task.layer).slice(), size), leaves: new Uint8Array(task.leaves) }
}

function refuseAborted(signal: AbortSignal): void {
  if (signal.aborted) throw abortError(signal)
}

function startThread(task: HashTask, onRun: (bytes: number) => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // Nothing of the node's environment or flags: this is about reading only.
  const worker = new Worker(new URL('./hash-worker.ts', import.meta.url), {
    env: workerEnvironment(),
    execArgv: [],
    workerData: task,
  })
  let failure: Error | undefined
  worker.on('message', (answer: HashAnswer) => {
    if (answer.kind === 'run') onRun(answer.bytes)
    else failure = answer.kind === 'short' ? becameShorter(answer.size) : new Error(answer.reason)
  })
  worker.on('error', error => (failure ??= error instanceof Error ? error : new Error(String(error))))
  worker.on('exit', code => {
    if (failure === undefined && code === 0) resolve()
    else reject(failure ?? new Error(`a thread that hashes ended with ${code}`))
  })
  return promise
}

/** @param size bytes that are there now */
export function becameShorter(size: number): FormatError {
  return new FormatError(
    { code: 'FORMAT_GGUF_TRUNCATED', offset: size, size },
    `the file became shorter while it was read: it ends at byte ${size} now`,
  )
}

/** Below this a file is hashed sooner than threads have started. */
export const THREADED_BYTES_MIN = 16 * PIECE_BYTES
