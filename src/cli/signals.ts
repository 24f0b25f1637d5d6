/** Signals from outside (Ctrl-C, a service manager, a pipe whose reader went away), handed to whoever asked last. */
import { CliError } from './errors.ts'
import { EXIT } from './exit-codes.ts'
import type { CliDeps, Signals } from './types.ts'

/**
 * The reader of our output has gone away: no more than a wish that the command ends. Never SIGPIPE itself: that one comes
 * for every socket whose other end is gone, and a node must outlive its peers. Node ignores it unless somebody listens.
 */
const READER_GONE = 'end of output'

const HANDLED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Takes over the process's signals. With no listener, one ends the process as it would have without us. */
export function createSignals(owner: Pick<NodeJS.Process, 'on' | 'exit'>): Signals {
  const listeners: ((signal: string) => void)[] = []
  const raise = (signal: string): void => {
    const listener = listeners.at(-1)
    if (listener !== undefined) listener(signal)
    else owner.exit(signal === READER_GONE ? EXIT.ok : EXIT.interrupted)
  }
  for (const signal of HANDLED) owner.on(signal, () => raise(signal))
  return {
    listen: listener => {
      listeners.push(listener)
      return () => void listeners.splice(listeners.indexOf(listener), 1)
    },
    outputClosed: () => raise(READER_GONE),
  }
}

export type Interruption = {
  /** Aborts at the first signal. */
  readonly signal: AbortSignal
  /** Gives the signals back. */
  readonly done: () => void
}

type InterruptDeps = Pick<CliDeps, 'signals' | 'exit'>

/** For what cleans up when it is interrupted: the first signal asks for that, a second one ends the process at once. */
export function abortOnSignal(deps: InterruptDeps, toReason: (signal: string) => unknown): Interruption {
  const controller = new AbortController()
  const done = deps.signals.listen(signal => {
    if (!controller.signal.aborted) controller.abort(toReason(signal))
    else if (signal !== READER_GONE) deps.exit(EXIT.interrupted)
  })
  return { signal: controller.signal, done }
}

/** The same with the error that ends a command with exit code 130. */
export function interruptible(deps: InterruptDeps): Interruption {
  return abortOnSignal(deps, () => new CliError({ code: 'CLI_INTERRUPTED' }, 'interrupted'))
}
