/** REQUEST_PIECE: the bytes of a piece as the attachment, with the hashes that prove it against the file's root alone. */
import { z } from 'zod'
import { toHex } from '#base'
import { defineCommand } from '#protocol'
import { PIECE_DEADLINE_MS, PIECE_NUMBER_MAX } from '../limits.ts'
import { hashSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const response = z.object({
  file: hashSchema,
  piece: z.int(),
  /** Where the piece begins in the file. */
  offset: z.int(),
  size: z.int(),
  /** Size of the file: with the root it says how many leaves and levels there are. */
  file_size: z.int(),
  /** Sibling hashes from the piece up to the root, the lowest first. */
  proof: z.array(hashSchema).max(64),
})

export function requestPiece({ files }: CommandServices) {
  return defineCommand({
    type: 39,
    name: 'REQUEST_PIECE',
    request: z.object({ file: hashSchema, piece: z.int().min(0).max(PIECE_NUMBER_MAX) }),
    response,
    cost: 4,
    rate: { perSecond: 8, burst: 32 },
    right: 'guest',
    deadlineMs: PIECE_DEADLINE_MS,
    priority: 'low',
    handle: async ({ file: root, piece }, { signal }) => {
      const file = await files.find(root, { signal })
      const { offset, attachment, proof } = await files.read(file, piece)
      const body = {
        file: root,
        piece,
        offset,
        size: attachment.sizeBytes,
        file_size: file.tree.size,
        proof: proof.map(toHex),
      }
      return { body, attachment }
    },
  })
}
