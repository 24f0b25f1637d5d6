/** Runs the tools that make namespaces and rules, one call at a time, each with a bound on its time and its output. */
import { spawn } from 'node:child_process'
import { COMMAND_OUTPUT_BYTES_MAX, COMMAND_TIMEOUT_MS } from './limits.ts'

export type Finished = { readonly code: number | null; readonly stdout: string; readonly stderr: string }

/** Runs a program to its end. It is killed where it takes too long or prints too much. */
export function finish(argv: readonly string[], options: { readonly input?: string } = {}): Promise<Finished> {
  const [program = '', ...args] = argv
  const { promise, resolve, reject } = Promise.withResolvers<Finished>()
  const child = spawn(program, args, { stdio: 'pipe', timeout: COMMAND_TIMEOUT_MS, killSignal: 'SIGKILL' })
  const text = { stdout: '', stderr: '' }
  const keep = (name: 'stdout' | 'stderr') => (part: string) => {
    text[name] += part
    if (text[name].length > COMMAND_OUTPUT_BYTES_MAX) child.kill('SIGKILL')
  }
  child.stdout.setEncoding('utf8').on('data', keep('stdout'))
  child.stderr.setEncoding('utf8').on('data', keep('stderr'))
  child.stdin.on('error', () => undefined) // A program that ended before it read all says so with its exit code.
  child.stdin.end(options.input ?? '')
  child.on('error', reject)
  child.on('close', code => resolve({ code, ...text }))
  return promise
}

/** Runs a program that must succeed; returns what it printed. */
export async function must(argv: readonly string[], options: { readonly input?: string } = {}): Promise<string> {
  const { code, stdout, stderr } = await finish(argv, options)
  if (code === 0) return stdout
  throw new Error(`${argv.join(' ')} ended with ${code}: ${stderr.slice(0, 2_000)}`)
}

/** Runs `ip` commands in a namespace, all in one process; the first that fails ends it. */
export async function ip(namespace: string, commands: readonly string[]): Promise<void> {
  if (commands.length > 0) await must(['ip', '-n', namespace, '-batch', '-'], { input: `${commands.join('\n')}\n` })
}

/** The command line that runs another in a namespace: an exec, so the process keeps its id. */
export function inside(namespace: string, argv: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${namespace}`, '--', ...argv]
}
