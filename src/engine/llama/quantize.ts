/** Rewrites a model file with another weight type, by libllama: test models in types that nothing else here can write. */
import { EngineError } from '../errors.ts'
import type { Llama } from './library.ts'

/** `enum llama_ftype` of the types that tests ask for. */
const FILE_TYPES = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q5_1: 9,
  q4_k: 15,
  q5_k: 17,
  q6_k: 18,
  bf16: 32,
} as const

/** A weight type by its usual name; `q4_k` and `q5_k` are llama.cpp's "M" mixtures unless `pure` is asked for. */
export type QuantizeType = keyof typeof FILE_TYPES

export type QuantizeRequest = {
  readonly fileIn: string
  readonly fileOut: string
  readonly type: QuantizeType
  readonly threads: number
  /** Every matrix in this one type. @default false */
  readonly pure?: boolean
}

/** @throws EngineError where libllama refuses the file, or the shapes do not divide into the type's blocks */
export function quantizeFile(llama: Llama, request: QuantizeRequest): void {
  const params = {
    ...llama.quantizeDefaults(),
    nthread: request.threads,
    ftype: FILE_TYPES[request.type],
    allow_requantize: true,
    pure: request.pure ?? false,
  }
  const status = llama.quantize(request.fileIn, request.fileOut, params)
  const errors = llama.takeErrors()
  if (status === 0) return
  const reason = errors === '' ? `status ${status}` : errors
  throw new EngineError({ code: 'ENGINE_BAD_MODEL', file: request.fileIn }, `llama.cpp cannot quantize: ${reason}`)
}
