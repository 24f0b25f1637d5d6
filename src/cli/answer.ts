/** One answer, from a request to text on the terminal with its figures. */
import { abortError, type Clock } from '#base'
import type { ChatMessage, CompletionEvent, CompletionRequest, RouteHop, SamplingOptions, Usage } from '#wire'
import { CliError } from './errors.ts'
import { printable } from './terminal.ts'
import { countOf, formatDuration, formatRate } from './units.ts'

/** Anything that answers: a running node over its socket, or one in this process. */
export type Complete = (
  request: CompletionRequest,
  options: { readonly signal: AbortSignal },
) => AsyncGenerator<CompletionEvent>

export type Answer = {
  readonly text: string
  readonly reason: 'stop' | 'length'
  readonly model: string
  readonly route: readonly RouteHop[]
  readonly usage: Usage
  /** From the request to the first token, and to the end. */
  readonly firstTokenMs: number
  readonly totalMs: number
}

/**
 * Runs a request to its end and hands each piece of text to `write`, without control characters.
 * @throws what `complete` throws; CliError CLI_INTERRUPTED where the signal aborted
 */
export async function streamAnswer(
  deps: { readonly complete: Complete; readonly clock: Clock },
  request: CompletionRequest,
  options: { readonly signal: AbortSignal; readonly write: (text: string) => void },
): Promise<Answer> {
  const startedAt = deps.clock.monotonic()
  let firstTokenMs = 0
  let text = ''
  let start: Extract<CompletionEvent, { kind: 'start' }> | undefined
  try {
    for await (const event of deps.complete(request, { signal: options.signal })) {
      switch (event.kind) {
        case 'start':
          start = event
          break
        case 'delta':
          if (firstTokenMs === 0) firstTokenMs = deps.clock.monotonic() - startedAt
          if (event.text === '') break
          text += event.text
          options.write(printable(event.text))
          break
        case 'end':
          return {
            text,
            reason: event.reason,
            model: start?.model ?? request.model,
            route: start?.route ?? [],
            usage: event.usage,
            firstTokenMs,
            totalMs: deps.clock.monotonic() - startedAt,
          }
      }
    }
  } catch (error) {
    if (options.signal.aborted) throw abortError(options.signal)
    throw error
  }
  if (options.signal.aborted) throw abortError(options.signal)
  throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the answer ended before it was complete')
}

/** "52 tokens in 1.2 s (48 tokens/s), first after 110 ms, through 3 stages". */
export function answerFigures(answer: Answer): string {
  const tokens = answer.usage.completionTokens
  const decodeMs = answer.totalMs - answer.firstTokenMs
  const rate = tokens > 1 && decodeMs > 0 ? ` (${formatRate(((tokens - 1) * 1000) / decodeMs)} tokens/s)` : ''
  const route = answer.route.length === 0 ? '' : `, through ${countOf(answer.route.length, 'stage')}`
  return (
    `${countOf(tokens, 'token')} in ${formatDuration(answer.totalMs)}${rate}, ` +
    `first after ${formatDuration(answer.firstTokenMs)}${route}`
  )
}

export type AnswerOptions = {
  readonly sampling: SamplingOptions
  readonly tokensMax?: number
}

export function chatRequest(
  model: string,
  messages: readonly ChatMessage[],
  options: AnswerOptions,
): CompletionRequest {
  return {
    model,
    prompt: { kind: 'chat', messages },
    sampling: options.sampling,
    stop: [],
    ...(options.tokensMax === undefined ? {} : { tokensMax: options.tokensMax }),
  }
}
