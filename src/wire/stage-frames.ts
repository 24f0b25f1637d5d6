/**
 * Frames of the stage protocol. Everything that may be large or frequent has a fixed binary form; only control messages
 * are dag-cbor (`stage-messages.ts`). All numbers are little-endian.
 *
 *     any frame    length u32 (bytes after this field) | kind u8 | body
 *     START        purpose u8                                       first frame of every stream
 *     CONTROL      dag-cbor message
 *     STEP,        dtype u8 | count u16 | generation 16 bytes | step u32 | position u32 | width u32 | deadline ms u32 |
 *     RESULT       outputs u16 | reserved u16, 0 | bytes of all rows u32 | the first 64 KiB of the rows
 *     ROWS         the next 64 KiB of the rows of the STEP or RESULT before it
 *     CREDIT       generation 16 bytes | step u32
 *
 * With its length and kind a STEP header is 48 bytes, so rows that follow it stay aligned. One row fits the same frame:
 * a decoding step is one write.
 */
import { fromHex, toHex } from '#base'
import { STAGE_CONTROL_BYTES_MAX, STAGE_PART_BYTES_MAX, STAGE_STEP_BYTES_MAX } from './limits.ts'
import { decodeStageMessage, encodeStageMessage, type StageMessage } from './stage-messages.ts'

/** What a stream is for. Decoding steps never wait behind the bulk of a prefill. */
export type StagePurpose = 'control' | 'decode' | 'prefill'

const PURPOSES: readonly StagePurpose[] = ['control', 'decode', 'prefill']

const KIND = { start: 1, control: 2, step: 3, result: 4, rows: 5, credit: 6 } as const

/** The one form of hidden rows that this version speaks: f32 little-endian. */
export const STEP_DTYPE_F32 = 0

/** Fixed part of a STEP or RESULT frame: length and kind included. */
export const STEP_HEADER_BYTES = 48

const PREFIX_BYTES = 5
const GENERATION_BYTES = 16
const CREDIT_BYTES = GENERATION_BYTES + 4

export type StepHeader = {
  /** `step`: rows for a stage to compute. `result`: the last stage's rows for the entry. */
  readonly kind: 'step' | 'result'
  /** 32 hexadecimal digits. */
  readonly generation: string
  /** From 0, without gaps, decode and prefill together. */
  readonly step: number
  /** Rows that are valid before this step. */
  readonly position: number
  /** Rows in this message. */
  readonly count: number
  /** How many of the last rows return from the last stage. */
  readonly outputs: number
  readonly dtype: number
  /** Numbers in a row. */
  readonly width: number
  /** Milliseconds that are left for this step; 0: no limit but the generation's. */
  readonly deadlineMs: number
  /** Bytes of all rows, in this frame and in the ROWS frames behind it. */
  readonly byteLength: number
}

/** Why a stream's bytes make no sense. It costs the sender the stream. */
export type StageFrameFault = { readonly code: 'WIRE_STAGE_FRAME'; readonly what: string }

const fault = (what: string): StageFrameFault => ({ code: 'WIRE_STAGE_FRAME', what })

function frame(kind: number, bodyBytes: number): { bytes: Uint8Array<ArrayBuffer>; view: DataView } {
  const bytes = new Uint8Array(PREFIX_BYTES + bodyBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 1 + bodyBytes, true)
  view.setUint8(4, kind)
  return { bytes, view }
}

export function encodeStageStart(purpose: StagePurpose): Uint8Array {
  const { bytes } = frame(KIND.start, 1)
  bytes[PREFIX_BYTES] = PURPOSES.indexOf(purpose) + 1
  return bytes
}

export function encodeStageControl(message: StageMessage): Uint8Array {
  const body = encodeStageMessage(message)
  const { bytes } = frame(KIND.control, body.byteLength)
  bytes.set(body, PREFIX_BYTES)
  return bytes
}

export function encodeStageCredit(generation: string, step: number): Uint8Array {
  const { bytes, view } = frame(KIND.credit, CREDIT_BYTES)
  bytes.set(fromHex(generation), PREFIX_BYTES)
  view.setUint32(PREFIX_BYTES + GENERATION_BYTES, step, true)
  return bytes
}

/** The first frame of a step: header and rows up to 64 KiB, in one array (one copy of the rows, one write). */
export function encodeStageStep(header: StepHeader, rows: Uint8Array): Uint8Array {
  const part = rows.subarray(0, STAGE_PART_BYTES_MAX)
  const { bytes, view } = frame(
    header.kind === 'step' ? KIND.step : KIND.result,
    STEP_HEADER_BYTES - PREFIX_BYTES + part.byteLength,
  )
  view.setUint8(5, header.dtype)
  view.setUint16(6, header.count, true)
  bytes.set(fromHex(header.generation), 8)
  view.setUint32(24, header.step, true)
  view.setUint32(28, header.position, true)
  view.setUint32(32, header.width, true)
  view.setUint32(36, header.deadlineMs, true)
  view.setUint16(40, header.outputs, true)
  view.setUint32(44, header.byteLength, true)
  bytes.set(part, STEP_HEADER_BYTES)
  return bytes
}

/** All frames of a step, made one at a time as the stream takes them. */
export function* encodeStageStepParts(header: StepHeader, rows: Uint8Array): Generator<Uint8Array, undefined> {
  yield encodeStageStep(header, rows)
  for (let offset = STAGE_PART_BYTES_MAX; offset < rows.byteLength; offset += STAGE_PART_BYTES_MAX) {
    const part = rows.subarray(offset, offset + STAGE_PART_BYTES_MAX)
    const { bytes } = frame(KIND.rows, part.byteLength)
    bytes.set(part, PREFIX_BYTES)
    yield bytes
  }
  return undefined
}

function decodeStepHeader(kind: 'step' | 'result', bytes: Uint8Array): StepHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, STEP_HEADER_BYTES)
  return {
    kind,
    generation: toHex(bytes.subarray(8, 8 + GENERATION_BYTES)),
    step: view.getUint32(24, true),
    position: view.getUint32(28, true),
    count: view.getUint16(6, true),
    outputs: view.getUint16(40, true),
    dtype: view.getUint8(5),
    width: view.getUint32(32, true),
    deadlineMs: view.getUint32(36, true),
    byteLength: view.getUint32(44, true),
  }
}

/** Who is told what a stream carries. Each method may return a fault, which ends the reading. */
export interface StageFrameSink {
  start(purpose: StagePurpose): StageFrameFault | undefined
  message(message: StageMessage): StageFrameFault | undefined
  credit(generation: string, step: number): StageFrameFault | undefined
  /** A header. `byteLength` bytes of rows follow in calls of `rows`; none where it is 0. */
  step(header: StepHeader): StageFrameFault | undefined
  /** The next bytes of the rows, never more than announced. A view: it lives as long as the piece that came in. */
  rows(part: Uint8Array): StageFrameFault | undefined
}

type Phase =
  | { readonly at: 'prefix' }
  | { readonly at: 'header'; readonly kind: 'step' | 'result'; readonly length: number }
  | { readonly at: 'rows' }
  | { readonly at: 'body'; readonly kind: 'start' | 'control' | 'credit'; readonly bytes: Uint8Array }
  | { readonly at: 'failed'; readonly fault: StageFrameFault }

/**
 * Cuts a stream into frames, whatever the sizes of its pieces. Holds at most one control message in memory: rows are
 * handed on as they come.
 */
export class StageFrameReader {
  readonly #sink: StageFrameSink
  readonly #head = new Uint8Array(STEP_HEADER_BYTES)
  #phase: Phase = { at: 'prefix' }
  /** Bytes of `#head`, or of the phase's body, that have come. */
  #filled = 0
  /** Bytes of rows that this frame, and that this step, still owe. */
  #frameRows = 0
  #stepRows = 0

  constructor(sink: StageFrameSink) {
    this.#sink = sink
  }

  /** Reads one piece. A fault is final: every later call returns it again. */
  push(piece: Uint8Array): StageFrameFault | undefined {
    let offset = 0
    while (offset < piece.byteLength) {
      const phase = this.#phase
      if (phase.at === 'failed') return phase.fault
      if (phase.at === 'rows') {
        const part = piece.subarray(offset, offset + this.#frameRows)
        offset += part.byteLength
        this.#settle(this.#readRows(part))
        continue
      }
      const target = phase.at === 'body' ? phase.bytes : this.#head
      const size = phase.at === 'body' ? target.byteLength : phase.at === 'prefix' ? PREFIX_BYTES : STEP_HEADER_BYTES
      const part = piece.subarray(offset, offset + size - this.#filled)
      target.set(part, this.#filled)
      offset += part.byteLength
      this.#filled += part.byteLength
      if (this.#filled < size) return undefined
      if (phase.at === 'prefix') this.#settle(this.#readPrefix())
      else if (phase.at === 'header') this.#settle(this.#readHeader(phase.kind, phase.length))
      else this.#settle(this.#readBody(phase.kind, phase.bytes))
    }
    return this.#phase.at === 'failed' ? this.#phase.fault : undefined
  }

  #settle(found: StageFrameFault | undefined): void {
    if (found !== undefined) this.#phase = { at: 'failed', fault: found }
  }

  #toPrefix(): void {
    this.#phase = { at: 'prefix' }
    this.#filled = 0
  }

  /** `#filled` stays where a header follows: the prefix is its first five bytes. */
  #readPrefix(): StageFrameFault | undefined {
    const length = new DataView(this.#head.buffer).getUint32(0, true)
    const kind = this.#head[4]
    if (length === 0) return fault('an empty frame')
    const size = length - 1
    if (kind === KIND.rows) {
      if (size === 0 || size > STAGE_PART_BYTES_MAX || size > this.#stepRows)
        return fault('rows that nothing announced')
      this.#phase = { at: 'rows' }
      this.#frameRows = size
      return undefined
    }
    if (kind === KIND.step || kind === KIND.result) {
      if (this.#stepRows > 0) return fault('a step before the end of the one before it')
      const least = STEP_HEADER_BYTES - PREFIX_BYTES
      if (size < least || size > least + STAGE_PART_BYTES_MAX) return fault(`a step frame of ${length} bytes`)
      this.#phase = { at: 'header', kind: kind === KIND.step ? 'step' : 'result', length }
      return undefined
    }
    if (kind === KIND.start && size === 1) return this.#toBody('start', size)
    if (kind === KIND.credit && size === CREDIT_BYTES) return this.#toBody('credit', size)
    if (kind === KIND.control && size > 0 && size <= STAGE_CONTROL_BYTES_MAX) return this.#toBody('control', size)
    return fault(`a frame of kind ${kind} and ${length} bytes`)
  }

  #toBody(kind: 'start' | 'control' | 'credit', size: number): undefined {
    this.#phase = { at: 'body', kind, bytes: new Uint8Array(size) }
    this.#filled = 0
  }

  #readHeader(kind: 'step' | 'result', length: number): StageFrameFault | undefined {
    const header = decodeStepHeader(kind, this.#head)
    const inFrame = length - 1 - (STEP_HEADER_BYTES - PREFIX_BYTES)
    if (header.byteLength > STAGE_STEP_BYTES_MAX) return fault(`a step of ${header.byteLength} bytes`)
    if (inFrame !== Math.min(header.byteLength, STAGE_PART_BYTES_MAX))
      return fault('a step frame cut at the wrong place')
    this.#stepRows = header.byteLength
    this.#frameRows = inFrame
    if (inFrame === 0) this.#toPrefix()
    else this.#phase = { at: 'rows' }
    return this.#sink.step(header)
  }

  #readRows(part: Uint8Array): StageFrameFault | undefined {
    this.#frameRows -= part.byteLength
    this.#stepRows -= part.byteLength
    if (this.#frameRows === 0) this.#toPrefix()
    return this.#sink.rows(part)
  }

  #readBody(kind: 'start' | 'control' | 'credit', bytes: Uint8Array): StageFrameFault | undefined {
    this.#toPrefix()
    if (kind === 'start') {
      const purpose = PURPOSES[(bytes[0] ?? 0) - 1]
      return purpose === undefined ? fault('an unknown purpose') : this.#sink.start(purpose)
    }
    if (kind === 'credit') {
      const step = new DataView(bytes.buffer).getUint32(GENERATION_BYTES, true)
      return this.#sink.credit(toHex(bytes.subarray(0, GENERATION_BYTES)), step)
    }
    const message = decodeStageMessage(bytes)
    return message === undefined ? fault('a control message that cannot be read') : this.#sink.message(message)
  }
}
