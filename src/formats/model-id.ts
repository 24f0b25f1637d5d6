/**
 * The id of a model: SHA-256 of a canonical description of what its bytes are. Names, paths and signatures are no part
 * of it, so two people who add the same file get the same model.
 *
 *   core = dag-cbor { format: 1, files: [{ root, length }], tensors: [[name, dims, ggml type, offset, size], ...] }
 *
 * `root` is the file's BEP 52 root; the tensor index follows from the file's header, so that one who has the core alone
 * knows which pieces hold which layer.
 */
import { encode } from '@ipld/dag-cbor'
import { abortError, toHex } from '#base'
import { sha256 } from '#crypto'
import type { ByteSource } from './byte-source.ts'
import { becameShorter, type HashOptions, THREADED_BYTES_MIN } from './file-hasher.ts'
import type { GgufFile } from './gguf.ts'
import { type HashedFile, PIECE_BYTES, type PieceTree, PieceTreeHasher } from './pieces.ts'

type ModelFile = {
  /** BEP 52 pieces root, 64 hexadecimal digits. */
  readonly root: string
  /** Bytes. */
  readonly length: number
}

export type ModelIdentity = {
  /** 64 hexadecimal digits. */
  readonly id: string
  readonly files: readonly ModelFile[]
  /** The canonical core, whose SHA-256 is the id. */
  readonly core: Uint8Array
  /** The hashes of the file's pieces, which were computed on the way. */
  readonly pieces: PieceTree
  /** The hashes of its leaves, one after another: with `pieces`, a `HashedFile`. */
  readonly leaves: Uint8Array
}

/** The form of the core that is written and read. */
export const CORE_FORMAT = 1

/**
 * Reads the whole file once and computes its model's id.
 * @throws FormatError FORMAT_GGUF_TRUNCATED where the file became shorter meanwhile; the signal's reason; the source's errors
 */
export async function modelId(source: ByteSource, gguf: GgufFile, options: HashOptions = {}): Promise<ModelIdentity> {
  const { tree: pieces, leaves } = await hashSource(source, options)
  const { root } = pieces
  const tensors = gguf.tensors.map(tensor => [tensor.name, tensor.dims, tensor.type.id, tensor.offset, tensor.size])
  const core = encode({ format: CORE_FORMAT, files: [{ root, length: source.size }], tensors })
  return { id: toHex(sha256(core)), files: [{ root: toHex(root), length: source.size }], core, pieces, leaves }
}

/**
 * Hashes a source that is not empty: in threads where it is large and has such a way, else a piece at a time, with two
 * pieces in memory at once.
 * @throws FormatError FORMAT_GGUF_TRUNCATED; the signal's reason; the source's errors
 */
export async function hashSource(source: ByteSource, options: HashOptions = {}): Promise<HashedFile> {
  if (source.hash !== undefined && source.size >= THREADED_BYTES_MIN) return source.hash(options)
  const hasher = new PieceTreeHasher(source.size)
  const read = (offset: number): Promise<Uint8Array> => source.read(offset, Math.min(PIECE_BYTES, source.size - offset))
  let pending = read(0)
  for (let offset = 0; offset < source.size; offset += PIECE_BYTES) {
    const bytes = await pending
    if (options.signal?.aborted === true) throw abortError(options.signal)
    const length = Math.min(PIECE_BYTES, source.size - offset)
    if (bytes.byteLength !== length) throw becameShorter(offset + bytes.byteLength)
    // The disk works on the next piece while this one is hashed.
    if (offset + length < source.size) pending = read(offset + length)
    hasher.update(bytes)
    options.onProgress?.(offset + length, source.size)
  }
  return hasher.finish()
}
