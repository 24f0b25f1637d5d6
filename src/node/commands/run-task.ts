/** Runs one generation for a command and gathers its answer, in bounds that fit a message. */
import type { CompletionEvent, CompletionRequest, RouteHop, TokenInfo, Usage } from '#wire'
import { TASK_TEXT_BYTES_MAX } from '../limits.ts'
import type { CommandServices } from './services.ts'

export type TaskAnswer = {
  readonly generation: string
  readonly model: string
  readonly route: readonly RouteHop[]
  readonly text: string
  readonly tokens: readonly number[]
  /** `length`: as many tokens as were asked for, a full context, or text beyond `TASK_TEXT_BYTES_MAX`. */
  readonly reason: 'stop' | 'length'
  readonly usage: Usage
}

/** @param onDelta waited for: a slow reader slows the generation */
export async function runTask(
  { complete }: Pick<CommandServices, 'complete'>,
  request: CompletionRequest,
  options: {
    readonly signal: AbortSignal
    readonly onDelta?: (text: string, tokens: readonly TokenInfo[]) => Promise<void>
  },
): Promise<TaskAnswer> {
  const texts: string[] = []
  const tokens: number[] = []
  let textBytes = 0
  let start: Extract<CompletionEvent, { readonly kind: 'start' }> | undefined
  let end: Pick<TaskAnswer, 'reason' | 'usage'> | undefined
  for await (const event of complete(request, { signal: options.signal })) {
    if (event.kind === 'start') start = event
    else if (event.kind === 'end') end = event
    else {
      texts.push(event.text)
      tokens.push(...event.tokens.map(({ token }) => token))
      textBytes += Buffer.byteLength(event.text)
      await options.onDelta?.(event.text, event.tokens)
      // Leaving the loop frees every stage.
      if (textBytes > TASK_TEXT_BYTES_MAX) break
    }
  }
  const { generation = '', model = '', route = [], promptTokens = 0 } = start ?? {}
  const { reason = 'length', usage = { promptTokens, completionTokens: tokens.length } } = end ?? {}
  return { generation, model, route, text: texts.join(''), tokens, reason, usage }
}
