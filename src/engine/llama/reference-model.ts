/**
 * A whole model in libllama, as anyone would run it: the reference that our graphs are compared with, token by token
 * and second by second. Defaults everywhere but for context and threads.
 */
import { type Clock } from '#base'
import koffi from 'koffi'
import { EngineError } from '../errors.ts'
import type { Llama, LlamaContext, LlamaModel } from './library.ts'
import { argmax } from './scores.ts'

export type ReferenceLoad = {
  /** Absolute path of the GGUF file. */
  readonly file: string
  readonly threads: number
  /** Positions: `n_ctx`. */
  readonly contextMax: number
}

/** One token that the reference made. */
export type ReferenceStep = {
  readonly token: number
  /** Time of the decode call that gave this token's logits; the first one's is the prefill. */
  readonly elapsedMs: number
  readonly logits: Float32Array
}

export class ReferenceModel {
  readonly #llama: Llama
  readonly #clock: Clock
  readonly #model: LlamaModel
  readonly #context: LlamaContext
  readonly vocabularySize: number
  readonly contextMax: number

  /** @throws EngineError where libllama refuses the file or has no memory for the context */
  constructor(deps: { readonly llama: Llama; readonly clock: Clock }, request: ReferenceLoad) {
    const { llama } = deps
    const fail = (what: string): EngineError => {
      const errors = llama.takeErrors()
      const reason = errors === '' ? '' : `: ${errors}`
      return new EngineError({ code: 'ENGINE_BAD_MODEL', file: request.file }, `llama.cpp cannot ${what}${reason}`)
    }
    const model = llama.loadModel(request.file, { ...llama.modelDefaults(), n_gpu_layers: 0 })
    if (model === null) throw fail('load the model')
    const threads = { n_threads: request.threads, n_threads_batch: request.threads }
    const context = llama.newContext(model, { ...llama.contextDefaults(), n_ctx: request.contextMax, ...threads })
    if (context === null) {
      llama.freeModel(model)
      throw fail('make a context')
    }
    llama.takeErrors()
    this.#llama = llama
    this.#clock = deps.clock
    this.#model = model
    this.#context = context
    this.vocabularySize = llama.tokenCount(llama.vocabOf(model))
    this.contextMax = llama.contextSizeOf(context)
  }

  /**
   * Continues `tokens` greedily, from an empty cache, past end tokens. A step's logits are libllama's own memory: valid
   * until the next step.
   * @throws EngineError where the prompt and the answer do not fit the context
   */
  *generate(tokens: Int32Array, count: number): Generator<ReferenceStep, void, undefined> {
    const unknown = tokens.find(token => token < 0 || token >= this.vocabularySize)
    if (unknown !== undefined) {
      throw new EngineError({ code: 'ENGINE_TOKEN_UNKNOWN', token: unknown }, `there is no token ${unknown}`)
    }
    const positions = tokens.length + count
    if (tokens.length === 0 || positions > this.contextMax) {
      throw new EngineError(
        { code: 'ENGINE_CONTEXT_FULL', positions, contextMax: this.contextMax },
        `a prompt of ${tokens.length} tokens and ${count} more do not fit a context of ${this.contextMax}`,
      )
    }
    this.#llama.clearMemory(this.#llama.memoryOf(this.#context), true)
    let input = tokens
    for (let made = 0; made < count; made++) {
      const startedAt = this.#clock.monotonic()
      this.#decode(input)
      const logits = this.#logits()
      const elapsedMs = this.#clock.monotonic() - startedAt
      const token = argmax(logits)
      yield { token, elapsedMs, logits }
      input = Int32Array.of(token)
    }
  }

  /** Parts of `n_batch`, which libllama cuts on into parts of 512. */
  #decode(tokens: Int32Array): void {
    const partMax = this.#llama.batchSizeOf(this.#context)
    for (let from = 0; from < tokens.length; from += partMax) {
      const part = tokens.slice(from, from + partMax)
      const status = this.#llama.decode(this.#context, this.#llama.oneBatch(part, part.length))
      if (status !== 0) {
        throw new EngineError(
          { code: 'ENGINE_COMPUTE_FAILED', status },
          `llama.cpp cannot decode: status ${status} ${this.#llama.takeErrors()}`,
        )
      }
    }
  }

  #logits(): Float32Array {
    const address = this.#llama.logitsAt(this.#context, -1)
    if (address === null)
      throw new EngineError({ code: 'ENGINE_COMPUTE_FAILED', status: 0 }, 'llama.cpp gave no logits')
    return new Float32Array(koffi.view(address, 4 * this.vocabularySize))
  }

  free(): void {
    this.#llama.freeContext(this.#context)
    this.#llama.freeModel(this.#model)
  }
}
