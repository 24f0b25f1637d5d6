/** What the parts of the swarm are to one another: where pieces lie, who has them, who else may be asked for them. */
import type { Bitfield } from '#base'

/** Bytes of a block: a leaf of a BEP 52 tree, and what a stock client asks for at once. */
export const BLOCK_BYTES = 16 * 1024

/** Blocks of one piece that lie side by side. */
export type BlockRun = {
  /** From 0, over all files of the torrent. */
  readonly piece: number
  /** From 0, within the piece. */
  readonly firstBlock: number
  readonly blockCount: number
}

/** What became of bytes that were to be stored. */
export type WriteResult =
  /** Verified and stored, or held until they can be verified. `isPieceDone`: the whole piece is verified and stored now. */
  | { readonly kind: 'kept'; readonly isPieceDone: boolean }
  /** These blocks are not the file's. None of them was stored. */
  | { readonly kind: 'bad'; readonly blocks: readonly number[] }
  /** The disk, or the quota, takes no more. */
  | { readonly kind: 'full' }
  | { readonly kind: 'failed'; readonly reason: string }

/** The pieces of one torrent on this machine. Nothing is in it that was not verified. */
export interface PieceStore {
  readonly pieceCount: number
  /** Bytes of a piece. */
  pieceBytes(piece: number): number
  /** Verified pieces. Changes as pieces come and go; nobody outside changes it. */
  readonly has: Bitfield
  /** Verified and stored blocks of a piece that is not whole yet; undefined: none. */
  blocksOf(piece: number): Bitfield | undefined
  /** Whether the hash of each of these pieces is known: before, nothing of them can be verified. */
  knowsHashes(pieces: Bitfield): boolean
  /**
   * Takes hashes of pieces of one file, with the uncle hashes that lead to its root (BEP 52 `hashes`).
   * @param first counted in the file's own pieces @returns whether they are the file's
   */
  putHashes(
    file: number,
    hashes: { readonly first: number; readonly hashes: Uint8Array; readonly proof: Uint8Array },
  ): boolean
  /** Hashes of pieces, with proof; undefined: not known. @param count a power of two, or all there are */
  hashesOf(
    file: number,
    range: { readonly first: number; readonly count: number; readonly proofLayers: number },
  ): { readonly hashes: Uint8Array; readonly proof: Uint8Array } | undefined
  /** Hashes of the blocks of a piece, one after another. @returns whether they are the piece's */
  putLeaves(piece: number, leaves: Uint8Array): boolean
  /** Hashes of a piece's blocks; undefined: this machine has none of them. */
  leavesOf(piece: number): Promise<Uint8Array | undefined>
  /**
   * Verifies and stores blocks. Where the leaves of the piece are not known the blocks are held until they are, or until the
   * piece is whole. The bytes belong to the store from then on.
   */
  write(run: BlockRun, bytes: Uint8Array<ArrayBuffer>): Promise<WriteResult>
  /** Drops what is held of a piece and was not verified: the next who gives it is judged by its own blocks alone. */
  forgetHeld(piece: number): void
  /** Bytes of verified blocks, in memory of their own. @throws StorageError where they are not here, or were changed on the disk */
  read(piece: number, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>
}

/** A place that has whole files and is asked for ranges: a web server, a machine with rsync, a folder. */
export interface Origin {
  readonly kind: 'http' | 'rsync' | 'folder'
  /** For people: no credentials in it. */
  readonly name: string
  /** How many ranges may be fetched at once. */
  readonly parallel: number
  /**
   * Bytes of the model's file, in order, in pieces of any size. Never more than `length`.
   * @throws SwarmError SWARM_ORIGIN_…; the signal's reason
   */
  fetch(
    range: { readonly offset: number; readonly length: number },
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<Uint8Array>
  /** Ends what runs. Idempotent. */
  close(): Promise<void>
}
