/**
 * The model file as peers may fetch it: its BEP 52 root, and pieces with proofs. The hashes are computed once, from the
 * whole file, and kept in memory (64 bytes for each MiB of the file).
 */
import { abortable, concatBytes, toHex } from '#base'
import { sha256 } from '#crypto'
import { isPieceOf, modelId, PIECE_BYTES, type PieceTree, readGguf } from '#formats'
import type { DigestedAttachment } from '#protocol'
import { attachmentOfFile, openFileSource } from '#storage'
import { CommandError } from './commands/errors.ts'
import type { LocalModel } from './model-library.ts'

/** Bytes of a piece in the protocols of the systems before. */
export const DIGEST_BYTES = 64 * 1024

export type SharedFile = {
  /** BEP 52 root, 64 hexadecimal digits: what the file is asked for by. */
  readonly root: string
  readonly model: LocalModel
  readonly tree: PieceTree
}

export type Piece = {
  readonly offset: number
  /** Holds neither memory nor an open file between its readings: many pieces may wait to be fetched. */
  readonly attachment: DigestedAttachment
  readonly proof: readonly Uint8Array[]
}

export class SharedFiles {
  readonly #model: LocalModel
  readonly #isShared: boolean
  readonly #stopping: AbortSignal
  #tree: Promise<PieceTree> | undefined
  #digests: Promise<Uint8Array> | undefined

  /** @param deps.stopping ends the computing of hashes when the node stops */
  constructor(
    deps: { readonly model: LocalModel; readonly stopping: AbortSignal },
    options: { readonly isShared: boolean },
  ) {
    this.#model = deps.model
    this.#stopping = deps.stopping
    this.#isShared = options.isShared
    if (deps.model.hashed !== undefined) this.#tree = Promise.resolve(deps.model.hashed.tree)
  }

  /**
   * What is shared. The first call may read the whole file; callers that leave do not end that for the others.
   * @throws CommandError NODE_FILE_CHANGED; StorageError; the signal's reason
   */
  async list(options: { readonly signal: AbortSignal }): Promise<readonly SharedFile[]> {
    if (!this.#isShared) return []
    const tree = await abortable(this.#compute(), options.signal)
    return [{ root: toHex(tree.root), model: this.#model, tree }]
  }

  /** @throws CommandError NODE_FILE_UNKNOWN, and as `list` */
  async find(root: string, options: { readonly signal: AbortSignal }): Promise<SharedFile> {
    const files = await this.list(options)
    const file = files.find(candidate => candidate.root === root)
    if (file === undefined)
      throw new CommandError({ code: 'NODE_FILE_UNKNOWN' }, 'no file with this root is shared here')
    return file
  }

  /** Reads a piece and checks it, so that nothing goes out that would cost this node its name. @throws CommandError */
  async read({ tree, model }: SharedFile, piece: number): Promise<Piece> {
    if (piece >= tree.count) {
      const fault = { code: 'NODE_PIECE_UNKNOWN', piece, count: tree.count } as const
      throw new CommandError(fault, `the file has pieces 0 to ${tree.count - 1}`)
    }
    const offset = piece * PIECE_BYTES
    const source = await openFileSource(model.file)
    try {
      const bytes = await source.read(offset, Math.min(PIECE_BYTES, tree.size - offset))
      const proof = tree.proof(piece)
      if (!isPieceOf(tree, { piece, bytes, proof })) throw changed()
      const attachment = attachmentOfPiece(model.file, { offset, sizeBytes: bytes.byteLength, sha256: sha256(bytes) })
      return { offset, attachment, proof }
    } finally {
      await source.close()
    }
  }

  /**
   * SHA-256 of each 64 KiB of the file, one after another, as older peers know files. The first call reads all of it; what
   * is hashed was checked against the file's own tree.
   * @throws CommandError NODE_FILE_CHANGED; StorageError; the signal's reason
   */
  digests(file: SharedFile, options: { readonly signal: AbortSignal }): Promise<Uint8Array> {
    this.#digests ??= this.#digest(file).catch((error: unknown) => {
      this.#digests = undefined
      throw error
    })
    return abortable(this.#digests, options.signal)
  }

  async #digest({ tree, model }: SharedFile): Promise<Uint8Array> {
    const digests: Uint8Array[] = []
    const source = await openFileSource(model.file)
    try {
      for (let piece = 0; piece < tree.count; piece++) {
        this.#stopping.throwIfAborted()
        const offset = piece * PIECE_BYTES
        const bytes = await source.read(offset, Math.min(PIECE_BYTES, tree.size - offset))
        if (!isPieceOf(tree, { piece, bytes, proof: tree.proof(piece) })) throw changed()
        for (let at = 0; at < bytes.byteLength; at += DIGEST_BYTES) {
          digests.push(sha256(bytes.subarray(at, at + DIGEST_BYTES)))
        }
      }
      return concatBytes(digests)
    } finally {
      await source.close()
    }
  }

  #compute(): Promise<PieceTree> {
    // A failure is not kept: the disk may be back next time.
    this.#tree ??= this.#hash().catch((error: unknown) => {
      this.#tree = undefined
      throw error
    })
    return this.#tree
  }

  async #hash(): Promise<PieceTree> {
    const source = await openFileSource(this.#model.file)
    try {
      const { id, pieces } = await modelId(source, await readGguf(source), { signal: this.#stopping })
      if (id !== this.#model.id) throw changed()
      return pieces
    } finally {
      await source.close()
    }
  }
}

/** The file may have changed by the time that it is read: then the digest does not fit, and the peer hears so. */
function attachmentOfPiece(
  file: string,
  { offset, sizeBytes, sha256 }: { readonly offset: number; readonly sizeBytes: number; readonly sha256: Uint8Array },
): DigestedAttachment {
  return {
    sizeBytes,
    sha256,
    read: async function* (options) {
      const source = await openFileSource(file)
      try {
        yield* attachmentOfFile(source, { offset, sizeBytes }).read(options)
      } finally {
        await source.close()
      }
    },
    release: () => Promise.resolve(),
  }
}

function changed(): CommandError {
  return new CommandError({ code: 'NODE_FILE_CHANGED' }, 'the file is not the one that this node was started with')
}
