/**
 * libtorrent (2.0.8) sees zeros between the files of a v2 torrent, as in a hybrid one: for the last block of a file it asks for
 * all 16 KiB, and takes nothing shorter. So requests of stock clients may reach to the end of the block; their owner sees what
 * there is to read, and zeros are put behind it.
 */
import { BLOCK_BYTES } from '../types.ts'
import { PADDED_REQUESTS_MAX } from './limits.ts'
import type { BlockSpan, PeerMessage, PieceLayout } from './types.ts'

export class Padding {
  /** Length as it was asked for, by piece and offset. */
  readonly #asked = new Map<string, number>()

  /** What a request or a cancel is about, without what lies behind the piece; undefined: it makes no sense. */
  trimmed(span: BlockSpan, layout: PieceLayout): BlockSpan | undefined {
    const pieceBytes = layout.pieceBytes(span.piece)
    const end = span.offset + span.length
    if (end <= pieceBytes) return span
    const paddedBytes = Math.ceil(pieceBytes / BLOCK_BYTES) * BLOCK_BYTES
    return end > paddedBytes || span.offset >= pieceBytes ? undefined : { ...span, length: pieceBytes - span.offset }
  }

  note(span: BlockSpan): void {
    this.#asked.set(keyOf(span), span.length)
    for (const key of this.#asked.keys()) {
      if (this.#asked.size <= PADDED_REQUESTS_MAX) return
      this.#asked.delete(key)
    }
  }

  forget(span: Pick<BlockSpan, 'piece' | 'offset'>): void {
    this.#asked.delete(keyOf(span))
  }

  /** The answer as the other side expects it. */
  answer(message: Extract<PeerMessage, { kind: 'piece' | 'reject' }>): PeerMessage {
    const length = this.#asked.size === 0 ? undefined : this.#asked.get(keyOf(message))
    if (length === undefined) return message
    this.forget(message)
    if (message.kind === 'reject') return { ...message, length }
    const bytes = new Uint8Array(length)
    bytes.set(message.bytes.subarray(0, length))
    return { ...message, bytes }
  }
}

function keyOf({ piece, offset }: Pick<BlockSpan, 'piece' | 'offset'>): string {
  return `${piece}:${offset}`
}
