/** GET_FILE_METADATA: a file's model, and the hashes of its pieces (BEP 52's piece layer) as the attachment. */
import { z } from 'zod'
import { SHA256_BYTES } from '#crypto'
import { attachmentOfBytes, defineCommand } from '#protocol'
import { fileFacts, fileSchema } from './list-files.ts'
import { HASHING_DEADLINE_MS, PIECE_HASHES_MAX, PIECE_NUMBER_MAX } from '../limits.ts'
import { DIGEST_BYTES } from '../shared-files.ts'
import { hashSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const request = z.object({
  file: hashSchema,
  /** Of which piece the first hash is wanted. */
  first_piece: z.int().min(0).max(PIECE_NUMBER_MAX).default(0),
  /** Hashes at most; 0: none. */
  hash_count: z.int().min(0).max(PIECE_HASHES_MAX).default(PIECE_HASHES_MAX),
  /** Plain SHA-256 of each so many bytes, instead of BEP 52's hashes of pieces. Both numbers above count these then. */
  digest_bytes: z.literal(DIGEST_BYTES).optional(),
})

const response = fileSchema.extend({
  architecture: z.string(),
  layer_count: z.int(),
  first_piece: z.int(),
  /** Hashes of 32 bytes in the attachment. */
  hash_count: z.int(),
})

export function getFileMetadata({ files }: CommandServices) {
  return defineCommand({
    type: 38,
    name: 'GET_FILE_METADATA',
    request,
    response,
    cost: 4,
    rate: { perSecond: 1, burst: 10 },
    right: 'guest',
    deadlineMs: HASHING_DEADLINE_MS,
    priority: 'normal',
    handle: async ({ file: root, first_piece, hash_count, digest_bytes }, { signal }) => {
      const file = await files.find(root, { signal })
      const all =
        digest_bytes === undefined ? file.tree.layer(0, file.tree.count) : await files.digests(file, { signal })
      const count = all.byteLength / SHA256_BYTES
      const first = Math.min(first_piece, count)
      const hashes = all.slice(first * SHA256_BYTES, Math.min(first + hash_count, count) * SHA256_BYTES)
      const { architecture, layerCount } = file.model.config
      const body = {
        ...fileFacts(file),
        architecture,
        layer_count: layerCount,
        first_piece: first,
        hash_count: hashes.byteLength / SHA256_BYTES,
      }
      return hashes.byteLength === 0 ? { body } : { body, attachment: attachmentOfBytes(hashes) }
    },
  })
}
