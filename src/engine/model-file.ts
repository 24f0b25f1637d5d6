/** Opens a model file for reading weights: header, hyper-parameters and the open file. */
import { type FileHandle, open } from 'node:fs/promises'
import { type ByteSource, describeModel, type GgufFile, type ModelConfig, readGguf } from '#formats'

export type ModelFile = {
  readonly file: FileHandle
  readonly gguf: GgufFile
  readonly config: ModelConfig
}

/**
 * Opens the file, lends it and closes it again.
 * @throws FormatError for a file that is no model, or none that can be computed
 */
export async function withModelFile<T>(path: string, use: (model: ModelFile) => Promise<T>): Promise<T> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const gguf = await readGguf(fileSource(file, size))
    return await use({ file, gguf, config: describeModel(gguf) })
  } finally {
    await file.close()
  }
}

function fileSource(file: FileHandle, size: number): ByteSource {
  return {
    size,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length)
      let done = 0
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      return bytes.subarray(0, done)
    },
  }
}
