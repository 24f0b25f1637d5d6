/** Sees what escapes: exceptions and rejections that nobody caught, and memory. */
import { readFileSync } from 'node:fs'

/** Exceptions that nobody caught, since the last call of `take`. */
export class Escapes {
  #errors: unknown[] = []
  readonly #note = (error: unknown): void => void this.#errors.push(error)
  /** The project's timers let a process end: one that waits for nothing else would, in the middle of a case. */
  readonly #awake = setInterval(() => undefined, 1000)

  constructor() {
    process.on('uncaughtException', this.#note)
    process.on('unhandledRejection', this.#note)
  }

  /** Lets every promise that can settle do so first. */
  async take(): Promise<readonly unknown[]> {
    // Node reports a rejection after the microtasks of the turn in which it was not handled.
    for (let turn = 0; turn < 2; turn++) await new Promise(resolve => setImmediate(resolve))
    return this.#errors.splice(0)
  }

  stop(): void {
    clearInterval(this.#awake)
    process.off('uncaughtException', this.#note)
    process.off('unhandledRejection', this.#note)
  }
}

/** Bytes of memory that a process has now, and that it had at most; undefined where the system does not say (not Linux). */
export function residentBytes(pid: number | 'self'): { readonly now: number; readonly most: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8')
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1])
    return { now: kib('VmRSS') * 1024, most: kib('VmHWM') * 1024 }
  } catch {
    return undefined
  }
}
