/** GET_FILE_METADATA: a file's model, and the hashes of its pieces (BEP 52's piece layer) as the attachment. */
import { z } from 'zod'
import { attachmentOfBytes, defineCommand } from '#protocol'
import { fileFacts, fileSchema } from './list-files.ts'
import { HASHING_DEADLINE_MS, PIECE_HASHES_MAX, PIECE_NUMBER_MAX } from '../limits.ts'
import { hashSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const request = z.object({
  file: hashSchema,
  /** Of which piece the first hash is wanted. */
  first_piece: z.int().min(0).max(PIECE_NUMBER_MAX).default(0),
  /** Hashes at most; 0: none. */
  hash_count: z.int().min(0).max(PIECE_HASHES_MAX).default(PIECE_HASHES_MAX),
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
    handle: async ({ file: root, first_piece, hash_count }, { signal }) => {
      const file = await files.find(root, { signal })
      const first = Math.min(first_piece, file.tree.count)
      const hashes = file.tree.layer(first, Math.min(first + hash_count, file.tree.count))
      const { architecture, layerCount } = file.model.config
      const body = {
        ...fileFacts(file),
        architecture,
        layer_count: layerCount,
        first_piece: first,
        hash_count: hashes.byteLength / 32,
      }
      return hashes.byteLength === 0 ? { body } : { body, attachment: attachmentOfBytes(hashes) }
    },
  })
}
