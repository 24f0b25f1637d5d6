/** The terminal as a collaborator: where text goes, how wide it is, and whether colour is wanted. */
import { styleText } from 'node:util'

/** Somewhere to print: a terminal, a file or a pipe; in tests a string. */
export interface Output {
  write(text: string): void
  readonly isTty: boolean
  /** Columns of the terminal; 80 where it is none. */
  readonly columns: number
}

export type Paint = {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
  readonly cyan: (text: string) => string
}

type Environment = Readonly<Record<string, string | undefined>>

/** Colour where the output is a terminal, unless NO_COLOR is set (https://no-color.org) or the terminal is dumb. */
export function wantsColour(output: Output, env: Environment): boolean {
  const isRefused = (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb'
  const isForced = (env['FORCE_COLOR'] ?? '0') !== '0'
  return !isRefused && (output.isTty || isForced)
}

export function createPaint(isOn: boolean): Paint {
  const make = (style: 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan') => (text: string) =>
    isOn ? styleText(style, text, { validateStream: false }) : text
  return {
    bold: make('bold'),
    dim: make('dim'),
    red: make('red'),
    green: make('green'),
    yellow: make('yellow'),
    cyan: make('cyan'),
  }
}

/**
 * Text that came from elsewhere (a peer's name, a model's words), made safe to print: without the control characters
 * that could move the cursor, change colours or rename the window. Line ends and tabs stay.
 */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '')
}

const DIRECTION_MARKS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/** The same in one line, without the marks that turn the direction of text round: for names and remarks of others. */
export function oneLine(text: string): string {
  return printable(text).replace(/\s+/g, ' ').replace(DIRECTION_MARKS, '').trim()
}

/** Data for programs (`--json`), indented so that people can read it too. */
export function printJson(output: Output, value: unknown): void {
  output.write(`${JSON.stringify(value, undefined, 2)}\n`)
}

/** Output to a stream of this process. @param onClosed called once when its reader goes away (`koinon run ... | head`) */
export function createOutput(stream: NodeJS.WriteStream, onClosed: () => void): Output {
  let isClosed = false
  stream.on('error', () => {
    if (isClosed) return
    isClosed = true
    onClosed()
  })
  return {
    write: text => {
      if (!isClosed) stream.write(text)
    },
    isTty: stream.isTTY,
    get columns() {
      return stream.columns ?? 80
    },
  }
}

/** An output that keeps what was written: for tests. */
export class TextOutput implements Output {
  text = ''
  readonly isTty: boolean
  readonly columns: number

  constructor(options: { readonly isTty?: boolean; readonly columns?: number } = {}) {
    this.isTty = options.isTty ?? false
    this.columns = options.columns ?? 80
  }

  write(text: string): void {
    this.text += text
  }
}

/** JSON that is safe to print, whoever wrote it: controls and marks that JSON leaves as they are, are escaped too. */
export function jsonText(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, undefined, indent)
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
  return text.replace(/[\u007f-\u009f]/g, escape).replace(DIRECTION_MARKS, escape)
}
