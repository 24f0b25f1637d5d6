/** The pieces of one model's torrent as one store: `core.cbor`, which is in memory, and the model's file, which is a blob. */
import { Bitfield } from '#base'
import { pieceBytesIn, type Torrent, TORRENT_CORE_FILE, TORRENT_MODEL_FILE } from '#formats'
import type { Blob } from '#storage'
import { SwarmError } from './errors.ts'
import { MemoryFile } from './memory-file.ts'
import type { BlockRun, PieceStore, WriteResult } from './types.ts'

export class ModelStore implements PieceStore {
  readonly pieceCount: number
  readonly blob: Blob
  readonly #torrent: Torrent
  readonly #core: MemoryFile
  readonly #has: Bitfield
  /** The number of the first piece of the model's file. */
  readonly #first: number
  /** How many pieces of the blob are in `#has`. */
  #blobCount = 0

  /** @throws SwarmError SWARM_CORE_INVALID where they do not belong together */
  constructor(torrent: Torrent, core: Uint8Array<ArrayBuffer>, blob: Blob) {
    const coreFile = torrent.files[TORRENT_CORE_FILE]
    const modelFile = torrent.files[TORRENT_MODEL_FILE]
    if (coreFile === undefined || modelFile === undefined || !isFileOf(blob, modelFile)) {
      throw new SwarmError({ code: 'SWARM_CORE_INVALID' }, 'the blob does not hold the file that the core describes')
    }
    this.blob = blob
    this.pieceCount = torrent.pieceCount
    this.#torrent = torrent
    this.#core = new MemoryFile(core, coreFile.root)
    this.#first = modelFile.firstPiece
    this.#has = new Bitfield(torrent.pieceCount)
    for (let piece = 0; piece < this.#first; piece++) this.#has.set(piece)
  }

  /** The blob drops pieces where others need the space: they are looked for whenever their number has changed. */
  get has(): Bitfield {
    const { has } = this.blob
    if (has.count === this.#blobCount) return this.#has
    for (let piece = 0; piece < has.size; piece++) {
      if (has.has(piece)) this.#has.set(this.#first + piece)
      else this.#has.clear(this.#first + piece)
    }
    this.#blobCount = has.count
    return this.#has
  }

  /** The same pieces, counted in the model's own file. */
  inBlob(pieces: Bitfield): Bitfield {
    const own = new Bitfield(this.blob.pieceCount)
    for (const piece of pieces.numbers()) if (piece >= this.#first) own.set(piece - this.#first)
    return own
  }

  pieceBytes(piece: number): number {
    return pieceBytesIn(this.#torrent, piece)
  }

  blocksOf(piece: number): Bitfield | undefined {
    return piece < this.#first ? undefined : this.blob.blocksOf(piece - this.#first)
  }

  knowsHashes(pieces: Bitfield): boolean {
    return this.blob.knowsHashes(this.inBlob(pieces))
  }

  putHashes(
    file: number,
    hashes: { readonly first: number; readonly hashes: Uint8Array; readonly proof: Uint8Array },
  ): boolean {
    return file === TORRENT_MODEL_FILE && this.blob.putHashes(hashes)
  }

  hashesOf(
    file: number,
    range: { readonly first: number; readonly count: number; readonly proofLayers: number },
  ): { readonly hashes: Uint8Array; readonly proof: Uint8Array } | undefined {
    if (file === TORRENT_CORE_FILE) return this.#core.hashesOf(range)
    return file === TORRENT_MODEL_FILE ? this.blob.hashesOf(range) : undefined
  }

  putLeaves(piece: number, leaves: Uint8Array): boolean {
    return piece >= this.#first && this.blob.putLeaves(piece - this.#first, leaves)
  }

  async leavesOf(piece: number): Promise<Uint8Array | undefined> {
    return piece < this.#first ? this.#core.leavesOf(piece) : this.blob.leavesOf(piece - this.#first)
  }

  async write(run: BlockRun, bytes: Uint8Array<ArrayBuffer>): Promise<WriteResult> {
    // What is in the core was there before anybody asked for it.
    if (run.piece < this.#first) return { kind: 'kept', isPieceDone: true }
    const result = await this.blob.write({ ...run, piece: run.piece - this.#first }, bytes)
    if (result.kind === 'kept' && result.isPieceDone) this.#added(run.piece)
    return result
  }

  forgetHeld(piece: number): void {
    if (piece >= this.#first) this.blob.forgetHeld(piece - this.#first)
  }

  /** Counts the pieces of the model's file over the torrent. */
  set onHeldLost(listener: ((piece: number, blocks: readonly number[], why: 'bad' | 'failed') => void) | undefined) {
    this.blob.onHeldLost =
      listener === undefined ? undefined : (piece, blocks, why) => listener(this.#first + piece, blocks, why)
  }

  async read(piece: number, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (piece < this.#first) return this.#core.read(piece, offset, length)
    return this.blob.read(piece - this.#first, offset, length)
  }

  /** The usual change, one piece more, is taken without looking at all of them. */
  #added(piece: number): void {
    if (this.blob.has.count === this.#blobCount + 1 && this.#has.set(piece)) this.#blobCount++
  }
}

function isFileOf(blob: Blob, file: { readonly root: Uint8Array; readonly length: number }): boolean {
  return blob.length === file.length && blob.root.every((byte, at) => byte === file.root[at])
}
