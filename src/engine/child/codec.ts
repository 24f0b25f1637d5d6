/**
 * The binary payloads of the commands that run per token. No JSON on this path: a step's rows are passed on as they
 * are, behind a few fixed fields.
 */
import { concatBytes } from '#base'
import type { NextOptions, NextToken, StageStep, TokenScore } from '../types.ts'

/** `step`: slot, first, last, position, count, outputs: u32 each, then the rows. */
const STEP_HEADER_BYTES = 24

export function encodeStep(step: StageStep): readonly Uint8Array[] {
  const { slot, layers, position, count, outputs } = step
  return [asBytes(Uint32Array.of(slot, layers.first, layers.last, position, count, outputs)), step.rows]
}

export function decodeStep(payload: Uint8Array): StageStep {
  const fields = new Fields(payload)
  const slot = fields.uint32()
  const layers = { first: fields.uint32(), last: fields.uint32() }
  const position = fields.uint32()
  const count = fields.uint32()
  const outputs = fields.uint32()
  return { slot, layers, position, count, outputs, rows: payload.subarray(STEP_HEADER_BYTES) }
}

/** `tokenize`: flags u8 (1 add special, 2 parse special), then UTF-8. Reply: i32 tokens. */
export type TokenizeRequest = {
  readonly text: Uint8Array
  readonly addSpecial: boolean
  readonly parseSpecial: boolean
}

export function encodeTokenize(request: TokenizeRequest): readonly Uint8Array[] {
  return [Uint8Array.of((request.addSpecial ? 1 : 0) | (request.parseSpecial ? 2 : 0)), request.text]
}

export function decodeTokenize(payload: Uint8Array): TokenizeRequest {
  const flags = payload[0] ?? 0
  return { text: payload.subarray(1), addSpecial: (flags & 1) !== 0, parseSpecial: (flags & 2) !== 0 }
}

/** `pieces`: special u32 (0 or 1), then i32 tokens. Reply: for each its length u32 and bytes. */
export type PiecesRequest = { readonly tokens: Int32Array; readonly special: boolean }

export function encodePieces(request: PiecesRequest): readonly Uint8Array[] {
  return [asBytes(Uint32Array.of(request.special ? 1 : 0)), asBytes(request.tokens)]
}

export function decodePieces(payload: Uint8Array): PiecesRequest {
  return { special: new Fields(payload).uint32() !== 0, tokens: toInt32(payload.subarray(4)) }
}

export function encodePieceList(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
  return pieces.flatMap(piece => [asBytes(Uint32Array.of(piece.byteLength)), piece])
}

export function decodePieceList(payload: Uint8Array): readonly Uint8Array[] {
  const fields = new Fields(payload)
  const pieces: Uint8Array[] = []
  while (fields.left > 0) pieces.push(fields.bytes(fields.uint32()))
  return pieces
}

/** `openSampler`: bytes of the settings u32, settings (JSON), then i32 tokens of the prompt. Reply: the id, u32. */
export function encodeSampler(settings: Uint8Array, prompt: Int32Array): readonly Uint8Array[] {
  return [asBytes(Uint32Array.of(settings.byteLength)), settings, asBytes(prompt)]
}

export function decodeSampler(payload: Uint8Array): { readonly settings: Uint8Array; readonly prompt: Int32Array } {
  const fields = new Fields(payload)
  const settings = fields.bytes(fields.uint32())
  return { settings, prompt: toInt32(fields.bytes(fields.left)) }
}

/** `next`: sampler u32, alternatives i32 (-1: no scores at all), logits u32 (0 or 1), then the row. */
export type NextRequest = { readonly sampler: number; readonly row: Uint8Array; readonly options: NextOptions }

export function encodeNext(request: NextRequest): readonly Uint8Array[] {
  const { topLogprobs = -1, logits = false } = request.options
  return [asBytes(Uint32Array.of(request.sampler, topLogprobs, logits ? 1 : 0)), request.row]
}

export function decodeNext(payload: Uint8Array): NextRequest {
  const fields = new Fields(payload)
  const sampler = fields.uint32()
  const topLogprobs = fields.int32()
  const options = { ...(topLogprobs >= 0 && { topLogprobs }), logits: fields.uint32() !== 0 }
  return { sampler, options, row: fields.bytes(fields.left) }
}

/**
 * The reply to `next`: token i32, end u32 (0 or 1), bytes of row, logits and piece, number of scores (0: none, else the
 * chosen one and its alternatives): u32 each; then row, logits, piece, scores. A score: token i32, bytes of its piece
 * u32, log-probability f64, piece.
 */
export function encodeNextReply(next: NextToken): readonly Uint8Array[] {
  const logits = next.logits === undefined ? new Uint8Array(0) : asBytes(next.logits)
  const scores = next.chosen === undefined ? [] : [next.chosen, ...(next.top ?? [])]
  const sizes = [next.row.byteLength, logits.byteLength, next.piece.byteLength, scores.length]
  const header = asBytes(Uint32Array.of(next.token, next.isEnd ? 1 : 0, ...sizes))
  const tails = scores.flatMap(({ token, piece, logprob }) => [
    asBytes(Uint32Array.of(token, piece.byteLength)),
    asBytes(Float64Array.of(logprob)),
    piece,
  ])
  return [header, next.row, logits, next.piece, ...tails]
}

export function decodeNextReply(payload: Uint8Array): NextToken {
  const fields = new Fields(payload)
  const token = fields.int32()
  const isEnd = fields.uint32() !== 0
  const [rowBytes, logitBytes, pieceBytes, scoreCount] = [
    fields.uint32(),
    fields.uint32(),
    fields.uint32(),
    fields.uint32(),
  ]
  const row = fields.bytes(rowBytes)
  const logits = fields.bytes(logitBytes)
  const piece = fields.bytes(pieceBytes)
  const [chosen, ...top] = Array.from({ length: scoreCount }, () => readScore(fields))
  return {
    token,
    isEnd,
    row,
    piece,
    ...(logitBytes > 0 && { logits: toFloat32(logits) }),
    ...(chosen !== undefined && { chosen, top }),
  }
}

function readScore(fields: Fields): TokenScore {
  const token = fields.int32()
  const pieceBytes = fields.uint32()
  const logprob = fields.float64()
  return { token, logprob, piece: fields.bytes(pieceBytes) }
}

/** `generate`: count u32, logits u32 (0 or 1), then i32 tokens. Each step comes as an event. */
export type GenerateRequest = { readonly tokens: Int32Array; readonly count: number; readonly logits: boolean }

export function encodeGenerate(request: GenerateRequest): readonly Uint8Array[] {
  return [asBytes(Uint32Array.of(request.count, request.logits ? 1 : 0)), asBytes(request.tokens)]
}

export function decodeGenerate(payload: Uint8Array): GenerateRequest {
  const fields = new Fields(payload)
  const count = fields.uint32()
  const logits = fields.uint32() !== 0
  return { count, logits, tokens: toInt32(fields.bytes(fields.left)) }
}

/** A step of the reference: token f64, elapsed milliseconds f64; all logits f32 behind it where they were asked for. */
export type ReferenceEvent = { readonly token: number; readonly elapsedMs: number; readonly logits?: Float32Array }

export function encodeReferenceStep(step: { readonly token: number; readonly elapsedMs: number }): Uint8Array {
  return asBytes(Float64Array.of(step.token, step.elapsedMs))
}

export function decodeReferenceStep(payload: Uint8Array): ReferenceEvent {
  const fields = new Fields(payload)
  const token = fields.float64()
  const elapsedMs = fields.float64()
  return { token, elapsedMs, ...(fields.left > 0 && { logits: toFloat32(fields.bytes(fields.left)) }) }
}

/** `release` and `closeSampler`: a u32. So is the reply to `openSampler`. */
export function encodeUint32(value: number): Uint8Array {
  return asBytes(Uint32Array.of(value))
}

export function decodeUint32(payload: Uint8Array): number {
  return new Fields(payload).uint32()
}

/** Progress events of a load: done and total bytes, f64. */
export function encodeProgress(doneBytes: number, totalBytes: number): Uint8Array {
  return asBytes(Float64Array.of(doneBytes, totalBytes))
}

export function decodeProgress(payload: Uint8Array): readonly [doneBytes: number, totalBytes: number] {
  const fields = new Fields(payload)
  return [fields.float64(), fields.float64()]
}

/** The bytes of a typed array, without a copy. Every platform that the engine runs on is little-endian. */
export function asBytes(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** A copy, because a payload does not lie at a multiple of four bytes. */
export function toInt32(bytes: Uint8Array): Int32Array {
  return new Int32Array(concatBytes([bytes.subarray(0, bytes.byteLength & ~3)]).buffer)
}

/** A copy, as in `toInt32`. */
function toFloat32(bytes: Uint8Array): Float32Array {
  return new Float32Array(concatBytes([bytes.subarray(0, bytes.byteLength & ~3)]).buffer)
}

/** Reads fields one after another. Throws a RangeError where the payload is too short. */
class Fields {
  readonly #payload: Uint8Array
  readonly #view: DataView
  #offset = 0

  constructor(payload: Uint8Array) {
    this.#payload = payload
    this.#view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  }

  get left(): number {
    return this.#payload.byteLength - this.#offset
  }

  uint32(): number {
    const value = this.#view.getUint32(this.#offset, true)
    this.#offset += 4
    return value
  }

  int32(): number {
    return this.uint32() | 0
  }

  float64(): number {
    const value = this.#view.getFloat64(this.#offset, true)
    this.#offset += 8
    return value
  }

  bytes(count: number): Uint8Array {
    if (count > this.left) throw new RangeError('the payload is shorter than it says')
    const bytes = this.#payload.subarray(this.#offset, this.#offset + count)
    this.#offset += count
    return bytes
  }
}
