/** `--key` and `--to`: where the node's key lies, and with which PIN. */
import type { Command } from 'commander'
import { messageOf } from '#base'
import { KeyringError, type KeySource, type KeyUri, parseKeyUri } from '#keyring'
import type { NodeConfig } from '#node'
import { createKeyStore } from '#storage'
import { usageError } from './errors.ts'
import { givenPassphrase, type PassphraseFlags, passphraseFor, readSecretFile } from './passphrase.ts'
import { askLine, canAsk } from './typed-input.ts'
import type { CliDeps } from './types.ts'

export type KeyFlags = { readonly key?: string }

/** Variables that hold secrets; `src/main.ts` takes them out of the process's own environment. */
const NODE_KEY = 'KOINON_NODE_KEY'
const NEXT_NODE_KEY = 'KOINON_NEXT_NODE_KEY'
const PIN = 'KOINON_PKCS11_PIN'

type SourceDeps = Pick<CliDeps, 'env' | 'stdin' | 'stderr'>

export function addKeyOption(command: Command): Command {
  return command.option(
    '--key <where>',
    'where the node key lies: file, env, pkcs11:… or kms:… (default: env where KOINON_NODE_KEY is set, else file)',
  )
}

/** Undefined: in the data directory. @throws CliError CLI_USAGE */
export async function keySourceOf(deps: SourceDeps, { key }: KeyFlags): Promise<KeySource | undefined> {
  const isInEnvironment = (deps.env[NODE_KEY] ?? '') !== ''
  if (key === undefined) return isInEnvironment ? readSource(deps, { kind: 'environment' }, NODE_KEY) : undefined
  const uri = parseUri(key)
  return uri.kind === 'file' ? undefined : readSource(deps, uri, NODE_KEY)
}

/** What a node needs to know of its key. @throws CliError; StorageError and IdentityError where the key file is damaged */
export async function keyConfig(
  deps: SourceDeps & Pick<CliDeps, 'random'>,
  flags: KeyFlags & PassphraseFlags,
  dataDir: string,
): Promise<Pick<NodeConfig, 'key' | 'passphrase'>> {
  const key = await keySourceOf(deps, flags)
  if (key === undefined) return passphraseFor(deps, flags, createKeyStore(dataDir, deps))
  const passphrase = givenPassphrase(deps, flags)
  return { key, ...(passphrase === undefined ? {} : { passphrase }) }
}

/** The key that a rotation goes to. @throws CliError CLI_USAGE */
export async function nextKeySource(deps: SourceDeps, to: string | undefined): Promise<KeySource | undefined> {
  return to === undefined ? undefined : readSource(deps, parseUri(to), NEXT_NODE_KEY)
}

/** @throws CliError CLI_USAGE */
export function parseUri(text: string): KeyUri {
  try {
    return parseKeyUri(text)
  } catch (error) {
    // Not as commander's own complaint, which repeats the argument: people put PINs there.
    if (error instanceof KeyringError) throw usageError(messageOf(error))
    throw error
  }
}

/** Adds what is secret. */
export async function readSource(deps: SourceDeps, uri: KeyUri, variable: string = NODE_KEY): Promise<KeySource> {
  if (uri.kind === 'environment') {
    const text = deps.env[variable] ?? ''
    if (text === '') throw usageError(`the environment variable ${variable} is not set`)
    return { kind: 'environment', text }
  }
  if (uri.kind !== 'pkcs11') return uri
  const { pinFile, ...source } = uri
  const pin = pinFile === undefined ? await pinOf(deps, source.token) : readSecretFile(pinFile, 'the PIN')
  return { ...source, ...(pin === '' ? {} : { pin }) }
}

/** Empty: none. Some tokens ask for it themselves. */
async function pinOf(deps: SourceDeps, token: string): Promise<string> {
  const given = deps.env[PIN] ?? ''
  if (given !== '' || !canAsk(deps)) return given
  return askLine(deps, `PIN of the token "${token}": `, { isHidden: true })
}
