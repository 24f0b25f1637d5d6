/** What a chat remembers, kept short enough for the model's context. Pure. */
import type { ChatMessage } from '#wire'

/** Part of the context that the history may fill, so that an answer still fits. */
const HISTORY_SHARE_MAX = 0.6

/** Tokens per character before the first answer has told how the model cuts text. */
const TOKENS_PER_CHARACTER_GUESS = 0.35

export class Conversation {
  readonly #system: readonly ChatMessage[]
  readonly #contextMax: number
  #turns: { readonly question: string; readonly answer: string }[] = []
  #tokensPerCharacter = TOKENS_PER_CHARACTER_GUESS

  /** @param options.contextMax positions of one generation: prompt and answer together */
  constructor(options: { readonly contextMax: number; readonly system?: string }) {
    this.#system = options.system === undefined ? [] : [{ role: 'system', content: options.system }]
    this.#contextMax = options.contextMax
  }

  get turns(): number {
    return this.#turns.length
  }

  /** The messages to send for a new question. */
  messagesFor(question: string): readonly ChatMessage[] {
    const past = this.#turns.flatMap(turn => [
      { role: 'user', content: turn.question },
      { role: 'assistant', content: turn.answer },
    ])
    return [...this.#system, ...past, { role: 'user', content: question }]
  }

  /** Keeps a turn. `tokens`, of all messages and the answer, teaches how long texts are. */
  remember(question: string, answer: string, tokens: number): void {
    const characters = charactersIn(this.messagesFor(question)) + answer.length
    if (characters > 0) this.#tokensPerCharacter = tokens / characters
    this.#turns.push({ question, answer })
  }

  /** Drops the oldest turns until the history and the question leave room for an answer. @returns how many */
  makeRoomFor(question: string): number {
    let dropped = 0
    const room = this.#contextMax * HISTORY_SHARE_MAX
    while (charactersIn(this.messagesFor(question)) * this.#tokensPerCharacter > room && this.forgetOldest()) dropped++
    return dropped
  }

  /** @returns false where there is nothing left to forget */
  forgetOldest(): boolean {
    return this.#turns.shift() !== undefined
  }

  reset(): void {
    this.#turns = []
  }
}

function charactersIn(messages: readonly ChatMessage[]): number {
  return messages.reduce((sum, message) => sum + message.content.length, 0)
}
