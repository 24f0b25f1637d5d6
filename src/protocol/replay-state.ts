/**
 * The replay filter's state as bytes, big-endian, for a `ReplayStore`.
 *
 *     version u8, 1 | kind u8 | horizon f64 | filter, of kind 2 only | SHA-256 of all before, 32 bytes
 *
 *     filter:      secret 32 bytes | generation | generation
 *     generation:  keys u32 | newest f64 | words u32 | words of the filter: index u32, value u32 each
 */
import { equalInConstantTime, SHA256_BYTES, sha256 } from '#crypto'
import { Bloom } from './bloom.ts'

const VERSION = 1
const KIND = { running: 1, clean: 2 } as const
const HEADER_BYTES = 10
const GENERATION_BYTES = 16

export const REPLAY_SECRET_BYTES = 32

/** Keys that arrived in one stretch of time. */
export type ReplayGeneration = {
  readonly bloom: Bloom
  readonly count: number
  /** The latest time of a frame in it, Unix milliseconds. */
  readonly newestMs: number
}

export type ReplayState =
  /** A process runs, or was killed: what it took has a time up to `horizonMs`, and is known no more. */
  | { readonly kind: 'running'; readonly horizonMs: number }
  /** Everything that was taken is in here, or has a time up to `horizonMs`. */
  | {
      readonly kind: 'clean'
      readonly horizonMs: number
      readonly secret: Uint8Array
      readonly generations: readonly [ReplayGeneration, ReplayGeneration]
    }

export function encodeReplayState(state: ReplayState): Uint8Array {
  const filters = state.kind === 'clean' ? state.generations.map(({ bloom }) => bloom.export()) : []
  const filterBytes = filters.reduce((size, { indexes }) => size + GENERATION_BYTES + 8 * indexes.length, 0)
  const secretBytes = state.kind === 'clean' ? REPLAY_SECRET_BYTES : 0
  const bodyBytes = HEADER_BYTES + secretBytes + filterBytes
  const bytes = new Uint8Array(bodyBytes + SHA256_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, VERSION)
  view.setUint8(1, KIND[state.kind])
  view.setFloat64(2, state.horizonMs)
  if (state.kind === 'clean') {
    bytes.set(state.secret, HEADER_BYTES)
    let offset = HEADER_BYTES + REPLAY_SECRET_BYTES
    for (const [i, { indexes, values }] of filters.entries()) {
      const generation = state.generations[i]
      view.setUint32(offset, generation?.count ?? 0)
      view.setFloat64(offset + 4, generation?.newestMs ?? 0)
      view.setUint32(offset + 12, indexes.length)
      offset += GENERATION_BYTES
      for (const [j, index] of indexes.entries()) {
        view.setUint32(offset, index)
        view.setUint32(offset + 4, values[j] ?? 0)
        offset += 8
      }
    }
  }
  bytes.set(sha256(bytes.subarray(0, bodyBytes)), bodyBytes)
  return bytes
}

/** Undefined where the bytes are damaged, or of another version. */
export function decodeReplayState(bytes: Uint8Array): ReplayState | undefined {
  const bodyBytes = bytes.byteLength - SHA256_BYTES
  if (bodyBytes < HEADER_BYTES) return undefined
  const body = bytes.subarray(0, bodyBytes)
  if (!equalInConstantTime(sha256(body), bytes.subarray(bodyBytes))) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bodyBytes)
  const horizonMs = view.getFloat64(2)
  if (view.getUint8(0) !== VERSION || Number.isNaN(horizonMs)) return undefined
  if (view.getUint8(1) === KIND.running) return { kind: 'running', horizonMs }
  if (view.getUint8(1) !== KIND.clean || bodyBytes < HEADER_BYTES + REPLAY_SECRET_BYTES) return undefined
  const secret = body.slice(HEADER_BYTES, HEADER_BYTES + REPLAY_SECRET_BYTES)
  const first = decodeGeneration(view, HEADER_BYTES + REPLAY_SECRET_BYTES)
  const second = first === undefined ? undefined : decodeGeneration(view, first.end)
  if (first === undefined || second === undefined || second.end !== bodyBytes) return undefined
  return { kind: 'clean', horizonMs, secret, generations: [first.generation, second.generation] }
}

function decodeGeneration(
  view: DataView,
  start: number,
): { readonly generation: ReplayGeneration; readonly end: number } | undefined {
  if (start + GENERATION_BYTES > view.byteLength) return undefined
  const words = view.getUint32(start + 12)
  const from = start + GENERATION_BYTES
  const end = from + 8 * words
  if (end > view.byteLength) return undefined
  const indexes = Uint32Array.from({ length: words }, (_, i) => view.getUint32(from + 8 * i))
  const values = Uint32Array.from({ length: words }, (_, i) => view.getUint32(from + 8 * i + 4))
  const bloom = Bloom.import({ indexes, values })
  if (bloom === undefined) return undefined
  return { generation: { bloom, count: view.getUint32(start), newestMs: view.getFloat64(start + 4) }, end }
}
