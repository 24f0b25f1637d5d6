/** The swarm secret as people keep it: a file, or an environment variable. Never an argument, which others can see. */
import { readFileSync, statSync } from 'node:fs'
import { messageOf } from '#base'
import { usageError } from './errors.ts'
import { SECRET_BYTES_MAX, SECRET_BYTES_MIN } from './limits.ts'

/**
 * The secret's bytes: the text without the white space around it. A file wins over the environment.
 * @throws CliError CLI_USAGE where it cannot be read, or is too short or too long
 */
export function readSecret(
  env: Readonly<Record<string, string | undefined>>,
  file: string | undefined,
): Uint8Array | undefined {
  const text = file === undefined ? env['KOINON_SWARM_SECRET'] : readFile(file)
  if (text === undefined || (file === undefined && text === '')) return undefined
  const bytes = new TextEncoder().encode(text.trim())
  if (bytes.byteLength < SECRET_BYTES_MIN || bytes.byteLength > SECRET_BYTES_MAX) {
    throw usageError(
      `the swarm secret must have ${SECRET_BYTES_MIN} to ${SECRET_BYTES_MAX} bytes, not ${bytes.byteLength}; ` +
        '`openssl rand -hex 32` makes a good one',
    )
  }
  return bytes
}

function readFile(file: string): string {
  try {
    if (statSync(file).size > SECRET_BYTES_MAX * 2) throw new Error('it is too large')
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw usageError(`the swarm secret cannot be read from ${file}: ${messageOf(error)}`)
  }
}
