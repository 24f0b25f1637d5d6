/**
 * A model's vocabulary, read by libllama so that every tokenizer behaves as in llama.cpp. The file comes from strangers:
 * ids are checked here, because libllama throws across the C boundary for an id that it does not know, and texts and
 * pieces are bounded.
 */
import { EngineError } from '../errors.ts'
import { PIECE_BYTES_MAX, TEXT_BYTES_MAX } from '../limits.ts'
import type { Llama, LlamaModel, LlamaVocab } from './library.ts'

/** `LLAMA_VOCAB_TYPE_NONE`: a model without a tokenizer. Tokens go in and out as numbers only. */
const TYPE_NONE = 0

/** `llama_tokenize` says this where the count does not fit 32 bits. */
const TOKENIZE_OVERFLOW = -(2 ** 31)

const ROOM_BYTES = 256

export class Vocabulary {
  readonly #llama: Llama
  readonly #model: LlamaModel
  readonly #vocab: LlamaVocab
  readonly #hasTokenizer: boolean
  /** Tokens, with or without text. */
  readonly size: number
  #room = new Uint8Array(ROOM_BYTES)

  /** Reads the vocabulary alone: no weights. @throws EngineError where libllama refuses the file */
  constructor(llama: Llama, file: string) {
    const model = llama.loadModel(file, { ...llama.modelDefaults(), vocab_only: true })
    const errors = llama.takeErrors()
    if (model === null) {
      const reason = errors === '' ? 'no reason given' : errors
      throw new EngineError({ code: 'ENGINE_BAD_MODEL', file }, `llama.cpp cannot read the vocabulary: ${reason}`)
    }
    this.#llama = llama
    this.#model = model
    this.#vocab = llama.vocabOf(model)
    this.#hasTokenizer = llama.vocabType(this.#vocab) !== TYPE_NONE
    this.size = llama.tokenCount(this.#vocab)
  }

  /** @throws EngineError where the model has no tokenizer or the text is too long */
  tokenize(text: Uint8Array, options: { readonly addSpecial: boolean; readonly parseSpecial: boolean }): Int32Array {
    if (!this.#hasTokenizer) {
      throw new EngineError({ code: 'EDGE_NO_TOKENIZER' }, 'this model has no tokenizer: send tokens instead of text')
    }
    if (text.byteLength > TEXT_BYTES_MAX) {
      const facts = { bytes: text.byteLength, bytesMax: TEXT_BYTES_MAX }
      throw new EngineError(
        { code: 'EDGE_TEXT_TOO_LONG', ...facts },
        `a text of ${facts.bytes} bytes is too long: ${facts.bytesMax} are accepted`,
      )
    }
    const { addSpecial, parseSpecial } = options
    const run = (into: Int32Array): number =>
      this.#llama.tokenize(this.#vocab, text, text.byteLength, into, into.length, addSpecial, parseSpecial)
    // Most tokens are longer than two bytes; where they are not, the second call has the room that the first one asked for.
    let tokens = new Int32Array((text.byteLength >> 1) + 16)
    let count = run(tokens)
    if (count < 0 && count > TOKENIZE_OVERFLOW) {
      tokens = new Int32Array(-count)
      count = run(tokens)
    }
    if (count < 0) throw new EngineError({ code: 'EDGE_TOKENIZE_FAILED' }, 'llama.cpp cannot tokenize this text')
    return tokens.subarray(0, count)
  }

  /** The token's bytes. Control tokens give their text where `special` is set, else nothing. */
  piece(token: number, special: boolean): Uint8Array {
    this.check(token)
    if (!this.#hasTokenizer) return new Uint8Array(0)
    const run = (): number => this.#llama.piece(this.#vocab, token, this.#room, this.#room.byteLength, 0, special)
    let size = run()
    if (size < -PIECE_BYTES_MAX) {
      throw new EngineError(
        { code: 'EDGE_PIECE_TOO_LONG', token, bytes: -size },
        `the text of token ${token} has ${-size} bytes: ${PIECE_BYTES_MAX} are accepted`,
      )
    }
    if (size < 0) {
      this.#room = new Uint8Array(-size)
      size = run()
    }
    return this.#room.slice(0, Math.max(0, size))
  }

  /** Whether this token ends a generation. */
  isEnd(token: number): boolean {
    this.check(token)
    return this.#llama.isEnd(this.#vocab, token)
  }

  /** Text of the begin token as chat templates want it; empty where the vocabulary has none. */
  get bosText(): string {
    return this.#textOf(this.#llama.bosToken(this.#vocab))
  }

  /** Text of the end token as chat templates want it; empty where the vocabulary has none. */
  get eosText(): string {
    return this.#textOf(this.#llama.eosToken(this.#vocab))
  }

  #textOf(token: number): string {
    return token < 0 || token >= this.size ? '' : new TextDecoder().decode(this.piece(token, true))
  }

  /** @throws EngineError where there is no such token */
  check(token: number): void {
    if (Number.isInteger(token) && token >= 0 && token < this.size) return
    throw new EngineError(
      { code: 'ENGINE_TOKEN_UNKNOWN', token },
      `there is no token ${token}: the vocabulary has ${this.size}`,
    )
  }

  free(): void {
    this.#llama.freeModel(this.#model)
  }
}
