/** What the node's thread and the thread that verifies and writes blobs say to each other. */
import type { NodeRun } from '#formats'
import type { BlobFileOptions, BlobState, Dropped, PieceWrite, PieceWritten } from './blob-file.ts'

export type BlobCall =
  | { readonly kind: 'open'; readonly options: BlobFileOptions }
  | { readonly kind: 'nodes'; readonly runs: readonly NodeRun[] }
  | { readonly kind: 'leaves'; readonly piece: number; readonly leaves: Uint8Array }
  | { readonly kind: 'leaves-of'; readonly piece: number; readonly pieceHash: Uint8Array }
  /** The buffers of its parts are handed over, and come back. */
  | { readonly kind: 'write'; readonly write: PieceWrite }
  | { readonly kind: 'drop'; readonly pieces: readonly number[] }
  | { readonly kind: 'check'; readonly piece: number; readonly pieceHash: Uint8Array }
  | { readonly kind: 'sync' }
  | { readonly kind: 'close' }
  | { readonly kind: 'remove' }

/** What each call is answered with. */
export type BlobAnswers = {
  readonly open: BlobState
  readonly nodes: undefined
  /** Whether they are kept. */
  readonly leaves: boolean
  readonly 'leaves-of': Uint8Array<ArrayBuffer> | undefined
  readonly write: PieceWritten
  readonly drop: Dropped
  /** Good bytes; undefined: bad. */
  readonly check: number | undefined
  readonly sync: undefined
  readonly close: undefined
  /** Bytes that the disk has again. */
  readonly remove: number
}

/** `blob`: a number that the asking side has given to the blob. `id` goes back with the answer. */
export type BlobRequest = { readonly id: number; readonly blob: number; readonly call: BlobCall }

export type BlobReply =
  | { readonly id: number; readonly answer: BlobAnswers[keyof BlobAnswers] }
  /** What the file system said. */
  | { readonly id: number; readonly error: string }

/** The answers to one turn of requests, and the buffers that came with them; or that to a sync, which comes by itself. */
export type BlobReplies = {
  readonly isTurn: boolean
  readonly replies: readonly BlobReply[]
  readonly buffers: readonly ArrayBuffer[]
}
