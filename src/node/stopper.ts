/** Takes a node apart: in the opposite order of its making, each part with a bound, and all of them even if one fails. */
import { type Clock, type Logger, messageOf, withDeadline } from '#base'
import { NodeError } from './errors.ts'
import { STOP_MS_MAX } from './limits.ts'

export class Stopper {
  readonly #deps: { readonly clock: Clock; readonly log: Logger }
  readonly #controller = new AbortController()
  readonly #parts: { readonly what: string; readonly stop: () => void | Promise<void> }[] = []
  readonly #drains: (() => Promise<unknown>)[] = []
  #isDraining = false
  #drained: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#deps = deps
  }

  /** Aborts as soon as the stop begins. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Whether nothing new is begun any more. */
  get isDraining(): boolean {
    return this.#isDraining
  }

  /** @param what the part, for the log */
  add(what: string, stop: () => void | Promise<void>): void {
    this.#parts.push({ what, stop })
  }

  /** What is to come to its end, within a bound of its own, before anything is stopped. It takes nothing new from then on. */
  addDrain(drain: () => Promise<unknown>): void {
    this.#drains.push(drain)
  }

  /** Resolves when everything that ran has come to its end, or its time is up. Idempotent. */
  drain(): Promise<void> {
    this.#isDraining = true
    this.#drained ??= Promise.allSettled(this.#drains.map(drain => drain())).then(() => undefined)
    return this.#drained
  }

  /** Resolves when every part is gone or was given up on. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    await this.drain()
    this.#controller.abort(new NodeError({ code: 'NODE_STOPPED' }, 'the node is stopping'))
    for (const { what, stop } of this.#parts.toReversed()) {
      try {
        await withDeadline(this.#deps.clock, { what: `stopping ${what}`, timeoutMs: STOP_MS_MAX }, async () => stop())
      } catch (error) {
        // The other parts must still go: engines hold memory, the lock holds the data directory.
        this.#deps.log.error('a part did not stop', { part: what, reason: messageOf(error) })
      }
    }
  }
}
