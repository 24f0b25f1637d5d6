/** What a benchmark must know of a model file before it starts an engine. */
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type ByteSource, describeModel, type ModelConfig, readGguf } from '#formats'

export type BenchModel = { readonly file: string; readonly config: ModelConfig }

/** Reads the header of a GGUF file. @throws FormatError */
export async function readModel(path: string): Promise<BenchModel> {
  const file = resolve(path)
  const handle = await open(file)
  try {
    const { size } = await handle.stat()
    const source: ByteSource = {
      size,
      read: async (offset, length) => {
        const { buffer } = await handle.read(new Uint8Array(length), 0, length, offset)
        return buffer
      },
    }
    return { file, config: describeModel(await readGguf(source)) }
  } finally {
    await handle.close()
  }
}
