/** A program that runs in a namespace: its lines, its end, and the certainty that it ends with the test. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { BoundedQueue, systemClock, withDeadline } from '#base'
import { LINE_LENGTH_MAX, LINE_TIMEOUT_MS, LINES_WAITING_MAX, STDERR_LENGTH_MAX } from './limits.ts'
import { inside } from './shell.ts'

export type RunOptions = {
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

export type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

export type LabProcess = {
  readonly pid: number
  /** Lines of standard output, for one reader. It throws where too many or too long lines wait. */
  readonly lines: AsyncIterable<string>
  /** The next line, or undefined at the end. Throws after `timeoutMs` (30 s). */
  readonly nextLine: (options?: { readonly timeoutMs?: number }) => Promise<string | undefined>
  /** Writes to standard input. */
  readonly write: (text: string) => void
  /** Ends standard input. */
  readonly endInput: () => void
  /** The end of standard error so far. */
  readonly stderr: () => string
  /** Sends a signal to the program and what it started, SIGKILL by default. */
  readonly kill: (signal?: NodeJS.Signals) => void
  readonly ended: Promise<Ended>
}

/** Starts a program in a namespace. The kernel kills it when this process dies, however that comes about. */
export function runInside(namespace: string, argv: readonly string[], options: RunOptions = {}): LabProcess {
  const [program = '', ...args] = inside(namespace, ['setpriv', '--pdeathsig', 'KILL', '--', ...argv])
  const child = spawn(program, args, {
    stdio: 'pipe',
    // A group of its own, so that what it starts ends with it.
    detached: true,
    env: { ...process.env, ...options.env },
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  })
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal }))
  })
  child.stdin.on('error', () => undefined) // A program that has ended does not read; its exit says so.
  const kill = (signal: NodeJS.Signals = 'SIGKILL'): void => killGroup(child, signal)
  const lines = readLines(child, kill)
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (part: string) => (stderr = (stderr + part).slice(-STDERR_LENGTH_MAX)))
  return {
    pid: child.pid ?? 0,
    lines,
    nextLine: ({ timeoutMs = LINE_TIMEOUT_MS } = {}) =>
      withDeadline(systemClock, { what: `a line of ${argv.join(' ')}`, timeoutMs }, signal => lines.take({ signal })),
    write: text => void child.stdin.write(text),
    endInput: () => void child.stdin.end(),
    stderr: () => stderr,
    kill,
    ended,
  }
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

function killGroup(child: Child, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // The whole group has ended.
  }
}

function readLines(child: Child, kill: () => void): BoundedQueue<string> {
  const queue = new BoundedQueue<string>(LINES_WAITING_MAX)
  const refuse = (why: string): void => {
    queue.end(new Error(why))
    kill()
  }
  let unfinished = 0
  child.stdout.on('data', (part: Uint8Array) => {
    const newline = part.lastIndexOf(10)
    unfinished = newline < 0 ? unfinished + part.length : part.length - newline - 1
    if (unfinished > LINE_LENGTH_MAX) refuse('a line without an end')
  })
  createInterface({ input: child.stdout })
    .on('line', line => {
      if (!queue.push(line)) refuse('more lines than anybody reads')
    })
    .on('close', () => queue.end())
  return queue
}
