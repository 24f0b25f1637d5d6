/**
 * What llama.cpp's samplers work on: every token with its logit, in memory outside of the JavaScript heap, because its
 * address goes into a structure and must not move.
 *
 *     llama_token_data_array: data pointer | size u64 | selected i64 (an index, not a token) | sorted u8
 *     llama_token_data:       id i32 | logit f32 | probability f32
 */
import koffi from 'koffi'
import { EngineError } from '../errors.ts'
import type { CandidateArray } from './library.ts'

const ARRAY_BYTES = 32
const SELECTED_OFFSET = 16
const SORTED_OFFSET = 24
const ENTRY_BYTES = 12

/** Shared by all samplers of one vocabulary: they run one after another. */
export class Candidates {
  readonly size: number
  readonly address: CandidateArray
  readonly #entries: bigint
  readonly #array: DataView
  readonly #integers: Int32Array
  readonly #floats: Float32Array

  constructor(size: number) {
    this.size = size
    this.address = koffi.alloc('uint8_t', ARRAY_BYTES)
    this.#entries = koffi.alloc('uint8_t', size * ENTRY_BYTES)
    this.#array = new DataView(koffi.view(this.address, ARRAY_BYTES))
    const memory = koffi.view(this.#entries, size * ENTRY_BYTES)
    this.#integers = new Int32Array(memory)
    this.#floats = new Float32Array(memory)
  }

  /** Sets all of them anew: the samplers before may have sorted, cut or moved them. */
  fill(logits: Float32Array): void {
    for (let token = 0, at = 0; token < this.size; token++, at += 3) {
      this.#integers[at] = token
      this.#floats[at + 1] = logits[token] as number
      this.#floats[at + 2] = 0
    }
    this.#array.setBigUint64(0, this.#entries, true)
    this.#array.setBigUint64(8, BigInt(this.size), true)
    this.#array.setBigInt64(SELECTED_OFFSET, -1n, true)
    this.#array.setUint8(SORTED_OFFSET, 0)
  }

  /** The token that the last sampler of the chain selected. Samplers may have made `data` point to memory of theirs. */
  selected(): number {
    const data = this.#array.getBigUint64(0, true)
    const size = this.#array.getBigUint64(8, true)
    const index = this.#array.getBigInt64(SELECTED_OFFSET, true)
    if (index < 0n || index >= size) {
      throw new EngineError({ code: 'ENGINE_COMPUTE_FAILED', status: -1 }, 'the samplers selected nothing')
    }
    return koffi.decode(data, Number(index) * ENTRY_BYTES, 'int32_t')
  }

  free(): void {
    koffi.free(this.#entries)
    koffi.free(this.address)
  }
}
