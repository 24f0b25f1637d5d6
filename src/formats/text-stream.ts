/**
 * Turns a model's tokens into text as they come. A token's bytes may end in the middle of a character, and a stop text
 * may be spread over several tokens, so a little is held back: never more than what could still become a character or
 * a stop text.
 */
import { FormatError } from './errors.ts'
import { STOP_TEXT_LENGTH_MAX, STOP_TEXTS_MAX } from './limits.ts'

export type TextPiece = {
  /** Text that is certain now. May be empty. */
  readonly text: string
  /** A stop text was found. `text` ends before it, and nothing follows. */
  readonly stopped: boolean
}

export class TextStream {
  /** Holds an incomplete character back; bytes that are no UTF-8 become U+FFFD. A byte order mark is text like any other. */
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  readonly #stops: readonly string[]
  /** The end of the text so far, as long as it is the beginning of a stop text. */
  #held = ''
  #isStopped = false

  /** @param stops texts that end the stream; empty ones are ignored. @throws FormatError FORMAT_STOP_INVALID */
  constructor(stops: readonly string[] = []) {
    this.#stops = stops.filter(stop => stop !== '')
    if (this.#stops.length > STOP_TEXTS_MAX || this.#stops.some(stop => stop.length > STOP_TEXT_LENGTH_MAX)) {
      throw new FormatError(
        { code: 'FORMAT_STOP_INVALID', countMax: STOP_TEXTS_MAX, lengthMax: STOP_TEXT_LENGTH_MAX },
        `at most ${STOP_TEXTS_MAX} stop texts of ${STOP_TEXT_LENGTH_MAX} characters are possible`,
      )
    }
  }

  /** Takes the bytes of the next token. After a stop text everything is ignored. */
  push(piece: Uint8Array): TextPiece {
    if (this.#isStopped) return { text: '', stopped: true }
    return this.#advance(this.#decoder.decode(piece, { stream: true }))
  }

  /** No more tokens: releases what was held back. An incomplete character becomes U+FFFD. */
  end(): TextPiece {
    if (this.#isStopped) return { text: '', stopped: true }
    const { text, stopped } = this.#advance(this.#decoder.decode())
    if (stopped) return { text, stopped }
    const rest = this.#held
    this.#held = ''
    return { text: text + rest, stopped: false }
  }

  #advance(more: string): TextPiece {
    const text = this.#held + more
    const stopAt = this.#firstStop(text)
    if (stopAt !== undefined) {
      this.#held = ''
      this.#isStopped = true
      return { text: text.slice(0, stopAt), stopped: true }
    }
    const keep = this.#possibleStopLength(text)
    this.#held = text.slice(text.length - keep)
    return { text: text.slice(0, text.length - keep), stopped: false }
  }

  #firstStop(text: string): number | undefined {
    const found = this.#stops.map(stop => text.indexOf(stop)).filter(index => index >= 0)
    return found.length === 0 ? undefined : Math.min(...found)
  }

  /** The length of the longest end of `text` that is the beginning of a stop text. */
  #possibleStopLength(text: string): number {
    let longest = 0
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length
      }
    }
    return longest
  }
}
