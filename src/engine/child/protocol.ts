/**
 * What the node and its engine children say to each other over the pipe on fd 3:
 *
 *     payload bytes u32 | id u32 | kind u32 | payload
 *
 * The id joins a reply to its request. Commands go down; `reply`, `fail` and any number of `event` before them come up.
 * Numbers are little-endian. What runs once (load, sampler settings) is JSON; what runs per token is fixed fields and
 * raw bytes. (`#wire` has framing too, but its schemas would cost every child 70 ms and 25 MB.)
 */

/** What a child does in its life. */
export type ChildRole = 'stage' | 'edge' | 'reference' | 'tool' | 'probe'

/** Every message there is. Below 16: upwards. */
export const KIND = {
  /** The child is up and takes commands. */
  ready: 1,
  reply: 2,
  /** JSON `FailureReport`. */
  fail: 3,
  /** Something about a request that is still running: progress of a load, a token of the reference. */
  event: 4,
  load: 16,
  step: 17,
  release: 18,
  tokenize: 19,
  pieces: 20,
  embed: 21,
  openSampler: 22,
  next: 23,
  closeSampler: 24,
  generate: 25,
  quantize: 26,
  measure: 27,
  describe: 28,
  audit: 29,
  probe: 30,
} as const

export type Kind = (typeof KIND)[keyof typeof KIND]

export type Message = {
  readonly id: number
  readonly kind: number
  readonly payload: Uint8Array
}

/** A `fail` payload: an `EngineError`, or the reader's error about the file, as plain data. */
export type FailureReport = {
  readonly fault: { readonly code: string }
  readonly message: string
}

const TEXT = new TextEncoder()

export function encodeJson(value: unknown): Uint8Array {
  return TEXT.encode(JSON.stringify(value))
}

/** Reads JSON that the other end of the pipe wrote: both ends are this program, so callers know its shape. */
export function decodeJson(payload: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(payload))
}

export function byteLengthOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((size, chunk) => size + chunk.byteLength, 0)
}
