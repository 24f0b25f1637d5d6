/**
 * Messages inside a stream of `/koinon/bulk/1`. All have a fixed binary form; numbers are big-endian, as in frames.
 *
 *     any message   length u32 (bytes after this field) | kind u8 | body
 *
 *     1 GET         transfer 16 bytes | from u64                              receiver to sender, once
 *     2 CHUNK       0 u24 | offset u64 | check 8 bytes | 1 to 258 048 bytes   sender to receiver
 *     3 ACK         received u64                                              receiver to sender
 *     4 DELIVERED   sha256 32 bytes                                           receiver to sender, the last
 *     5 FAILED      reason u8                                                 either way, the last
 *
 * A full chunk with its header fits one sealed frame (256 KiB), and its bytes are a whole number of pages.
 */
import { TRANSFER_CHUNK_BYTES } from '../limits.ts'

const KIND = { get: 1, chunk: 2, ack: 3, delivered: 4, failed: 5 } as const

/** Why one side gives up. The position is the number on the wire. */
const REASONS = ['unknown', 'busy', 'source', 'stopping', 'not-wanted', 'protocol'] as const
export type TransferReason = (typeof REASONS)[number]

export const TRANSFER_ID_BYTES = 16

/** Bytes of a chunk's check: enough against accidents; the digest of the whole is what counts against intent. */
export const CHECK_BYTES = 8

const PREFIX_BYTES = 5
const CHUNK_HEADER_BYTES = 24
const DIGEST_BYTES = 32

export type TransferMessage =
  | { readonly kind: 'get'; readonly transfer: Uint8Array; readonly from: number }
  /** `bytes` are the receiver's own: they share memory with nothing. */
  | {
      readonly kind: 'chunk'
      readonly offset: number
      /** Undefined: the sender does not know it. */
      readonly check: Uint8Array | undefined
      readonly bytes: Uint8Array<ArrayBuffer>
    }
  | { readonly kind: 'ack'; readonly received: number }
  | { readonly kind: 'delivered'; readonly sha256: Uint8Array }
  | { readonly kind: 'failed'; readonly reason: TransferReason }
  /** The stream's bytes make no sense from here on. */
  | { readonly kind: 'fault'; readonly what: string }

function message(kind: number, bodyBytes: number): { bytes: Uint8Array<ArrayBuffer>; view: DataView } {
  const bytes = new Uint8Array(PREFIX_BYTES + bodyBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 1 + bodyBytes)
  view.setUint8(4, kind)
  return { bytes, view }
}

/** @param transfer 16 bytes @param from bytes that the receiver has */
export function encodeGet(transfer: Uint8Array, from: number): Uint8Array {
  const { bytes, view } = message(KIND.get, TRANSFER_ID_BYTES + 8)
  bytes.set(transfer, PREFIX_BYTES)
  view.setBigUint64(PREFIX_BYTES + TRANSFER_ID_BYTES, BigInt(from))
  return bytes
}

export function encodeAck(received: number): Uint8Array {
  const { bytes, view } = message(KIND.ack, 8)
  view.setBigUint64(PREFIX_BYTES, BigInt(received))
  return bytes
}

export function encodeDelivered(sha256: Uint8Array): Uint8Array {
  const { bytes } = message(KIND.delivered, DIGEST_BYTES)
  bytes.set(sha256, PREFIX_BYTES)
  return bytes
}

export function encodeFailed(reason: TransferReason): Uint8Array {
  const { bytes } = message(KIND.failed, 1)
  bytes[PREFIX_BYTES] = REASONS.indexOf(reason) + 1
  return bytes
}

/** The message of a chunk, and the part of it where the chunk's `size` bytes are to be written. */
export function chunkMessage(
  offset: number,
  size: number,
  check: Uint8Array | undefined,
): { readonly bytes: Uint8Array; readonly room: Uint8Array } {
  const bytes = allocate(CHUNK_HEADER_BYTES + size)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.byteLength - 4)
  view.setUint32(4, KIND.chunk * 2 ** 24)
  view.setBigUint64(8, BigInt(offset))
  if (check === undefined) bytes.fill(0, 16, CHUNK_HEADER_BYTES)
  else bytes.set(check, 16)
  return { bytes, room: bytes.subarray(CHUNK_HEADER_BYTES) }
}

/** Memory of its own that is not cleared first: whoever asks writes all of it. Clearing costs as much as a hash. */
function allocate(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer)
}

type Body = { readonly kind: Exclude<keyof typeof KIND, 'chunk'>; readonly bytes: Uint8Array }

/** Length of a body, by kind; chunks are variable. */
const BODY_BYTES: ReadonlyMap<number, readonly [Body['kind'], number]> = new Map([
  [KIND.get, ['get', TRANSFER_ID_BYTES + 8]],
  [KIND.ack, ['ack', 8]],
  [KIND.delivered, ['delivered', DIGEST_BYTES]],
  [KIND.failed, ['failed', 1]],
])

type Phase =
  | { readonly at: 'prefix' }
  | { readonly at: 'body'; readonly body: Body }
  | { readonly at: 'chunk-header' }
  | {
      readonly at: 'chunk'
      readonly offset: number
      readonly check: Uint8Array | undefined
      readonly bytes: Uint8Array<ArrayBuffer>
    }
  | { readonly at: 'failed'; readonly what: string }

/**
 * Cuts a stream into messages, whatever the sizes of its pieces. Holds at most one unfinished message; a chunk is put
 * together in memory that will be its own, so that it can be handed to a thread or kept.
 */
export class TransferReader {
  readonly #takesChunks: boolean
  readonly #head = new Uint8Array(CHUNK_HEADER_BYTES)
  #phase: Phase = { at: 'prefix' }
  #filled = 0

  /** @param options whether the other side may send chunks */
  constructor(options: { readonly takesChunks: boolean }) {
    this.#takesChunks = options.takesChunks
  }

  /** The messages that this piece completes, made one at a time as they are taken. A fault is the last. */
  *push(piece: Uint8Array): Generator<TransferMessage, void, undefined> {
    let offset = 0
    while (offset < piece.byteLength) {
      const target = this.#target()
      if (target === undefined) break
      const part = piece.subarray(offset, offset + target.byteLength - this.#filled)
      target.set(part, this.#filled)
      offset += part.byteLength
      this.#filled += part.byteLength
      if (this.#filled < target.byteLength) return
      const found = this.#advance()
      if (found !== undefined) yield found
    }
    if (this.#phase.at === 'failed') yield { kind: 'fault', what: this.#phase.what }
  }

  #target(): Uint8Array | undefined {
    const phase = this.#phase
    if (phase.at === 'prefix') return this.#head.subarray(0, PREFIX_BYTES)
    if (phase.at === 'chunk-header') return this.#head
    if (phase.at === 'body') return phase.body.bytes
    return phase.at === 'chunk' ? phase.bytes : undefined
  }

  #advance(): TransferMessage | undefined {
    const phase = this.#phase
    if (phase.at === 'prefix') this.#readPrefix()
    else if (phase.at === 'chunk-header') this.#readChunkHeader()
    else if (phase.at === 'chunk') {
      this.#restart()
      return { kind: 'chunk', offset: phase.offset, check: phase.check, bytes: phase.bytes }
    } else if (phase.at === 'body') {
      this.#restart()
      return this.#readBody(phase.body)
    }
    return undefined
  }

  #restart(): void {
    this.#phase = { at: 'prefix' }
    this.#filled = 0
  }

  #fail(what: string): void {
    this.#phase = { at: 'failed', what }
  }

  #readPrefix(): void {
    const length = new DataView(this.#head.buffer).getUint32(0)
    const kind = this.#head[4] ?? 0
    if (kind === KIND.chunk && this.#takesChunks) {
      const least = CHUNK_HEADER_BYTES - 4
      // The header's first bytes are the prefix, so `#filled` stays.
      if (length > least && length <= least + TRANSFER_CHUNK_BYTES) this.#phase = { at: 'chunk-header' }
      else this.#fail(`a chunk of ${length} bytes`)
      return
    }
    const known = BODY_BYTES.get(kind)
    if (known === undefined || length !== 1 + known[1]) {
      this.#fail(`a message of kind ${kind} and ${length} bytes`)
      return
    }
    this.#phase = { at: 'body', body: { kind: known[0], bytes: new Uint8Array(known[1]) } }
    this.#filled = 0
  }

  #readChunkHeader(): void {
    const view = new DataView(this.#head.buffer)
    if (view.getUint32(4) % 2 ** 24 !== 0) {
      this.#fail('reserved bytes that are not 0')
      return
    }
    const check = this.#head.slice(16, CHUNK_HEADER_BYTES)
    this.#phase = {
      at: 'chunk',
      offset: Number(view.getBigUint64(8)),
      check: check.every(byte => byte === 0) ? undefined : check,
      bytes: allocate(view.getUint32(0) + 4 - CHUNK_HEADER_BYTES),
    }
    this.#filled = 0
  }

  #readBody({ kind, bytes }: Body): TransferMessage | undefined {
    const view = new DataView(bytes.buffer)
    if (kind === 'get') {
      const from = Number(view.getBigUint64(TRANSFER_ID_BYTES))
      return { kind, transfer: bytes.subarray(0, TRANSFER_ID_BYTES), from }
    }
    if (kind === 'ack') return { kind, received: Number(view.getBigUint64(0)) }
    if (kind === 'delivered') return { kind, sha256: bytes }
    const reason = REASONS[view.getUint8(0) - 1]
    if (reason !== undefined) return { kind, reason }
    this.#fail('an unknown reason')
    return undefined
  }
}
