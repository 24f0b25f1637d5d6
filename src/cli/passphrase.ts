/** The passphrase of the node key: from a file, the environment, or whoever sits at the terminal. Never an argument. */
import { readFileSync, statSync } from 'node:fs'
import type { Command } from 'commander'
import { messageOf } from '#base'
import { assertPassphrase } from '#identity'
import type { KeyStore } from '#storage'
import { usageError } from './errors.ts'
import { TYPED_CHARS_MAX } from './limits.ts'
import { askLine, canAsk } from './typed-input.ts'
import type { CliDeps } from './types.ts'

export type PassphraseFlags = { readonly passphraseFile?: string }

export function addPassphraseOption(command: Command): Command {
  return command.option(
    '--passphrase-file <file>',
    'passphrase of the node key (env KOINON_PASSPHRASE; else asked for)',
  )
}

/** The passphrase that was given beforehand. @throws CliError CLI_USAGE where the file cannot be read */
export function givenPassphrase(deps: Pick<CliDeps, 'env'>, { passphraseFile }: PassphraseFlags): string | undefined {
  if (passphraseFile !== undefined) return readSecretFile(passphraseFile, 'the passphrase')
  const text = deps.env['KOINON_PASSPHRASE']
  return text === '' ? undefined : text
}

/** For a key that is there: asks where it is encrypted and nothing was given. */
export async function passphraseFor(
  deps: Pick<CliDeps, 'env' | 'stdin' | 'stderr'>,
  flags: PassphraseFlags,
  keys: Pick<KeyStore, 'read'>,
): Promise<{ readonly passphrase?: string }> {
  const given = givenPassphrase(deps, flags)
  if (given !== undefined) return { passphrase: given }
  if (!canAsk(deps) || (await keys.read())?.isEncrypted !== true) return {}
  return { passphrase: await askLine(deps, 'Passphrase of the node key: ', { isHidden: true }) }
}

/** For a key that is to be protected: asks twice. @throws IdentityError IDENTITY_PASSPHRASE_LENGTH; CliError */
export async function askNewPassphrase(deps: Pick<CliDeps, 'stdin' | 'stderr'>): Promise<string> {
  const passphrase = await askLine(deps, 'New passphrase: ', { isHidden: true })
  assertPassphrase(passphrase)
  const again = await askLine(deps, 'The same again: ', { isHidden: true })
  if (again !== passphrase) throw usageError('the two passphrases differ: nothing was done')
  return passphrase
}

/** A secret in a file, without the line end at its end. @throws CliError CLI_USAGE */
export function readSecretFile(file: string, what: string): string {
  try {
    if (statSync(file).size > TYPED_CHARS_MAX) throw new Error('it is too large')
    const text = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
    if (text === '') throw new Error('it is empty')
    return text
  } catch (error) {
    throw usageError(`${what} cannot be read from ${file}: ${messageOf(error)}`)
  }
}
