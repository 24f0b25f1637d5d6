/**
 * How OpenAI's two APIs word the same events of a completion. One `Wording` serves one request: it remembers how far
 * each choice has come.
 */
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
  ChatTopLogprob,
  FinishReason,
  OpenAiUsage,
  TextCompletion,
  TextLogprobs,
  TokenInfo,
  TokenLogprob,
} from '#wire'

/** What all pieces of one answer share. */
export type Head = { readonly id: string; readonly created: number; readonly model: string }

/** A choice that is complete. */
export type Choice = {
  readonly index: number
  readonly text: string
  readonly tokens: readonly TokenInfo[]
  readonly reason: FinishReason
}

type Delta = { readonly text: string; readonly tokens: readonly TokenInfo[] }

/** A chunk without its usage, which the stream adds. */
type Chunk = Omit<ChatCompletionChunk, 'usage'> | Omit<TextCompletion, 'usage'>

export interface Wording {
  /** The answer in one piece. */
  whole(choices: readonly Choice[], usage: OpenAiUsage): ChatCompletion | TextCompletion
  /** The first chunk of a choice, where the API has one. */
  start(index: number): Chunk | undefined
  /** Undefined where there is nothing to say yet. */
  delta(index: number, delta: Delta): Chunk | undefined
  end(index: number, reason: FinishReason): Chunk
  /** The chunk that carries the usage alone. */
  last(): Chunk
}

export function chatWording(head: Head, options: { readonly hasLogprobs: boolean }): Wording {
  const logprobsOf = (tokens: readonly TokenInfo[]): ChatLogprobs | null =>
    options.hasLogprobs ? chatLogprobs(tokens) : null
  const chunk = (choices: ChatCompletionChunk['choices']): Chunk => ({
    id: head.id,
    object: 'chat.completion.chunk',
    created: head.created,
    model: head.model,
    choices,
  })
  return {
    whole: (choices, usage) => ({
      id: head.id,
      object: 'chat.completion',
      created: head.created,
      model: head.model,
      choices: choices.map(choice => ({
        index: choice.index,
        message: { role: 'assistant', content: choice.text, refusal: null },
        logprobs: logprobsOf(choice.tokens),
        finish_reason: choice.reason,
      })),
      usage,
    }),
    start: index => chunk([{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]),
    delta: (index, { text, tokens }) => {
      const logprobs = logprobsOf(tokens)
      if (text === '' && (logprobs === null || logprobs.content.length === 0)) return undefined
      return chunk([{ index, delta: { content: text }, logprobs, finish_reason: null }])
    },
    end: (index, reason) => chunk([{ index, delta: {}, logprobs: null, finish_reason: reason }]),
    last: () => chunk([]),
  }
}

export function textWording(head: Head, options: { readonly hasLogprobs: boolean }): Wording {
  /** Characters that the tokens of each choice made so far. */
  const offsets = new Map<number, number>()
  const logprobsOf = (index: number, tokens: readonly TokenInfo[]): TextLogprobs | null => {
    if (!options.hasLogprobs) return null
    const offset = offsets.get(index) ?? 0
    const logprobs = textLogprobs(tokens, offset)
    offsets.set(
      index,
      logprobs.tokens.reduce((end, text) => end + text.length, offset),
    )
    return logprobs
  }
  const piece = (choices: TextCompletion['choices']): Omit<TextCompletion, 'usage'> => ({
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: head.model,
    choices,
  })
  return {
    whole: (choices, usage) => ({
      ...piece(
        choices.map(({ index, text, tokens, reason }) => ({
          index,
          text,
          logprobs: logprobsOf(index, tokens),
          finish_reason: reason,
        })),
      ),
      usage,
    }),
    start: () => undefined,
    delta: (index, { text, tokens }) => {
      const logprobs = logprobsOf(index, tokens)
      if (text === '' && (logprobs === null || logprobs.tokens.length === 0)) return undefined
      return piece([{ index, text, logprobs, finish_reason: null }])
    },
    end: (index, reason) => piece([{ index, text: '', logprobs: null, finish_reason: reason }]),
    last: () => piece([]),
  }
}

/** JSON has no infinity; OpenAI writes -9999 for what cannot be. */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999
}

function chatLogprobs(tokens: readonly TokenInfo[]): ChatLogprobs {
  const entry = ({ text, bytes, logprob }: TokenLogprob): ChatTopLogprob => ({
    token: text,
    logprob: finite(logprob),
    bytes,
  })
  return {
    content: scored(tokens).map(({ chosen, top }) => ({ ...entry(chosen), top_logprobs: top.map(entry) })),
    refusal: null,
  }
}

function textLogprobs(tokens: readonly TokenInfo[], offset: number): TextLogprobs {
  const entries = scored(tokens)
  let end = offset
  const textOffset = entries.map(({ chosen }) => {
    const start = end
    end += chosen.text.length
    return start
  })
  return {
    tokens: entries.map(({ chosen }) => chosen.text),
    token_logprobs: entries.map(({ chosen }) => finite(chosen.logprob)),
    top_logprobs: entries.every(({ top }) => top.length === 0) ? null : entries.map(({ top }) => byText(top)),
    text_offset: textOffset,
  }
}

/** Parts of characters share the text U+FFFD; the most likely of them, which comes first, keeps the name. */
function byText(top: readonly TokenLogprob[]): Readonly<Record<string, number>> {
  return Object.fromEntries(top.toReversed().map(({ text, logprob }) => [text, finite(logprob)]))
}

type Scored = { readonly chosen: TokenLogprob; readonly top: readonly TokenLogprob[] }

function scored(tokens: readonly TokenInfo[]): readonly Scored[] {
  return tokens.flatMap(({ logprob, top }) => (logprob === undefined ? [] : [{ chosen: logprob, top: top ?? [] }]))
}
