/**
 * Keeps one engine child alive: starts it, loads it, starts and loads it again after a crash, and gives up after too
 * many. Requests that need nothing of the old process wait for the new one; the others fail at once.
 */
import { abortError, assert, type CancelTimer, type Clock, KoinonError, type Logger, messageOf } from '#base'
import type { EngineState, EngineStatus } from '#wire'
import { decodeProgress, encodeUint32 } from './child/codec.ts'
import { decodeJson, encodeJson, KIND, type Kind } from './child/protocol.ts'
import { type ChildSpec, EngineChild, stopped } from './engine-child.ts'
import { EngineError } from './errors.ts'
import { CHILD_LOAD_SILENCE_MS_MAX, CHILD_WAITING_MAX } from './limits.ts'
import { RestartPolicy } from './restart-policy.ts'
import type { LoadOptions } from './types.ts'

export type EngineDeps = { readonly clock: Clock; readonly log: Logger }

export type SupervisedRequest = {
  readonly kind: Kind
  readonly payload: readonly Uint8Array[]
  /** While the child restarts: wait for it, or fail because what the request is about went with the old one. */
  readonly duringRestart: 'wait' | 'fail'
}

type Waiter = { readonly resolve: () => void; readonly reject: (error: Error) => void }

/** What every load reports, whatever the role. */
type BaseReport = {
  readonly device: string
  readonly profile: string
  readonly sandbox: string
  readonly weightBytes: number
}

export class Supervisor<Report extends BaseReport> {
  readonly #deps: EngineDeps
  readonly #spec: ChildSpec
  readonly #policy = new RestartPolicy()
  readonly #listeners: Array<(reason: string) => void> = []
  readonly #waiters = new Set<Waiter>()
  #state: EngineState = 'stopped'
  #child: EngineChild | undefined
  /** The last load that succeeded: what a restart repeats. */
  #loaded:
    | { readonly request: { readonly file: string }; readonly report: Report & { readonly pid: number } }
    | undefined
  #isLoading = false
  #isStopped = false
  #cancelRestart: CancelTimer = () => undefined
  #lastError: KoinonError | undefined

  constructor(deps: EngineDeps, spec: ChildSpec) {
    this.#deps = deps
    this.#spec = spec
  }

  /** What the last load reported; undefined where nothing is loaded. */
  get report(): (Report & { readonly pid: number }) | undefined {
    return this.#loaded?.report
  }

  status(own: Pick<EngineStatus, 'role' | 'kvBytes'>): EngineStatus {
    const pid = this.#child?.pid
    const { report } = this
    return {
      ...own,
      state: this.#state,
      ...(pid !== undefined && { pid }),
      ...(report !== undefined && { device: report.device, profile: report.profile, sandbox: report.sandbox }),
      restarts: this.#policy.count,
      ...(this.#lastError !== undefined && { lastError: this.#lastError.message }),
      weightBytes: report?.weightBytes ?? 0,
    }
  }

  onCrash(listener: (reason: string) => void): void {
    this.#listeners.push(listener)
  }

  /**
   * Starts a child and loads. Each load has a child of its own, because what a child may read is settled before it starts.
   * A load that fails is not repeated.
   */
  async load(
    request: { readonly file: string },
    options: LoadOptions = {},
  ): Promise<Report & { readonly pid: number }> {
    if (this.#isStopped) throw stopped()
    if (this.#isLoading) throw new EngineError({ code: 'ENGINE_BUSY', waiting: 1 }, 'the engine is loading already')
    this.#cancelRestart()
    this.#policy.forgive()
    this.#loaded = undefined
    this.#state = 'starting'
    this.#isLoading = true
    try {
      return await this.#load(request, options)
    } catch (error) {
      this.#giveUp(error instanceof KoinonError ? error : undefined)
      throw error
    } finally {
      this.#isLoading = false
    }
  }

  async request({ kind, payload, duringRestart }: SupervisedRequest): Promise<Uint8Array> {
    if (this.#state === 'restarting' && duringRestart === 'wait') await this.#untilReady()
    if (this.#state !== 'ready' || this.#child === undefined) throw this.#unavailable()
    return await this.#child.request(kind, payload)
  }

  /**
   * Gives back something that the child holds. A child that is gone holds nothing, so this is no reason to fail: it is
   * what callers do when they clean up after that very crash.
   */
  async giveBack(kind: Kind, id: number): Promise<void> {
    if (this.#state !== 'ready' || this.#child === undefined) return
    const child = this.#child
    try {
      await child.request(kind, [encodeUint32(id)])
    } catch (error) {
      if (!child.isEnding) throw error
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelRestart()
    this.#state = 'stopped'
    this.#settleWaiters(stopped())
    await this.#child?.end()
  }

  async #load(request: { readonly file: string }, options: LoadOptions): Promise<Report & { readonly pid: number }> {
    const { signal, onProgress } = options
    const refuseAborted = (): void => {
      if (signal?.aborted === true) throw abortError(signal)
    }
    refuseAborted()
    // The one before holds memory until it is gone.
    await this.#child?.end()
    if (this.#isStopped) throw stopped()
    refuseAborted()
    const child = this.#start(request.file)
    // A load computes without a break, so the only way to end it early is to end the child.
    let abortedBy: Error | undefined
    const onAbort = (): void => {
      if (signal !== undefined) abortedBy = abortError(signal)
      child.kill(undefined)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      await child.ready()
      const reply = await child.request(KIND.load, [encodeJson(request)], {
        timeoutMs: CHILD_LOAD_SILENCE_MS_MAX,
        onEvent: payload => onProgress?.(...decodeProgress(payload)),
      })
      // The abort and the answer may have crossed.
      if (abortedBy !== undefined) throw abortedBy
      const report = { ...(decodeJson(reply) as Report), pid: child.pid }
      this.#loaded = { request, report }
      this.#state = 'ready'
      this.#settleWaiters()
      return report
    } catch (error) {
      throw abortedBy ?? error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #start(file: string): EngineChild {
    const child = new EngineChild(this.#deps, this.#spec, { reads: [file] })
    this.#child = child
    void child.ended.then(crash => this.#onEnded(child, crash))
    return child
  }

  #onEnded(child: EngineChild, crash: EngineError | undefined): void {
    assert(child === this.#child, 'a child starts only when the one before it is gone')
    this.#child = undefined
    if (crash === undefined || this.#isStopped) return
    this.#deps.log.warn('engine crashed', { role: this.#spec.role, pid: child.pid, reason: crash.message })
    this.#lastError = crash
    if (this.#loaded !== undefined) this.#planRestart(crash)
    for (const listener of this.#listeners) listener(crash.message)
  }

  #planRestart(crash: EngineError): void {
    const delayMs = this.#policy.crashed(this.#deps.clock.monotonic())
    if (delayMs === undefined) {
      const restarts = this.#policy.count
      const message = `the engine crashed too often and stays down; the last time: ${crash.message}`
      this.#giveUp(new EngineError({ code: 'ENGINE_FAILED', restarts }, message, { cause: crash }))
      return
    }
    this.#state = 'restarting'
    this.#cancelRestart = this.#deps.clock.after(delayMs, () => void this.#restart())
  }

  /** Never rejects: nobody waits for it. */
  async #restart(): Promise<void> {
    const { request } = this.#loaded ?? {}
    if (request === undefined || this.#isStopped) return
    this.#isLoading = true
    try {
      const { pid } = await this.#load(request, {})
      this.#deps.log.info('engine restarted', { role: this.#spec.role, pid })
    } catch (error) {
      // A crash has planned the next attempt already. What else can fail is the load itself: the file is gone, say.
      if (this.#isStopped || (error instanceof EngineError && error.code === 'ENGINE_CRASHED')) return
      this.#deps.log.error('engine cannot load again', { role: this.#spec.role, reason: messageOf(error) })
      if (error instanceof KoinonError) this.#giveUp(error)
    } finally {
      this.#isLoading = false
    }
  }

  /** The child, where there is one, stays: it is healthy, it just has nothing loaded. */
  #giveUp(error: KoinonError | undefined): void {
    this.#loaded = undefined
    this.#state = this.#isStopped || error === undefined ? 'stopped' : 'failed'
    this.#lastError = error ?? this.#lastError
    this.#settleWaiters(error ?? stopped())
  }

  #unavailable(): KoinonError {
    if (this.#isStopped) return stopped()
    if (this.#lastError !== undefined && this.#state !== 'starting') return this.#lastError
    return new EngineError({ code: 'ENGINE_NOT_LOADED' }, 'the engine has no model loaded')
  }

  #untilReady(): Promise<void> {
    const waiting = this.#waiters.size
    if (waiting >= CHILD_WAITING_MAX) {
      return Promise.reject(new EngineError({ code: 'ENGINE_BUSY', waiting }, `${waiting} requests wait for a restart`))
    }
    return new Promise((resolve, reject) => this.#waiters.add({ resolve, reject }))
  }

  #settleWaiters(error?: Error): void {
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const { resolve, reject } of waiters) {
      if (error === undefined) resolve()
      else reject(error)
    }
  }
}
