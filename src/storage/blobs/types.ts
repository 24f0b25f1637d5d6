/** What a blob store gives: parts of files that are known by their roots, verified, on this machine. */
import type { Bitfield } from '#base'
import type { HashedFile, ProvenHashes } from '#formats'

/** A file by what it is: its BEP 52 root (32 bytes) and its size in bytes. */
export type BlobName = { readonly root: Uint8Array; readonly length: number }

/** Blocks of one piece that lie side by side. */
export type BlobRun = {
  /** Of this file, from 0. */
  readonly piece: number
  /** From 0, within the piece. */
  readonly firstBlock: number
  readonly blockCount: number
}

/** What became of bytes that were to be stored. The same as `WriteResult` of `#swarm`. */
export type BlobWriteResult =
  /** Verified and stored, or held until they can be verified. `isPieceDone`: the whole piece is verified and stored now. */
  | { readonly kind: 'kept'; readonly isPieceDone: boolean }
  /**
   * These blocks are not the file's. Nothing of what was given was stored. Where the hashes of the blocks are not known, it
   * is the whole piece that is not: then all of its blocks are named, and none is held any more.
   */
  | { readonly kind: 'bad'; readonly blocks: readonly number[] }
  /** The disk, or the quota, takes no more. */
  | { readonly kind: 'full' }
  | { readonly kind: 'failed'; readonly reason: string }

export type BlobFacts = {
  /** 64 hexadecimal digits. */
  readonly root: string
  /** Bytes of the whole file. */
  readonly length: number
  /** Verified bytes that are here. */
  readonly heldBytes: number
  /** Absolute. */
  readonly path: string
  /** A file of the user's, which stays where it is. */
  readonly isAdopted: boolean
}

/** One file, or those pieces of it that are here. Pieces are the file's own, of 1 MiB each but the last, counted from 0. */
export interface Blob {
  readonly root: Uint8Array
  /** Bytes. */
  readonly length: number
  readonly pieceCount: number
  /** What an engine opens: full length, holes where nothing is. Absolute. */
  readonly path: string
  /** Verified pieces. Changes as pieces come and go; nobody outside changes it. */
  readonly has: Bitfield
  /** Verified and stored blocks of a piece that is not whole yet; undefined: none. */
  blocksOf(piece: number): Bitfield | undefined
  /** Whether the hash of each of these pieces is known: before, nothing of them can be verified. */
  knowsHashes(pieces: Bitfield): boolean
  /** Takes hashes of pieces. @returns whether they are the file's */
  putHashes(hashes: ProvenHashes): boolean
  /** As `PieceHashes.get`; undefined: not known, or no such range. */
  hashesOf(range: {
    readonly first: number
    readonly count: number
    readonly proofLayers: number
  }): Omit<ProvenHashes, 'first'> | undefined
  /** Takes the hashes of all blocks of a piece whose hash is known. @returns whether they are the piece's */
  putLeaves(piece: number, leaves: Uint8Array): boolean
  /** Hashes of a piece's blocks; undefined: this machine has none of them. */
  leavesOf(piece: number): Promise<Uint8Array | undefined>
  /**
   * Verifies and stores blocks. The bytes belong to the store from then on: their buffer is handed to a thread, unless they
   * are a part of a larger one, which is copied. Never rejects.
   */
  write(run: BlobRun, bytes: Uint8Array<ArrayBuffer>): Promise<BlobWriteResult>
  /** Bytes of verified blocks. @throws StorageError STORAGE_BLOB_MISSING, STORAGE_FILE_CHANGED, STORAGE_READ */
  read(piece: number, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>
  /** Keeps these pieces from being dropped. @returns ends that; idempotent */
  pin(pieces: Bitfield): () => void
  /** Forgets pieces that are not pinned, and gives their space back. Does nothing for a user's file. @returns bytes freed */
  drop(pieces: Bitfield): Promise<number>
  /**
   * Reads everything again; bad pieces are dropped.
   * @throws StorageError STORAGE_FILE_CHANGED, STORAGE_READ; the signal's reason
   */
  verify(options: {
    readonly signal?: AbortSignal
    /** Bytes read so far, and in all. */
    readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  }): Promise<{ readonly goodBytes: number; readonly badPieces: readonly number[] }>
  /** Drops what is held of a piece and was not verified, so that whoever gives it next is judged by its own blocks alone. */
  forgetHeld(piece: number): void
  /**
   * Told of blocks that were held (`write` said `kept`) and are lost: they must be fetched again. `bad`: they are not the
   * file's, as the hashes of their piece's blocks say, which have come; `failed`: they could not be stored.
   */
  onHeldLost: ((piece: number, blocks: readonly number[], why: 'bad' | 'failed') => void) | undefined
}

/** Files by their roots. Nothing is in it that was not verified. */
export interface BlobStore {
  /**
   * The blob of a file; made (empty, sparse) where it is not here. The same object each time.
   * @throws StorageError STORAGE_BLOB_LIMIT, STORAGE_BLOB_DISK
   */
  open(file: BlobName): Promise<Blob>
  /**
   * A file of the user's, complete, that stays where it is and is never written. Refused once its size, times or inode
   * change. Takes the place of what the store has of the file itself.
   * @param hashed from hashing it in its present state; left out: read from an earlier adoption, or computed
   * @throws StorageError STORAGE_FILE, STORAGE_FILE_CHANGED, STORAGE_BLOB_PINNED, STORAGE_BLOB_LIMIT, STORAGE_BLOB_DISK
   */
  adopt(path: string, file: BlobName, hashed?: HashedFile): Promise<Blob>
  list(): readonly BlobFacts[]
  /** Bytes of verified blocks in the store's own files, those of pinned pieces among them, and how many there may be. */
  usage(): { readonly bytes: number; readonly pinnedBytes: number; readonly quotaBytes: number }
  /**
   * Drops unpinned pieces, least recently used first, until so many bytes are free under the quota; nothing where that
   * would not do. @returns whether they are free
   */
  makeRoom(bytes: number): Promise<boolean>
  /** Forgets a file. A user's own file stays. @returns bytes freed @throws StorageError STORAGE_BLOB_PINNED */
  remove(root: string): Promise<number>
  /** A buffer to receive blocks into: one that came back from the thread, or a new one. Its bytes are anything. */
  takeBuffer(length: number): Uint8Array<ArrayBuffer>
  /** Ends what runs, syncs and closes. Idempotent. */
  close(): Promise<void>
}
