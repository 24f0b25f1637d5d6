/** Signals from outside (Ctrl-C, a service manager), handed to whoever asked for them last. */
import type { Signals } from './types.ts'

const HANDLED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Takes over the process's signals. With no listener, one ends the process as it would have without us. */
export function createSignals(owner: Pick<NodeJS.Process, 'on' | 'exit'>): Signals {
  const listeners: ((signal: string) => void)[] = []
  for (const signal of HANDLED) {
    owner.on(signal, () => {
      const listener = listeners.at(-1)
      if (listener === undefined) owner.exit(130)
      else listener(signal)
    })
  }
  return {
    listen: listener => {
      listeners.push(listener)
      return () => void listeners.splice(listeners.indexOf(listener), 1)
    },
  }
}
