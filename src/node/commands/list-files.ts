/** LIST_FILES: model files that peers may fetch from this node. Paths stay here. */
import { z } from 'zod'
import { PIECE_BYTES } from '#formats'
import { defineCommand } from '#protocol'
import { HASHING_DEADLINE_MS } from '../limits.ts'
import { hashSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

/** What is told of a file wherever it is spoken of. */
export const fileSchema = z.object({
  /** BEP 52 root ("pieces root"): the file's name in every other command. */
  file: hashSchema,
  /** The model's own name, a label only. */
  name: z.string(),
  size: z.int().min(1),
  model: hashSchema,
  piece_length: z.int(),
  piece_count: z.int().min(1),
})

/** @param file.tree the hashes of its pieces */
export function fileFacts(file: Awaited<ReturnType<CommandServices['files']['find']>>): z.infer<typeof fileSchema> {
  const { root, model, tree } = file
  return {
    file: root,
    name: model.name,
    size: tree.size,
    model: model.id,
    piece_length: PIECE_BYTES,
    piece_count: tree.count,
  }
}

export function listFiles({ files }: CommandServices) {
  return defineCommand({
    type: 37,
    name: 'LIST_FILES',
    request: z.object({}),
    response: z.object({ files: z.array(fileSchema) }),
    cost: 1,
    rate: { perSecond: 2, burst: 10 },
    right: 'guest',
    deadlineMs: HASHING_DEADLINE_MS,
    priority: 'normal',
    handle: async (_request, { signal }) => ({ body: { files: (await files.list({ signal })).map(fileFacts) } }),
  })
}
