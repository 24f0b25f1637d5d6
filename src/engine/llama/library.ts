/**
 * The C functions of libllama that Koinon calls, with types: vocabulary, samplers, quantizing, and the whole model as
 * the reference. One line is one function of `llama.h` of the pinned version. A failed assertion or an uncaught C++
 * exception inside libllama ends the process, so arguments are checked before they come here, and only engine children
 * open it.
 */
import koffi, { type LibraryHandle } from 'koffi'
import type { GgmlRuntime } from '../ggml/runtime.ts'
import {
  BATCH,
  type Batch,
  CHAIN_PARAMS,
  CONTEXT_PARAMS,
  type ContextParams,
  MODEL_PARAMS,
  type ModelParams,
  QUANTIZE_PARAMS,
  type QuantizeParams,
} from './structs.ts'

declare const kind: unique symbol
/** An address in the process; the name says of what. */
type Address<Name extends string> = bigint & { readonly [kind]: Name }

export type LlamaModel = Address<'llama_model'>
export type LlamaContext = Address<'llama_context'>
type LlamaMemory = Address<'llama_memory'>
export type LlamaVocab = Address<'llama_vocab'>
export type LlamaSampler = Address<'llama_sampler'>
export type CandidateArray = Address<'llama_token_data_array'>

/** `GGML_LOG_LEVEL_ERROR`, and the level that goes on with the line before. */
const LOG_ERROR = 4
const LOG_CONTINUED = 5

/** What is kept of libllama's error lines, in characters. */
const ERROR_TEXT_MAX = 2048

const P = 'void *'
const I = 'int32_t'
const F = 'float'
const B = 'bool'

type Functions = ReturnType<typeof bindModels> & ReturnType<typeof bindVocabulary> & ReturnType<typeof bindSamplers>

/** libllama in this process. */
export type Llama = Functions & {
  /** What libllama reported as errors since the last call, joined into one line; empty where it reported none. */
  takeErrors(): string
}

let opened: Llama | undefined

/** Opens libllama beside the ggml that `runtime` has opened. Once per process. @throws EngineError */
export function openLlama(runtime: GgmlRuntime): Llama {
  opened ??= bindLlama(koffi.load(runtime.llamaPath))
  return opened
}

function bindLlama(library: LibraryHandle): Llama {
  let errors = ''
  let isError = false
  const onLog = (level: number, text: string | null): void => {
    if (level !== LOG_CONTINUED) isError = level === LOG_ERROR
    if (isError) errors = (errors + (text ?? '')).slice(-ERROR_TEXT_MAX)
  }
  // Registered for the life of the process: libllama logs from any call.
  const callback = koffi.register(onLog, koffi.pointer(koffi.proto('void', [I, 'str', P])))
  library.func('llama_log_set', 'void', [P, P])(callback, null)
  library.func('llama_backend_init', 'void', [])()
  return {
    ...bindModels(library),
    ...bindVocabulary(library),
    ...bindSamplers(library),
    takeErrors: () => {
      const lines = errors.split('\n').map(line => line.trim())
      errors = ''
      return lines.filter(line => line !== '').join('; ')
    },
  }
}

/** Models as wholes: the reference and quantizing. */
function bindModels(library: LibraryHandle) {
  return {
    modelDefaults: library.func('llama_model_default_params', MODEL_PARAMS, []) as () => ModelParams,
    loadModel: library.func('llama_model_load_from_file', P, ['str', MODEL_PARAMS]) as (
      file: string,
      params: ModelParams,
    ) => LlamaModel | null,
    freeModel: library.func('llama_model_free', 'void', [P]) as (model: LlamaModel) => void,
    vocabOf: library.func('llama_model_get_vocab', P, [P]) as (model: LlamaModel) => LlamaVocab,
    contextDefaults: library.func('llama_context_default_params', CONTEXT_PARAMS, []) as () => ContextParams,
    newContext: library.func('llama_init_from_model', P, [P, CONTEXT_PARAMS]) as (
      model: LlamaModel,
      params: ContextParams,
    ) => LlamaContext | null,
    freeContext: library.func('llama_free', 'void', [P]) as (context: LlamaContext) => void,
    batchSizeOf: library.func('llama_n_batch', 'uint32_t', [P]) as (context: LlamaContext) => number,
    contextSizeOf: library.func('llama_n_ctx', 'uint32_t', [P]) as (context: LlamaContext) => number,
    memoryOf: library.func('llama_get_memory', P, [P]) as (context: LlamaContext) => LlamaMemory,
    clearMemory: library.func('llama_memory_clear', 'void', [P, B]) as (memory: LlamaMemory, data: boolean) => void,
    oneBatch: library.func('llama_batch_get_one', BATCH, [P, I]) as (tokens: Int32Array, count: number) => Batch,
    decode: library.func('llama_decode', I, [P, BATCH]) as (context: LlamaContext, batch: Batch) => number,
    logitsAt: library.func('llama_get_logits_ith', P, [P, I]) as (
      context: LlamaContext,
      index: number,
    ) => bigint | null,
    quantizeDefaults: library.func('llama_model_quantize_default_params', QUANTIZE_PARAMS, []) as () => QuantizeParams,
    quantize: library.func('llama_model_quantize', 'uint32_t', ['str', 'str', koffi.pointer(QUANTIZE_PARAMS)]) as (
      fileIn: string,
      fileOut: string,
      params: QuantizeParams,
    ) => number,
  }
}

/** Text to tokens and back. Counts below zero are minus the room that was needed. */
function bindVocabulary(library: LibraryHandle) {
  const tokenOf = (name: string) => library.func(name, I, [P]) as (vocab: LlamaVocab) => number
  return {
    vocabType: tokenOf('llama_vocab_type'),
    tokenCount: tokenOf('llama_vocab_n_tokens'),
    bosToken: tokenOf('llama_vocab_bos'),
    eosToken: tokenOf('llama_vocab_eos'),
    isEnd: library.func('llama_vocab_is_eog', B, [P, I]) as (vocab: LlamaVocab, token: number) => boolean,
    tokenize: library.func('llama_tokenize', I, [P, P, I, P, I, B, B]) as (
      vocab: LlamaVocab,
      text: Uint8Array,
      ...rest: [textBytes: number, into: Int32Array, room: number, addSpecial: boolean, parseSpecial: boolean]
    ) => number,
    piece: library.func('llama_token_to_piece', I, [P, I, P, I, I, B]) as (
      vocab: LlamaVocab,
      token: number,
      ...rest: [into: Uint8Array, room: number, stripLeft: number, special: boolean]
    ) => number,
  }
}

/** Samplers. A chain owns what was added to it. */
function bindSamplers(library: LibraryHandle) {
  const chainDefaults = library.func('llama_sampler_chain_default_params', CHAIN_PARAMS, [])
  const newChain = library.func('llama_sampler_chain_init', P, [CHAIN_PARAMS])
  return {
    newChain: (): LlamaSampler => newChain(chainDefaults()),
    addToChain: library.func('llama_sampler_chain_add', 'void', [P, P]) as (
      chain: LlamaSampler,
      sampler: LlamaSampler,
    ) => void,
    freeSampler: library.func('llama_sampler_free', 'void', [P]) as (sampler: LlamaSampler) => void,
    accept: library.func('llama_sampler_accept', 'void', [P, I]) as (sampler: LlamaSampler, token: number) => void,
    applySampler: library.func('llama_sampler_apply', 'void', [P, P]) as (
      sampler: LlamaSampler,
      candidates: CandidateArray,
    ) => void,
    greedy: library.func('llama_sampler_init_greedy', P, []) as () => LlamaSampler,
    random: library.func('llama_sampler_init_dist', P, ['uint32_t']) as (seed: number) => LlamaSampler,
    topK: library.func('llama_sampler_init_top_k', P, [I]) as (k: number) => LlamaSampler,
    topP: library.func('llama_sampler_init_top_p', P, [F, 'size_t']) as (p: number, keepMin: number) => LlamaSampler,
    minP: library.func('llama_sampler_init_min_p', P, [F, 'size_t']) as (p: number, keepMin: number) => LlamaSampler,
    temperature: library.func('llama_sampler_init_temp', P, [F]) as (temperature: number) => LlamaSampler,
    penalties: library.func('llama_sampler_init_penalties', P, [I, I, F, F, F]) as (
      vocabularySize: number,
      lastN: number,
      ...penalties: [repeat: number, frequency: number, presence: number]
    ) => LlamaSampler,
    /** `biases`: for each entry a token i32 and a bias f32. */
    logitBias: library.func('llama_sampler_init_logit_bias', P, [I, I, P]) as (
      vocabularySize: number,
      count: number,
      biases: Uint8Array,
    ) => LlamaSampler,
  }
}
