/** From a request's prompt to the model's tokens. */
import type { EdgeEngine, EdgeReport } from '#engine'
import type { ChatMessage, Prompt } from '#wire'
import { NodeError } from './errors.ts'

export type PromptDeps = {
  readonly edge: Pick<EdgeEngine, 'tokenize'>
  readonly report: Pick<EdgeReport, 'bosText' | 'vocabularySize'>
  /** Renders with the model's own template, up to where its answer begins. */
  readonly renderChat: (messages: readonly ChatMessage[], signal: AbortSignal) => Promise<string>
}

/** @throws NodeError NODE_PROMPT_INVALID; FormatError of a template that fails */
export async function toTokens(deps: PromptDeps, prompt: Prompt, signal: AbortSignal): Promise<Int32Array> {
  const tokens = await tokensOf(deps, prompt, signal)
  if (tokens.length === 0) throw new NodeError({ code: 'NODE_PROMPT_INVALID' }, 'the prompt is empty')
  return tokens
}

async function tokensOf(deps: PromptDeps, prompt: Prompt, signal: AbortSignal): Promise<Int32Array> {
  const options = { addSpecial: true, parseSpecial: true }
  if (prompt.kind === 'tokens') return checked(prompt.tokens, deps.report.vocabularySize)
  if (prompt.kind === 'text') return deps.edge.tokenize(prompt.text, options)
  const text = await deps.renderChat(prompt.messages, signal)
  const tokens = await deps.edge.tokenize(text, options)
  // The tokenizer adds a begin token where the vocabulary asks for it; many templates write one themselves.
  const { bosText } = deps.report
  const isDoubled = bosText !== '' && text.startsWith(bosText) && tokens.length > 1 && tokens[0] === tokens[1]
  return isDoubled ? tokens.subarray(1) : tokens
}

function checked(tokens: readonly number[], vocabularySize: number): Int32Array {
  const wrong = tokens.find(token => !Number.isInteger(token) || token < 0 || token >= vocabularySize)
  if (wrong === undefined) return Int32Array.from(tokens)
  const text = `token ${wrong} is not in the model's vocabulary of ${vocabularySize}`
  throw new NodeError({ code: 'NODE_PROMPT_INVALID' }, text)
}
