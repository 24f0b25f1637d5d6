/**
 * One life of one engine child process, as the node sees it: start, requests, end. What to do after a crash is the
 * supervisor's business.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { getCompileCacheDir } from 'node:module'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Duplex } from 'node:stream'
import { type CancelTimer, type Clock, KoinonError } from '#base'
import { MessageReader, sendMessage } from './child/frames.ts'
import {
  byteLengthOf,
  type ChildRole,
  decodeJson,
  type FailureReport,
  KIND,
  type Kind,
  type Message,
} from './child/protocol.ts'
import { EngineError, type EngineFault } from './errors.ts'
import {
  CHILD_FRAME_BYTES_MAX,
  CHILD_HEAP_BYTES_MAX,
  CHILD_IDLE_AFTER_MS,
  CHILD_REQUEST_MS_MAX,
  CHILD_START_MS_MAX,
  CHILD_STDERR_BYTES_MAX,
  CHILD_STOP_MS_MAX,
  CHILD_WAITING_BYTES_MAX,
  CHILD_WAITING_MAX,
} from './limits.ts'
import type { SandboxRequest } from './sandbox/policy.ts'
import { type ProcessorLimits, watchProcessorTime } from './sandbox/processor-time.ts'
import type { EngineOptions } from './types.ts'

export type ChildSpec = { readonly role: ChildRole; readonly options: EngineOptions }

/** @property processor what the child may use of the processors @default PROCESSOR_LIMITS */
export type ChildDeps = { readonly clock: Clock; readonly processor?: ProcessorLimits }

/** Absolute paths of what one child may open; the files to write exist already. */
export type ChildFiles = { readonly reads: readonly string[]; readonly writes?: readonly string[] }

export type RequestOptions = {
  /** What the child says before its answer. Each renews the time limit. */
  readonly onEvent?: (payload: Uint8Array) => void
  /** @default CHILD_REQUEST_MS_MAX */
  readonly timeoutMs?: number
}

type Waiting = {
  readonly resolve: (payload: Uint8Array) => void
  readonly reject: (error: Error) => void
  readonly onEvent: ((payload: Uint8Array) => void) | undefined
  readonly timeoutMs: number
  /** Clock.monotonic() when it will have waited too long. */
  deadlineAt: number
}

const ENTRY = fileURLToPath(new URL('./child/main.ts', import.meta.url))
/** What takes rights away first. Elsewhere than on Linux a child has none taken. */
const LAUNCHER = fileURLToPath(new URL('./sandbox/launch.ts', import.meta.url))

export class EngineChild {
  readonly #clock: Clock
  readonly #process: ChildProcess
  readonly #pipe: Duplex
  readonly #waiting = new Map<number, Waiting>()
  readonly #reader = new MessageReader(CHILD_FRAME_BYTES_MAX)
  readonly #ready = Promise.withResolvers<void>()
  #nextId = 1
  /** Clock.monotonic() of the last answer; at first of the start. */
  #answeredAt: number
  readonly #cancelProcessorWatch: CancelTimer
  /** When the deadlines of what waits are looked at next; infinity: not at all. */
  #watchAt = Number.POSITIVE_INFINITY
  #cancelWatch: CancelTimer | undefined
  #stderr = ''
  /** Why we ended it ourselves, where we did. */
  #killReason: string | undefined
  #isAskedToEnd = false
  #crash: EngineError | undefined
  /** Resolves when the process is gone: with the crash, or with undefined where it was asked to end. */
  readonly ended: Promise<EngineError | undefined>

  /** Starts the process. Await `ready()` before the first request. */
  constructor(deps: ChildDeps, spec: ChildSpec, files: ChildFiles = { reads: [] }) {
    this.#clock = deps.clock
    this.#answeredAt = deps.clock.monotonic()
    this.#process = spawn(process.execPath, argumentsOf(spec, files), {
      // `overlapped` is what an asynchronous pipe is called on Windows; elsewhere it means `pipe`. The last one is the
      // lifeline: nothing is written to it, it ends with this process.
      stdio: ['ignore', 'pipe', 'pipe', 'overlapped', 'overlapped'],
      env: childEnvironment(spec.role),
      windowsHide: true,
    })
    this.#pipe = this.#process.stdio[3] as Duplex
    this.#process.stdout?.resume()
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-CHILD_STDERR_BYTES_MAX)
    })
    this.#pipe.on('data', (piece: Buffer) => this.#onData(piece))
    // A broken pipe says less than the end of the process, which follows.
    this.#pipe.on('error', () => this.#process.kill('SIGKILL'))
    this.#process.stdio[4]?.on('error', () => undefined)
    this.ended = new Promise(resolve => {
      this.#process.once('error', cause => {
        if (this.#process.pid !== undefined) return
        resolve(this.#end(new EngineError({ code: 'ENGINE_START_FAILED', reason: cause.message }, cause.message)))
      })
      // `close` comes after `exit` and the last of stderr.
      this.#process.once('close', (exitCode, signal) => resolve(this.#end(this.#crashOf(exitCode, signal))))
    })
    this.#cancelProcessorWatch = watchProcessorTime(deps, {
      pid: this.pid,
      threads: spec.options.threads,
      wasAsked: () => this.#waiting.size > 0 || this.#clock.monotonic() - this.#answeredAt < CHILD_IDLE_AFTER_MS,
      onExceeded: reason => this.kill(reason),
    })
  }

  /** 0 where the process could not be started. */
  get pid(): number {
    return this.#process.pid ?? 0
  }

  /** Whether it takes no more requests: it was told to end, or has. */
  get isEnding(): boolean {
    return this.#isAskedToEnd || this.#crash !== undefined
  }

  /** @throws EngineError where it does not start */
  async ready(): Promise<void> {
    const cancel = this.#clock.after(CHILD_START_MS_MAX, () => this.kill(`did not start in ${CHILD_START_MS_MAX} ms`))
    try {
      await this.#ready.promise
    } finally {
      cancel()
    }
  }

  /** @throws EngineError what the child answered, ENGINE_CRASHED, ENGINE_BUSY or ENGINE_REQUEST_TOO_LARGE */
  request(kind: Kind, payload: readonly Uint8Array[], options: RequestOptions = {}): Promise<Uint8Array> {
    const refusal = this.#refusal(payload)
    if (refusal !== undefined) return Promise.reject(refusal)
    const id = this.#nextId++
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
    const timeoutMs = options.timeoutMs ?? CHILD_REQUEST_MS_MAX
    const deadlineAt = this.#clock.monotonic() + timeoutMs
    this.#waiting.set(id, { resolve, reject, onEvent: options.onEvent, timeoutMs, deadlineAt })
    sendMessage(this.#pipe, { id, kind }, payload)
    this.#watch(deadlineAt)
    return promise
  }

  /** Asks it to end by closing the pipe, and kills it where it does not. Resolves when it is gone. */
  async end(): Promise<void> {
    this.#isAskedToEnd = true
    this.#pipe.end()
    const cancel = this.#clock.after(CHILD_STOP_MS_MAX, () => this.#process.kill('SIGKILL'))
    await this.ended
    cancel()
  }

  /** Ends it now. @param reason what it did wrong, for its crash report; undefined: nothing, it is not a crash */
  kill(reason: string | undefined): void {
    if (reason === undefined) this.#isAskedToEnd = true
    else this.#killReason = reason
    this.#process.kill('SIGKILL')
  }

  #refusal(payload: readonly Uint8Array[]): EngineError | undefined {
    if (this.#crash !== undefined) return this.#crash
    if (this.#isAskedToEnd) return stopped()
    const bytes = byteLengthOf(payload)
    if (bytes > CHILD_FRAME_BYTES_MAX) {
      return new EngineError(
        { code: 'ENGINE_REQUEST_TOO_LARGE', bytes, bytesMax: CHILD_FRAME_BYTES_MAX },
        `a request of ${bytes} bytes is too large for an engine: ${CHILD_FRAME_BYTES_MAX} are accepted`,
      )
    }
    const waiting = this.#waiting.size
    if (waiting < CHILD_WAITING_MAX && this.#pipe.writableLength + bytes <= CHILD_WAITING_BYTES_MAX) return undefined
    return new EngineError({ code: 'ENGINE_BUSY', waiting }, `the engine is busy: ${waiting} requests wait for it`)
  }

  /**
   * Sees to it that somebody looks at the deadlines when this one is due. One timer for all that wait: steps come and go
   * by the dozen in the time of the shortest.
   */
  #watch(deadlineAt: number): void {
    if (this.#watchAt <= deadlineAt) return
    this.#cancelWatch?.()
    this.#watchAt = deadlineAt
    this.#cancelWatch = this.#clock.after(deadlineAt - this.#clock.monotonic(), () => this.#checkDeadlines())
  }

  #checkDeadlines(): void {
    this.#watchAt = Number.POSITIVE_INFINITY
    const now = this.#clock.monotonic()
    const waiting = [...this.#waiting.values()]
    const late = waiting.find(({ deadlineAt }) => deadlineAt <= now)
    if (late !== undefined) this.kill(`gave no answer for ${late.timeoutMs} ms`)
    else if (waiting.length > 0) this.#watch(Math.min(...waiting.map(({ deadlineAt }) => deadlineAt)))
  }

  #onData(piece: Buffer): void {
    try {
      for (const message of this.#reader.push(piece)) this.#onMessage(message)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      this.kill(`sent ${error.message}`)
    }
  }

  #onMessage({ id, kind, payload }: Message): void {
    if (kind === KIND.ready) this.#ready.resolve()
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    if (kind === KIND.event) {
      waiting.deadlineAt = this.#clock.monotonic() + waiting.timeoutMs
      waiting.onEvent?.(payload)
      return
    }
    this.#waiting.delete(id)
    this.#answeredAt = this.#clock.monotonic()
    if (kind === KIND.reply) {
      waiting.resolve(payload)
    } else {
      waiting.reject(toError(decodeJson(payload) as FailureReport))
    }
  }

  #crashOf(exitCode: number | null, signal: string | null): EngineError | undefined {
    if (this.#isAskedToEnd) return undefined
    const lastLine = this.#killReason ?? lastLineOf(this.#stderr)
    const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`
    const why = lastLine === '' ? '' : `: ${lastLine}`
    return new EngineError(
      { code: 'ENGINE_CRASHED', exitCode, signal, lastLine },
      `the engine process ended ${how}${why}`,
    )
  }

  /** Settles everything that waits. */
  #end(crash: EngineError | undefined): EngineError | undefined {
    this.#crash = crash
    const error = crash ?? stopped()
    this.#ready.promise.catch(() => undefined) // Nobody may be waiting for the start.
    this.#ready.reject(error)
    this.#cancelWatch?.()
    this.#cancelProcessorWatch()
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
    return crash
  }
}

/** What the child threw. Errors of this module are of its class again; others came from reading the file. */
function toError({ fault, message }: FailureReport): KoinonError {
  const isOurs = /^(?:ENGINE|EDGE)_/.test(fault.code)
  return isOurs ? new EngineError(fault as EngineFault, message) : new KoinonError(fault, message)
}

export function stopped(): EngineError {
  return new EngineError({ code: 'ENGINE_STOPPED' }, 'the engine was stopped')
}

function argumentsOf({ role, options }: ChildSpec, { reads, writes = [] }: ChildFiles): readonly string[] {
  const flags = [
    '--no-warnings',
    // On SIGUSR1 Node would open the inspector's port.
    '--disable-sigusr1',
    `--max-old-space-size=${CHILD_HEAP_BYTES_MAX / 2 ** 20}`,
  ]
  const command = [...flags, ENTRY, role, JSON.stringify(options)]
  if (process.platform !== 'linux') return command
  const request: SandboxRequest = { reads, writes, device: options.device, role }
  return ['--no-warnings', '--disable-sigusr1', LAUNCHER, JSON.stringify(request), process.execPath, ...command]
}

/**
 * Nothing of ours goes down to the child. Windows programs do not start without SystemRoot.
 *
 * glibc is told to ask for huge pages where it maps large blocks: weights are read from end to end for every token, and
 * with pages of 4 KiB a virtual machine walks its page tables all the way (3 to 8 % of a decoding step here, a quarter
 * of the head; docs/decisions/0003). The reference engine goes without: it runs as anyone would run it.
 */
export function childEnvironment(role: ChildRole): Record<string, string> {
  const systemRoot = process.env['SystemRoot']
  const compiled = getCompileCacheDir()
  return {
    // Node adds a folder for its own version below the one that it is told.
    ...(compiled === undefined ? {} : { NODE_COMPILE_CACHE: dirname(compiled) }),
    // ggml would start a debugger to print where it failed.
    GGML_NO_BACKTRACE: '1',
    // Node ends where OpenSSL's own settings are there but may not be read.
    ...(process.platform === 'linux' && { OPENSSL_CONF: '/dev/null' }),
    ...(role === 'reference' ? {} : { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' }),
    ...(systemRoot !== undefined && { SystemRoot: systemRoot }),
  }
}

/** What ggml said when it gave up; else the first line of an uncaught error; else the last line. */
function lastLineOf(stderr: string): string {
  const lines = stderr.split('\n').map(line => line.trim())
  const telling = lines.findLast(line =>
    /GGML_ASSERT|GGML_ABORT|FATAL ERROR|^\w*Error\b|terminate called|what\(\):/.test(line),
  )
  return (telling ?? lines.findLast(line => line !== '') ?? '').slice(0, 300)
}
