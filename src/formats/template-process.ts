/**
 * The process that renders chat templates. Templates come from strangers: one may loop for ever or fill memory. A
 * worker thread does not contain that (measured: `{{ range(100000000)|length }}` makes V8 end the whole process when a
 * thread meets its heap limit), so this is a process of its own, with a small heap, no environment and no rights.
 *
 * Its deadline is its own, so a template that runs when the node is killed ends a moment later too.
 */
import { Script } from 'node:vm'
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import type { RenderCommand, RenderReply } from './template-protocol.ts'
import { isScriptTimeout, runInProcessorTime } from './template-time.ts'

let current: RenderCommand | undefined

/** Only code that runs in a script has a time limit; what it calls is under the same limit. */
const script = new Script('koinonRender()')
Object.assign(globalThis, { koinonRender: () => (current === undefined ? '' : render(current)) })

process.on('disconnect', () => process.exit(0))
process.on('message', (command: RenderCommand) => reply(answer(command)))
reply({ kind: 'ready' })

function reply(message: RenderReply): void {
  process.send?.(message)
}

function answer(command: RenderCommand): RenderReply {
  current = command
  try {
    const run = (timeout: number): unknown => script.runInThisContext({ timeout })
    const text = runInProcessorTime(run, { ...command, processorMs })
    if (typeof text !== 'string') return { kind: 'invalid', reason: 'it made no text' }
    return Buffer.byteLength(text) > command.outputBytesMax ? { kind: 'output' } : { kind: 'text', text }
  } catch (error) {
    return toReply(error)
  } finally {
    current = undefined
  }
}

function processorMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function render(command: RenderCommand): string {
  // As `transformers` reads templates: a block's own line leaves no trace in the text.
  const program = parse(tokenize(command.template, { lstrip_blocks: true, trim_blocks: true }))
  const environment = new Environment()
  const globals: Readonly<Record<string, unknown>> = {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    raise_exception: (reason: unknown) => {
      throw new Error(String(reason))
    },
    strftime_now: (format: unknown) => formatTime(String(format), command.now),
    messages: command.messages,
    add_generation_prompt: command.addGenerationPrompt,
    bos_token: command.bosText,
    eos_token: command.eosText,
  }
  for (const [name, value] of Object.entries(globals)) environment.set(name, value)
  return String(new Interpreter(environment).run(program).value)
}

/** Python's `range`, as a list. */
function range(...bounds: readonly unknown[]): number[] {
  const [first = 0, second, step = 1] = bounds.map(Number)
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  if (step === 0) throw new Error('range() with a step of 0')
  const items: number[] = []
  for (let i = start; step > 0 ? i < stop : i > stop; i += step) items.push(i)
  return items
}

function toReply(error: unknown): RenderReply {
  if (!(error instanceof Error)) return { kind: 'invalid', reason: 'it failed without a reason' }
  if (isScriptTimeout(error)) return { kind: 'timeout' }
  if (error instanceof RangeError && /invalid (string|array) length/i.test(error.message)) return { kind: 'memory' }
  return { kind: 'invalid', reason: error.message.slice(0, 300) }
}

/** Python's `strftime` for the directives that chat templates use, in UTC: equal answers on machines anywhere. */
function formatTime(format: string, now: number): string {
  const part = (options: Intl.DateTimeFormatOptions): string =>
    new Intl.DateTimeFormat('en-US', { timeZone: 'UTC', hourCycle: 'h23', ...options }).format(now)
  const two = (text: string): string => text.padStart(2, '0')
  const directives: Readonly<Record<string, () => string>> = {
    Y: () => part({ year: 'numeric' }),
    y: () => part({ year: '2-digit' }),
    m: () => two(part({ month: 'numeric' })),
    B: () => part({ month: 'long' }),
    b: () => part({ month: 'short' }),
    d: () => two(part({ day: 'numeric' })),
    A: () => part({ weekday: 'long' }),
    a: () => part({ weekday: 'short' }),
    H: () => two(part({ hour: 'numeric' })),
    M: () => two(part({ minute: 'numeric' })),
    S: () => two(part({ second: 'numeric' })),
    '%': () => '%',
  }
  return format.replaceAll(/%(-?)([a-zA-Z%])/g, (all, dash: string, letter: string) => {
    const text = directives[letter]?.() ?? all
    return dash === '' ? text : text.replace(/^0(?=.)/, '')
  })
}
