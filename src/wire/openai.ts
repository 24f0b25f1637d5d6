/**
 * OpenAI's chat, completions and models API as Koinon speaks it: zod schemas of the requests, plain types of the
 * answers. Field names are OpenAI's own. Shared by the HTTP API and by pages that call it, so it runs in a browser.
 *
 * Three kinds of field: those that are honoured, those that would change the answer but are not supported yet (refused
 * with a clear sentence, never silently dropped), and all others (ignored, as OpenAI does). `null` means "not given".
 * Source: https://platform.openai.com/docs/api-reference; top_k, min_p, repeat_penalty, repeat_last_n are llama.cpp's.
 */
import { z } from 'zod'
import {
  CHOICES_MAX,
  LOGIT_BIASES_MAX,
  MESSAGES_MAX,
  MODEL_NAME_CHARS_MAX,
  PENALTY_TOKENS_MAX,
  PROMPTS_MAX,
  STOP_CHARS_MAX,
  STOP_TEXTS_MAX,
  TOKEN_ID_MAX,
  TOP_LOGPROBS_MAX,
} from './limits.ts'

/** The code of a request that asks for something that would change the answer and is not supported yet. */
export const UNSUPPORTED_PARAMETER = 'unsupported_parameter'

/** A field that may only be absent or without effect. */
const notYet = (what: string, hasNoEffect: (value: unknown) => boolean = () => false) =>
  z
    .unknown()
    .refine(value => value === undefined || value === null || hasNoEffect(value), {
      error: `${what} is not supported yet`,
      params: { code: UNSUPPORTED_PARAMETER },
    })
    .optional()

const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0
const hasType = (value: unknown, type: string): boolean =>
  typeof value === 'object' && value !== null && 'type' in value && value.type === type

/** How the next token is chosen and when an answer ends: the same in both APIs. */
const samplingFields = {
  model: z.string().min(1).max(MODEL_NAME_CHARS_MAX),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(0).max(TOKEN_ID_MAX).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repeat_penalty: z.number().gt(0).max(10).nullish(),
  repeat_last_n: z.int().min(0).max(PENALTY_TOKENS_MAX).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  /** Any integer; -1 means "choose one", as in llama.cpp. */
  seed: z.int().nullish(),
  logit_bias: z
    .custom<Readonly<Record<string, number>>>(isLogitBias, {
      error: `expected up to ${LOGIT_BIASES_MAX} token ids, each with a number from -100 to 100`,
    })
    .nullish(),
  stop: z
    .custom<string | readonly string[]>(isStop, {
      error: `expected a text or up to ${STOP_TEXTS_MAX} texts of up to ${STOP_CHARS_MAX} characters`,
    })
    .nullish(),
  max_tokens: z.int().min(1).nullish(),
  n: z.int().min(1).max(CHOICES_MAX).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  user: z.string().nullish(),
  grammar: notYet('a grammar', value => value === ''),
  json_schema: notYet('a JSON schema'),
}

/** Text, or parts of text. Images, audio and files are refused. */
const content = z.custom<string | readonly { readonly type: 'text'; readonly text: string }[]>(isContent, {
  error: 'expected a text or a list of {"type":"text","text":...} parts; other kinds of content are not supported yet',
})

/** One message of a chat, as OpenAI writes it. */
const chatMessageSchema = z.discriminatedUnion(
  'role',
  [
    z.object({ role: z.enum(['system', 'developer', 'user']), content, name: z.string().max(200).nullish() }),
    z.object({
      role: z.literal('assistant'),
      content: content.nullish(),
      name: z.string().max(200).nullish(),
      tool_calls: notYet('a tool call', isEmptyList),
      function_call: notYet('a function call'),
    }),
  ],
  { error: 'expected one of the roles system, developer, user and assistant; tool messages are not supported yet' },
)

/** Body of `POST /v1/chat/completions`. */
export const chatCompletionRequestSchema = z
  .object({
    ...samplingFields,
    // Counted before the messages are looked at: a million bad ones must not make a million complaints.
    messages: z.array(z.unknown()).min(1).max(MESSAGES_MAX).pipe(z.array(chatMessageSchema)),
    max_completion_tokens: z.int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(TOP_LOGPROBS_MAX).nullish(),
    response_format: notYet('a response format other than text', value => hasType(value, 'text')),
    tools: notYet('calling tools', isEmptyList),
    tool_choice: notYet('calling tools', value => value === 'none' || value === 'auto'),
    functions: notYet('calling functions', isEmptyList),
    function_call: notYet('calling functions', value => value === 'none' || value === 'auto'),
    modalities: notYet(
      'an answer other than text',
      value => Array.isArray(value) && value.every(item => item === 'text'),
    ),
    audio: notYet('audio'),
    prediction: notYet('a predicted answer'),
    web_search_options: notYet('searching the web'),
  })
  .refine(body => typeof body.top_logprobs !== 'number' || body.logprobs === true, {
    path: ['top_logprobs'],
    error: 'needs logprobs to be true',
  })

/** `messages` as a caller writes them; the schema's own input type is `unknown` there. */
export type ChatCompletionRequest = Omit<z.input<typeof chatCompletionRequestSchema>, 'messages'> & {
  readonly messages: readonly z.input<typeof chatMessageSchema>[]
}
/** What the schema gives back. */
export type CheckedChatRequest = z.output<typeof chatCompletionRequestSchema>

/** Text, texts, tokens, or several lists of tokens. */
export type TextPrompt = string | readonly string[] | readonly number[] | readonly (readonly number[])[]

/** Body of `POST /v1/completions`. */
export const textCompletionRequestSchema = z.object({
  ...samplingFields,
  prompt: z.custom<TextPrompt>(isTextPrompt, {
    error: `expected a text, a list of token ids, or up to ${PROMPTS_MAX} of one of them`,
  }),
  logprobs: z.int().min(0).max(TOP_LOGPROBS_MAX).nullish(),
  best_of: notYet('choosing the best of several answers', value => value === 1),
  echo: notYet('echoing the prompt', value => value === false),
  suffix: notYet('a suffix', value => value === ''),
})
export type TextCompletionRequest = z.input<typeof textCompletionRequestSchema>
export type CheckedTextRequest = z.output<typeof textCompletionRequestSchema>

// The checks below are written by hand because a zod union describes every element that fails every alternative.

function isLogitBias(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const entries = Object.entries(value)
  return (
    entries.length <= LOGIT_BIASES_MAX &&
    entries.every(([token, bias]) => /^\d{1,8}$/.test(token) && typeof bias === 'number' && bias >= -100 && bias <= 100)
  )
}

function isStop(value: unknown): boolean {
  const texts: readonly unknown[] = Array.isArray(value) ? value : [value]
  return (
    texts.length <= STOP_TEXTS_MAX && texts.every(text => typeof text === 'string' && text.length <= STOP_CHARS_MAX)
  )
}

function isContent(value: unknown): boolean {
  if (typeof value === 'string') return true
  if (!Array.isArray(value)) return false
  const parts: readonly unknown[] = value
  return parts.every(
    part =>
      typeof part === 'object' &&
      part !== null &&
      hasType(part, 'text') &&
      'text' in part &&
      typeof part.text === 'string',
  )
}

function isTokenList(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(token => Number.isInteger(token) && token >= 0 && token <= TOKEN_ID_MAX)
  )
}

function isTextPrompt(value: unknown): boolean {
  if (typeof value === 'string' || isTokenList(value)) return true
  if (!Array.isArray(value) || value.length === 0 || value.length > PROMPTS_MAX) return false
  const prompts: readonly unknown[] = value
  return prompts.every(prompt => typeof prompt === 'string') || prompts.every(isTokenList)
}

/** Every error answer, and an error in the middle of a stream. */
export type OpenAiError = {
  readonly error: {
    readonly message: string
    readonly type: string
    /** The field that is at fault: `messages[0].content`. */
    readonly param: string | null
    readonly code: string | null
  }
}

export type OpenAiModel = {
  readonly id: string
  readonly object: 'model'
  readonly created: number
  readonly owned_by: string
  // What follows is Koinon's own.
  readonly name: string
  readonly architecture: string
  readonly layer_count: number
  readonly context_length: number
  /** Whether the nodes that are here now cover every layer. */
  readonly ready: boolean
}
export type OpenAiModelList = { readonly object: 'list'; readonly data: readonly OpenAiModel[] }

export type OpenAiUsage = {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
}

export type FinishReason = 'stop' | 'length'

/** Natural logarithms; -9999 stands for "impossible", since JSON has no infinity. */
export type ChatTopLogprob = {
  readonly token: string
  readonly logprob: number
  readonly bytes: readonly number[]
}
export type ChatLogprobs = {
  readonly content: readonly (ChatTopLogprob & { readonly top_logprobs: readonly ChatTopLogprob[] })[]
  readonly refusal: null
}

export type ChatCompletion = {
  readonly id: string
  readonly object: 'chat.completion'
  readonly created: number
  readonly model: string
  readonly choices: readonly {
    readonly index: number
    readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null }
    readonly logprobs: ChatLogprobs | null
    readonly finish_reason: FinishReason
  }[]
  readonly usage: OpenAiUsage
}

export type ChatCompletionChunk = {
  readonly id: string
  readonly object: 'chat.completion.chunk'
  readonly created: number
  readonly model: string
  /** Empty in the last chunk where usage was asked for. */
  readonly choices: readonly {
    readonly index: number
    readonly delta: { readonly role?: 'assistant'; readonly content?: string }
    readonly logprobs: ChatLogprobs | null
    readonly finish_reason: FinishReason | null
  }[]
  /** Only where `stream_options.include_usage` is set: null but in the last chunk. */
  readonly usage?: OpenAiUsage | null
}

/** One entry per token in each list. */
export type TextLogprobs = {
  readonly tokens: readonly string[]
  readonly token_logprobs: readonly number[]
  readonly top_logprobs: readonly Readonly<Record<string, number>>[] | null
  /** Where the token begins in the answer, in characters (UTF-16 units). */
  readonly text_offset: readonly number[]
}

/** A whole answer and a streamed piece have the same form. */
export type TextCompletion = {
  readonly id: string
  readonly object: 'text_completion'
  readonly created: number
  readonly model: string
  readonly choices: readonly {
    readonly index: number
    readonly text: string
    readonly logprobs: TextLogprobs | null
    readonly finish_reason: FinishReason | null
  }[]
  readonly usage?: OpenAiUsage | null
}

/** Body of `GET /healthz`. */
export type HealthReport =
  | { readonly status: 'ok' }
  | {
      readonly status: 'unavailable'
      /** A sentence for people. */
      readonly reason: string
    }
