/**
 * Log lines as a collaborator: structured, levelled, scoped by module path. Never put a prompt, a key or a user's
 * address into a line.
 */
import type { Clock } from './clock.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** Facts beside the message. Values must be plain: they are printed as JSON. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** A logger whose scope is this one's and `name`, joined by a colon. */
  child(name: string): Logger
}

export type LogOptions = { readonly level: LogLevel; readonly format: 'text' | 'json' }

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 }

/** Writes one line per event through `write` (given without a line end). */
export function createLogger(
  deps: { readonly clock: Clock; readonly write: (line: string) => void },
  options: LogOptions,
): Logger {
  const make = (scope: string): Logger => {
    const log = (level: LogLevel, message: string, fields: LogFields = {}): void => {
      if (RANK[level] < RANK[options.level]) return
      const time = new Date(deps.clock.now()).toISOString()
      if (options.format === 'json') {
        deps.write(JSON.stringify({ time, level, scope, message, ...fields }))
        return
      }
      const facts = Object.entries(fields).filter(([, value]) => value !== undefined)
      const tail = facts.map(([key, value]) => ` ${key}=${String(value)}`).join('')
      deps.write(`${time.slice(11, 23)} ${level.padEnd(5)} ${scope}: ${message}${tail}`)
    }
    return {
      debug: (message, fields) => log('debug', message, fields),
      info: (message, fields) => log('info', message, fields),
      warn: (message, fields) => log('warn', message, fields),
      error: (message, fields) => log('error', message, fields),
      child: name => make(scope === '' ? name : `${scope}:${name}`),
    }
  }
  return make('')
}

/** Says nothing. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
}
