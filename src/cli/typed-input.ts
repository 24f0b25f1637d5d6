/**
 * Lines that a person types at a question, secrets among them: those do not appear on the screen. Questions go to
 * standard error, so that an answer on standard output stays alone.
 */
import { CliError, usageError } from './errors.ts'
import { TYPED_CHARS_MAX } from './limits.ts'
import type { CliDeps } from './types.ts'

type InputDeps = Pick<CliDeps, 'stdin' | 'stderr'>

const ENTER = /[\r\n]/
const INTERRUPT = '\u0003'
const END = '\u0004'
const CLEAR = '\u0015'
const ERASE = /[\b\u007f]/
/** Arrow keys and the like. */
// oxlint-disable-next-line no-control-regex -- control characters are what this is about
const KEY_SEQUENCE = /\u001b(?:\[[0-9;]*[A-Za-z~]|O[A-Z])/g

/** Whether somebody is there to be asked. */
export function canAsk({ stdin, stderr }: InputDeps): boolean {
  return stdin.isTTY === true && stdin.setRawMode !== undefined && stderr.isTty
}

/**
 * Asks one question.
 * @param options.isHidden show nothing of the answer
 * @throws CliError CLI_INTERRUPTED at Ctrl-C and Ctrl-D; CLI_USAGE where nobody is there, or the answer is too long
 */
export async function askLine(
  deps: InputDeps,
  question: string,
  options: { readonly isHidden: boolean },
): Promise<string> {
  const { stdin, stderr } = deps
  if (!canAsk(deps)) throw usageError(`nobody is at the terminal to answer "${question.trim()}"`)
  const answer = Promise.withResolvers<string>()
  const typed: string[] = []
  const take = (char: string): boolean => {
    if (ENTER.test(char)) {
      answer.resolve(typed.join(''))
      return true
    }
    if (char === INTERRUPT || (char === END && typed.length === 0)) {
      answer.reject(new CliError({ code: 'CLI_INTERRUPTED' }, 'interrupted'))
      return true
    }
    const isErasing = ERASE.test(char)
    if (isErasing || char === CLEAR) {
      const count = isErasing ? Math.min(1, typed.length) : typed.length
      typed.splice(typed.length - count)
      if (!options.isHidden) stderr.write('\b \b'.repeat(count))
      return false
    }
    if (char < ' ' && char !== '\t') return false
    typed.push(char)
    if (!options.isHidden) stderr.write(char)
    if (typed.length <= TYPED_CHARS_MAX) return false
    answer.reject(usageError(`the answer has more than ${TYPED_CHARS_MAX} characters`))
    return true
  }
  const decoder = new TextDecoder()
  const onData = (part: string | Uint8Array): void => {
    const text = typeof part === 'string' ? part : decoder.decode(part, { stream: true })
    const chars = Array.from(text.replaceAll(KEY_SEQUENCE, ''))
    const end = chars.findIndex(char => take(char))
    // What was pasted beyond this line is for the next question.
    const rest = end < 0 ? '' : chars.slice(end + 1).join('')
    if (end < 0) return
    stdin.removeListener('data', onData)
    stdin.pause()
    if (rest !== '') stdin.unshift(Buffer.from(rest))
  }
  const onEnd = (): void => answer.reject(new CliError({ code: 'CLI_INTERRUPTED' }, 'interrupted'))
  stderr.write(question)
  stdin.setRawMode?.(true)
  stdin.on('data', onData)
  stdin.once('end', onEnd)
  stdin.resume()
  try {
    return await answer.promise
  } finally {
    stdin.removeListener('data', onData)
    stdin.removeListener('end', onEnd)
    stdin.pause()
    stdin.setRawMode?.(false)
    stderr.write('\n')
  }
}

/** @throws CliError CLI_USAGE where the answer is not "yes"; CLI_INTERRUPTED */
export async function confirm(deps: InputDeps, question: string): Promise<void> {
  const answer = await askLine(deps, `${question} Type yes: `, { isHidden: false })
  if (answer.trim().toLowerCase() !== 'yes') throw usageError('not confirmed: nothing was done')
}
