/** Runs the real `koinon` command as its users do, in a process of its own. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { ReadyEvent, UpEvent } from '#cli'

export const COMMAND = fileURLToPath(new URL('../../bin/koinon.mjs', import.meta.url))

/** A private directory that goes away with the test. */
export function temporaryDir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'koinon-test-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export type Finished = { readonly code: number | null; readonly stdout: string; readonly stderr: string }

/** Runs a program to its end with the given standard input. */
export async function runProgram(
  command: readonly string[],
  options: { readonly input?: string; readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
): Promise<Finished> {
  const [program = '', ...args] = command
  const { cwd, env, input } = options
  const child = spawn(program, args, { stdio: 'pipe', env: { ...process.env, ...env }, ...(cwd && { cwd }) })
  const text = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text.stdout += part))
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text.stderr += part))
  child.stdin.end(input ?? '')
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, ...text }
}

/** Runs `koinon ARGS` to its end. */
export function koinon(args: readonly string[], options: { readonly input?: string } = {}): Promise<Finished> {
  return runProgram([process.execPath, COMMAND, ...args], options)
}

export type UpProcess = {
  readonly child: ChildProcessByStdio<Writable, Readable, null>
  readonly ready: ReadyEvent
  readonly events: readonly UpEvent[]
  /** Resolves with the first event of this kind, at once where it was there already. */
  readonly event: (kind: UpEvent['event']) => Promise<UpEvent>
  /** Resolves with the exit code when the process has ended. */
  readonly ended: Promise<number | null>
}

/** Starts `koinon up --json ARGS` and waits until it is ready. The node ends with the test, if not before. */
export async function koinonUp(t: TestContext, args: readonly string[]): Promise<UpProcess> {
  const child = spawn(process.execPath, [COMMAND, 'up', '--json', '--exit-with-parent', '--threads', '1', ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit').then(([code]) => code as number | null)
  t.after(async () => {
    child.stdin.end()
    await ended
  })
  child.stdin.on('error', () => undefined) // A node that has ended does not read; its exit says so.
  const events: UpEvent[] = []
  let wake = (): void => undefined
  createInterface({ input: child.stdout }).on('line', line => {
    events.push(JSON.parse(line) as UpEvent)
    wake()
  })
  const event = async (kind: UpEvent['event']): Promise<UpEvent> => {
    for (;;) {
      const found = events.find(candidate => candidate.event === kind)
      if (found !== undefined) return found
      const news = new Promise<'news'>(resolve => (wake = () => resolve('news')))
      if ((await Promise.race([news, ended])) !== 'news') {
        throw new Error(`koinon up ended before "${kind}": ${JSON.stringify(events.at(-1))}`)
      }
    }
  }
  return { child, ready: (await event('ready')) as ReadyEvent, events, event, ended }
}

/** Whether a process exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Waits, a turn of the event loop at a time, until none of the processes is there; the test's own timeout bounds it. */
export async function untilGone(pids: readonly number[]): Promise<void> {
  while (pids.some(isAlive)) await new Promise(resolve => setImmediate(resolve))
}
