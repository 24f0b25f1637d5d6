/**
 * From OpenAI's requests, already checked by their schemas, to what a node takes. OpenAI's defaults are filled in here,
 * for the HTTP API and for the commands of peers alike.
 */
import type { Random } from '#base'
import type {
  ChatMessage,
  CheckedChatRequest,
  CheckedTextRequest,
  CompletionRequest,
  Prompt,
  SamplingOptions,
} from '#wire'

/** OpenAI's default for `POST /v1/completions`; chat has none and goes on to the end of the context. */
const TEXT_TOKENS_DEFAULT = 16

/** llama.cpp's default. */
const PENALTY_TOKENS_DEFAULT = 64

/** One request per choice, in the order of their indices: `n` for each prompt. Never empty. */
export type ChoiceRequests = readonly CompletionRequest[]

export function fromChatRequest(body: CheckedChatRequest, random: Random): ChoiceRequests {
  const tokensMax = body.max_completion_tokens ?? body.max_tokens
  const topLogprobs = body.logprobs === true ? (body.top_logprobs ?? 0) : undefined
  return toChoices(body, [{ kind: 'chat', messages: body.messages.map(toMessage) }], {
    random,
    ...(typeof tokensMax === 'number' && { tokensMax }),
    ...(topLogprobs !== undefined && { topLogprobs }),
  })
}

export function fromTextRequest(body: CheckedTextRequest, random: Random): ChoiceRequests {
  return toChoices(body, toPrompts(body.prompt), {
    random,
    tokensMax: body.max_tokens ?? TEXT_TOKENS_DEFAULT,
    ...(typeof body.logprobs === 'number' && { topLogprobs: body.logprobs }),
  })
}

type Fields = Pick<
  CheckedTextRequest,
  | 'model'
  | 'temperature'
  | 'top_p'
  | 'top_k'
  | 'min_p'
  | 'repeat_penalty'
  | 'repeat_last_n'
  | 'presence_penalty'
  | 'frequency_penalty'
  | 'seed'
  | 'logit_bias'
  | 'stop'
  | 'n'
>

function toChoices(
  body: Fields,
  prompts: readonly Prompt[],
  options: { readonly random: Random; readonly tokensMax?: number; readonly topLogprobs?: number },
): ChoiceRequests {
  const { random, ...rest } = options
  const stop = (typeof body.stop === 'string' ? [body.stop] : (body.stop ?? [])).filter(text => text !== '')
  const seed = toSeed(body.seed, random)
  const count = body.n ?? 1
  return prompts.flatMap(prompt =>
    // The choices of one prompt must differ, and the first must be the one that n = 1 gives.
    Array.from({ length: count }, (_, i) => ({
      model: body.model,
      prompt,
      sampling: toSampling(body, (seed + i) >>> 0),
      stop,
      ...rest,
    })),
  )
}

/** Any integer is folded to 32 bits; none, or llama.cpp's -1, draws one. */
function toSeed(seed: number | null | undefined, random: Random): number {
  return typeof seed === 'number' && seed !== -1 ? Number(BigInt.asUintN(32, BigInt(seed))) : random.uint32()
}

function toSampling(body: Fields, seed: number): SamplingOptions {
  return {
    temperature: body.temperature ?? 1,
    topK: body.top_k ?? 0,
    topP: body.top_p ?? 1,
    minP: body.min_p ?? 0,
    repeatPenalty: body.repeat_penalty ?? 1,
    frequencyPenalty: body.frequency_penalty ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    penaltyLastN: body.repeat_last_n ?? PENALTY_TOKENS_DEFAULT,
    seed,
    ...(body.logit_bias != null && { logitBias: body.logit_bias }),
  }
}

function toMessage(message: CheckedChatRequest['messages'][number]): ChatMessage {
  const { content } = message
  return {
    // OpenAI's newer name for the same thing; no template knows it.
    role: message.role === 'developer' ? 'system' : message.role,
    // Parts are joined by a line end, as llama.cpp does for templates that take text only.
    content: typeof content === 'string' ? content : (content ?? []).map(part => part.text).join('\n'),
    ...(message.name != null && { name: message.name }),
  }
}

function toPrompts(prompt: CheckedTextRequest['prompt']): readonly Prompt[] {
  if (typeof prompt === 'string') return [{ kind: 'text', text: prompt }]
  const items: readonly (string | number | readonly number[])[] = prompt
  const tokens = items.filter(item => typeof item === 'number')
  if (tokens.length > 0) return [{ kind: 'tokens', tokens }]
  return items.flatMap((item): Prompt[] => {
    if (typeof item === 'string') return [{ kind: 'text', text: item }]
    return typeof item === 'number' ? [] : [{ kind: 'tokens', tokens: item }]
  })
}
