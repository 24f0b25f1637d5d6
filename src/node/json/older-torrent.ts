/**
 * `/torrent/1.0`, as the systems before fetch files: a list of files, a file's metadata, pieces of 64 KiB one by one.
 *
 *   "ListFiles"                                       {"FileList": {"files": [{info_hash, filename, size}]}}
 *   {"RequestMetadata": {info_hash}}                  {"Metadata": {"metadata": {info_hash, filename, file_size,
 *                                                      piece_size, pieces: [SHA-256 as text], announce: []}}}
 *   {"RequestPiece": {info_hash, piece_index}}        {"PieceData": {info_hash, piece_index, data: [numbers]}}
 *
 * `info_hash` is the BEP 52 root of the file. What is not here is answered with an empty list of files, as they do.
 */
import { z } from 'zod'
import { concatBytes, toHex } from '#base'
import { SHA256_BYTES } from '#crypto'
import { PIECE_BYTES } from '#formats'
import { fileSchema } from '../commands/list-files.ts'
import { hashSchema } from '../commands/schemas.ts'
import { OLDER_PIECES_MAX, PIECE_HASHES_MAX, PIECE_NUMBER_MAX } from '../limits.ts'
import { DIGEST_BYTES } from '../shared-files.ts'
import { type OlderAsk, type OlderHandler, OlderRefusal } from './older-exchange.ts'

const NOTHING = { FileList: { files: [] } } as const
const PIECES_IN_PIECE = PIECE_BYTES / DIGEST_BYTES
const NAME_CHARS_MAX = 100

const questionSchema = z.union([
  z.literal('ListFiles'),
  z.strictObject({ ListFiles: z.union([z.null(), z.strictObject({})]) }),
  z.strictObject({ RequestMetadata: z.strictObject({ info_hash: hashSchema }) }),
  z.strictObject({
    RequestPiece: z.strictObject({ info_hash: hashSchema, piece_index: z.int().min(0).max(PIECE_NUMBER_MAX) }),
  }),
])

/** Answers questions of this protocol; undefined: it is none. @throws OlderRefusal for what is refused, not missing */
export const answerOlderTorrent: OlderHandler = async (value, ask) => {
  const parsed = questionSchema.safeParse(value)
  if (!parsed.success) return undefined
  const question = parsed.data
  try {
    if (typeof question === 'string' || 'ListFiles' in question) return await listFiles(ask)
    if ('RequestMetadata' in question) return await metadataOf(question.RequestMetadata.info_hash, ask)
    const { info_hash, piece_index } = question.RequestPiece
    return await pieceOf(info_hash, piece_index, ask)
  } catch (error) {
    const isMissing = error instanceof OlderRefusal && /^NODE_(?:FILE|PIECE)_UNKNOWN$/.test(error.code)
    if (isMissing) return NOTHING
    throw error
  }
}

async function listFiles(ask: OlderAsk): Promise<unknown> {
  const { body } = await ask('LIST_FILES', {})
  const { files } = z.object({ files: z.array(fileSchema) }).parse(body)
  const shown = files.filter(({ size }) => size <= OLDER_PIECES_MAX * DIGEST_BYTES)
  return {
    FileList: { files: shown.map(({ file, name, size }) => ({ info_hash: file, filename: fileName(name), size })) },
  }
}

async function metadataOf(root: string, ask: OlderAsk): Promise<unknown> {
  const parts: Uint8Array[] = []
  for (let first = 0; ; first += PIECE_HASHES_MAX) {
    const { body, attachment } = await ask('GET_FILE_METADATA', {
      file: root,
      first_piece: first,
      hash_count: PIECE_HASHES_MAX,
      digest_bytes: DIGEST_BYTES,
    })
    const { name, size } = fileSchema.parse(body)
    const count = Math.ceil(size / DIGEST_BYTES)
    if (count > OLDER_PIECES_MAX) return NOTHING
    parts.push(attachment)
    if (first + PIECE_HASHES_MAX < count) continue
    const metadata = {
      info_hash: root,
      filename: fileName(name),
      file_size: size,
      piece_size: DIGEST_BYTES,
      pieces: hashesIn(concatBytes(parts)),
      announce: [],
    }
    return { Metadata: { metadata } }
  }
}

async function pieceOf(root: string, index: number, ask: OlderAsk): Promise<unknown> {
  const { attachment } = await ask('REQUEST_PIECE', { file: root, piece: Math.floor(index / PIECES_IN_PIECE) })
  const from = (index % PIECES_IN_PIECE) * DIGEST_BYTES
  const bytes = attachment.subarray(from, from + DIGEST_BYTES)
  if (bytes.byteLength === 0) return NOTHING
  return { PieceData: { info_hash: root, piece_index: index, data: Array.from(bytes) } }
}

function hashesIn(bytes: Uint8Array): string[] {
  return Array.from({ length: bytes.byteLength / SHA256_BYTES }, (_, at) =>
    toHex(bytes.subarray(at * SHA256_BYTES, (at + 1) * SHA256_BYTES)),
  )
}

/** These peers make a path of it without a look: nothing of a model's own name may lead anywhere. */
function fileName(name: string): string {
  const safe = name.replaceAll(/[^\w-]+/g, '_').slice(0, NAME_CHARS_MAX)
  return `${safe === '' ? 'model' : safe}.gguf`
}
