/** Damages model files on purpose. */
import assert from 'node:assert/strict'
import { open, readFile } from 'node:fs/promises'
import { memorySource, readGguf } from '#formats'

/** Overwrites one number of an F32 tensor. */
export async function patchTensor(
  path: string,
  name: string,
  patch: { readonly index: number; readonly value: number },
): Promise<void> {
  const gguf = await readGguf(memorySource(await readFile(path)))
  const offset = gguf.tensorsByName.get(name)?.offset ?? assert.fail(`no ${name}`)
  const handle = await open(path, 'r+')
  await handle.write(new Uint8Array(Float32Array.of(patch.value).buffer), 0, 4, offset + 4 * patch.index)
  await handle.close()
}
