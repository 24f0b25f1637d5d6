/** Kept inputs: `fuzz/corpus/<fuzzer>/*.bin`. What they are for says `fuzz/corpus/index.md`. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const DIRECTORY = fileURLToPath(new URL('../../../fuzz/corpus/', import.meta.url))

/** Bytes of one kept input. */
const KEPT_BYTES_MAX = 4096

export type Kept = { readonly name: string; readonly bytes: Uint8Array }

/** In the order of their names. */
export function readCorpus(fuzzer: string): Kept[] {
  return namesIn(join(DIRECTORY, fuzzer)).map(name => ({
    name,
    bytes: new Uint8Array(readFileSync(join(DIRECTORY, fuzzer, name))),
  }))
}

/** Keeps an input under a name made of what came of it, where there is none of that name. */
export function keep(fuzzer: string, outcome: string, bytes: Uint8Array): void {
  const name = `${outcome
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 60)}.bin`
  if (bytes.byteLength > KEPT_BYTES_MAX || namesIn(join(DIRECTORY, fuzzer)).includes(name)) return
  mkdirSync(join(DIRECTORY, fuzzer), { recursive: true })
  writeFileSync(join(DIRECTORY, fuzzer, name), bytes)
}

/** Writes an input that failed where it can be looked at. @returns the file */
export function keepFailure(fuzzer: string, bytes: Uint8Array): string {
  const file = join(mkdtempSync(join(tmpdir(), 'koinon-fuzz-')), `${fuzzer}.bin`)
  writeFileSync(file, bytes)
  return file
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter(name => name.endsWith('.bin'))
      .toSorted()
  } catch {
    return [] // A fuzzer that has kept nothing yet.
  }
}
