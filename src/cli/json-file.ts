/** Small JSON files that a person names. */
import { readFileSync, statSync } from 'node:fs'
import { messageOf } from '#base'
import { usageError } from './errors.ts'

/** @throws CliError CLI_USAGE where it cannot be read, is too large, or is not JSON */
export function readJsonFile(file: string, options: { readonly bytesMax: number }): unknown {
  try {
    if (statSync(file).size > options.bytesMax) throw new Error('it is too large')
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw usageError(`${file} cannot be read: ${messageOf(error)}`)
  }
}
