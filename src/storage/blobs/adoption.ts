/** The note beside an adopted file's hashes: where the file is, and in which state it was hashed. */
import { join } from 'node:path'
import { fromHex, toHex } from '#base'
import { commitFile, readPrivateFile, stageFile } from '../durable-file.ts'
import type { FileStamp } from '../file-source.ts'
import { ADOPTION_BYTES_MAX, BLOB_BYTES_MAX } from '../limits.ts'
import type { BlobName } from './types.ts'

/** Name of the note in the blob's directory. */
const ADOPTION_NOTE = 'adopted.json'

const VERSION = 1

export type Adoption = { readonly name: BlobName; readonly stamp: FileStamp }

/** The note is on the disk when it resolves. Rejects with what the file system says. */
export async function writeAdoption(directory: string, { name, stamp }: Adoption): Promise<void> {
  const path = join(directory, ADOPTION_NOTE)
  const { modifiedNs, changedNs, inode } = stamp
  const times = { modifiedNs: String(modifiedNs), changedNs: String(changedNs), inode: String(inode) }
  const note = { version: VERSION, root: toHex(name.root), length: name.length, path: stamp.path, ...times }
  await stageFile(path, `${JSON.stringify(note)}\n`)
  await commitFile(path)
}

/** @returns undefined: there is none, or it is damaged */
export async function readAdoption(directory: string): Promise<Adoption | undefined> {
  try {
    const what = { what: 'The note of an adopted file', bytesMax: ADOPTION_BYTES_MAX }
    const text = await readPrivateFile(join(directory, ADOPTION_NOTE), what)
    return text === undefined ? undefined : decode(JSON.parse(text))
  } catch {
    // Not readable is as good as not there: the file is hashed again.
    return undefined
  }
}

function decode(value: unknown): Adoption | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { version, root, length, path, modifiedNs, changedNs, inode } = value as Readonly<Record<string, unknown>>
  if (version !== VERSION || typeof root !== 'string' || !/^[0-9a-f]{64}$/.test(root)) return undefined
  if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 1 || length > BLOB_BYTES_MAX)
    return undefined
  if (typeof path !== 'string' || !isNumeral(modifiedNs) || !isNumeral(changedNs) || !isNumeral(inode)) return undefined
  const times = { modifiedNs: BigInt(modifiedNs), changedNs: BigInt(changedNs), inode: BigInt(inode) }
  return { name: { root: fromHex(root), length }, stamp: { path, size: length, ...times } }
}

function isNumeral(value: unknown): value is string {
  return typeof value === 'string' && /^-?[0-9]{1,30}$/.test(value)
}
