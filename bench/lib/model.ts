/** What a benchmark must know of a model file before it starts an engine. */
import { describeModel, type ModelConfig, readGguf } from '#formats'
import { openFileSource } from '#storage'

export type BenchModel = { readonly file: string; readonly config: ModelConfig }

/** Reads the header of a GGUF file. @throws FormatError, StorageError */
export async function readModel(path: string): Promise<BenchModel> {
  const source = await openFileSource(path)
  try {
    return { file: source.stamp.path, config: describeModel(await readGguf(source)) }
  } finally {
    await source.close()
  }
}
