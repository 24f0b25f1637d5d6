/** Damaged model files: whatever is changed or cut, the reader says so in its own words and asks for no more memory. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Random, seededRandom, systemRandom } from '#base'
import { writeRandomGguf } from '../../test/support/random-gguf.ts'
import { type ByteSource, memorySource } from './byte-source.ts'
import { FormatError } from './errors.ts'
import { readGguf } from './gguf.ts'
import { describeModel } from './model-config.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-fuzz-'))
after(() => rm(root, { recursive: true, force: true }))

const path = join(root, 'model.gguf')
await writeRandomGguf(path, { architecture: 'gemma3', layers: 2, vocabulary: 300, type: 'Q8_0' })
const original = new Uint8Array(await readFile(path))
const { dataOffset } = await readGguf(memorySource(original))

/** Reads a damaged file to the end. @returns whether it was refused */
async function isRefused(bytes: Uint8Array): Promise<boolean> {
  const memory = memorySource(bytes)
  const source: ByteSource = {
    size: memory.size,
    read: (offset, length) => {
      assert.ok(offset >= 0 && length > 0 && offset + length <= memory.size, `a read of ${length} at ${offset}`)
      return memory.read(offset, length)
    },
  }
  try {
    describeModel(await readGguf(source))
    return false
  } catch (error) {
    assert.ok(error instanceof FormatError, `not a FormatError: ${String(error)}`)
    assert.ok(error.message.length < 3_000, 'a message that a terminal can show')
    return true
  }
}

test('a model cut off anywhere is refused', async () => {
  const random = seededRandom(1)
  const lengths = Array.from({ length: 300 }, (_, i) =>
    i < 200 ? random.uint32() % dataOffset : random.uint32() % original.length,
  )
  for (const length of lengths) assert.equal(await isRefused(original.subarray(0, length)), true, `cut at ${length}`)
  assert.equal(await isRefused(original), false)
})

test('a header with changed bytes is read or refused, never more', async () => {
  const seed = systemRandom.uint32()
  const random = seededRandom(seed)
  let refused = 0
  for (let round = 0; round < 1_000; round++) {
    const bytes = original.slice()
    for (let change = random.uint32() % 4; change >= 0; change--) damage(bytes, random)
    try {
      if (await isRefused(bytes)) refused++
    } catch (error) {
      throw new Error(`seed ${seed}, round ${round}`, { cause: error })
    }
  }
  assert.ok(refused > 100, `only ${refused} of 1000 damaged headers were refused (seed ${seed})`)
})

/** Most damage goes where counts and lengths are, not into the middle of the vocabulary. */
function damage(bytes: Uint8Array, random: Random): void {
  const view = new DataView(bytes.buffer)
  const at = random.uint32() % (random.uint32() % 2 === 0 ? 1500 : dataOffset - 8)
  const interesting = [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n, BigInt(bytes.length)]
  switch (random.uint32() % 3) {
    case 0:
      bytes[at] = random.uint32() & 0xff
      break
    case 1:
      view.setBigUint64(at, interesting[random.uint32() % interesting.length] ?? 0n, true)
      break
    default:
      bytes.copyWithin(at, random.uint32() % dataOffset, (random.uint32() % dataOffset) + 16)
  }
}
