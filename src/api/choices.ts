/**
 * Runs the generations of one request, one after the other: a request takes one slot of each stage, however many
 * answers it wants, and so cannot starve others.
 */
import { assert } from '#base'
import type { ChoiceRequests, KoinonNode } from '#node'
import type { CompletionEvent, OpenAiUsage } from '#wire'
import type { Choice } from './wording.ts'

/** What one generation said, and which choice it is. */
export type ChoiceEvent = { readonly index: number; readonly event: CompletionEvent }

/** Aborting the signal or leaving the loop ends the generation that runs. @throws KoinonError */
export async function* runChoices(
  node: Pick<KoinonNode, 'complete'>,
  requests: ChoiceRequests,
  options: { readonly signal: AbortSignal },
): AsyncGenerator<ChoiceEvent, void, undefined> {
  for (const [index, request] of requests.entries()) {
    let hasEnded = false
    for await (const event of node.complete(request, options)) {
      hasEnded = event.kind === 'end'
      yield { index, event }
    }
    options.signal.throwIfAborted()
    assert(hasEnded, 'a completion ends with an end event')
  }
}

/** Counts tokens over all choices. A prompt is counted once, however many choices it has: it was given once. */
export class UsageCounter {
  #promptTokens = 0
  #completionTokens = 0
  readonly #choicesPerPrompt: number

  constructor(choicesPerPrompt: number) {
    this.#choicesPerPrompt = choicesPerPrompt
  }

  add({ index, event }: ChoiceEvent): void {
    if (event.kind !== 'end') return
    if (index % this.#choicesPerPrompt === 0) this.#promptTokens += event.usage.promptTokens
    this.#completionTokens += event.usage.completionTokens
  }

  total(): OpenAiUsage {
    return {
      prompt_tokens: this.#promptTokens,
      completion_tokens: this.#completionTokens,
      total_tokens: this.#promptTokens + this.#completionTokens,
    }
  }
}

/** Gathers the events of a whole request into its choices. The texts are as long as the context at most. */
export async function collectChoices(
  events: AsyncIterable<ChoiceEvent>,
  usage: UsageCounter,
): Promise<readonly Choice[]> {
  const choices: Choice[] = []
  let texts: string[] = []
  let tokens: Choice['tokens'][number][] = []
  for await (const choiceEvent of events) {
    const { index, event } = choiceEvent
    usage.add(choiceEvent)
    if (event.kind === 'delta') {
      texts.push(event.text)
      for (const token of event.tokens) tokens.push(token)
    }
    if (event.kind === 'end') {
      choices.push({ index, text: texts.join(''), tokens, reason: event.reason })
      texts = []
      tokens = []
    }
  }
  return choices
}
