/** `koinon keys`: makes, shows, copies, restores and rotates the key by which others know this node. */
import { open } from 'node:fs/promises'
import type { Command } from 'commander'
import { messageOf, silentLogger, toHex } from '#base'
import {
  createNodeIdentity,
  decryptKeyFile,
  type HeldIdentity,
  identityOfSecret,
  isKeyFileEncrypted,
  parseKeyFile,
  secretOfPhrase,
  seedPhraseOf,
} from '#identity'
import { createTokenKey, openKey } from '#keyring'
import type { KeyRotated, KeyRotationRequest } from '#node'
import { createKeyStore, type KeyStore, openDataDir, openKeyStore } from '#storage'
import { addDataDirOption, clientOf, type DataDirFlags, dataDirOf } from './data-dir.ts'
import { CliError, usageError } from './errors.ts'
import { addKeyOption, type KeyFlags, keySourceOf, nextKeySource, parseUri, readSource } from './key-options.ts'
import { type KeyReport, printKey, printPhrase, printRotation } from './keys-output.ts'
import { PHRASE_LINES_MAX, TYPED_CHARS_MAX } from './limits.ts'
import { integerIn } from './parse.ts'
import {
  addPassphraseOption,
  askNewPassphrase,
  givenPassphrase,
  type PassphraseFlags,
  passphraseFor,
  readSecretFile,
} from './passphrase.ts'
import { printJson } from './terminal.ts'
import { askLine, canAsk, confirm } from './typed-input.ts'
import type { CliDeps } from './types.ts'

/** Number of the last key of a seed phrase. */
const KEY_NUMBER_MAX = 0xffff

/** Words of a seed phrase. */
const PHRASE_WORDS = 24

type CommonFlags = DataDirFlags & PassphraseFlags & { readonly json?: boolean }
type NewFlags = CommonFlags &
  KeyFlags & { readonly passphrase?: boolean; readonly words?: boolean; readonly force?: boolean }
type ExportFlags = CommonFlags & { readonly to?: string; readonly words?: boolean; readonly yes?: boolean }
type ImportFlags = CommonFlags & { readonly words?: boolean; readonly number: number; readonly passphrase?: boolean }
type PassphraseChangeFlags = CommonFlags & { readonly newPassphraseFile?: string; readonly remove?: boolean }
type RotateFlags = CommonFlags & KeyFlags & { readonly to?: string; readonly newPhrase?: boolean }

const HELP_AFTER = `
Secrets come from files, the environment or the terminal, never from arguments.

Examples:
  $ koinon keys new --passphrase --words
  $ koinon keys show
  $ koinon keys export --words
  $ koinon keys import --words
  $ koinon keys rotate`

export function addKeys(program: Command, deps: CliDeps): void {
  const keys = program
    .command('keys')
    .description('make, show, copy, restore and rotate the key of the node')
    .helpCommand(false)
    .addHelpText('after', HELP_AFTER)
  addNew(keys, deps)
  addShow(keys, deps)
  addExport(keys, deps)
  addImport(keys, deps)
  addPassphraseChange(keys, deps)
  addRotate(keys, deps)
}

function addNew(keys: Command, deps: CliDeps): void {
  const command = keys
    .command('new')
    .description('make a key, where there is none yet')
    .option('--passphrase', 'ask for a passphrase, and encrypt the key with it')
    .option('--words', 'show the 24 words that restore the key')
    .option('--force', 'show the words even where standard output is no terminal')
    .option('--json', 'print JSON, with --words the words too')
  addFlags(command, { hasKey: true }).action(async (flags: NewFlags) => {
    const isShown = flags.json === true || flags.force === true || deps.stdout.isTty
    if (flags.words === true && !isShown)
      throw usageError('standard output is no terminal: --force shows the words there')
    if (flags.key !== undefined && flags.key !== 'file') {
      await makeTokenKey(deps, flags.key, flags)
      return
    }
    const protection = await newProtection(deps, flags)
    await withLockedKeys(deps, flags, async store => {
      const identity = await createNodeIdentity(deps.random)
      await store.save(identity, protection)
      const report = await reportOf(store, identity, { kind: 'file', isEncrypted: protection.passphrase !== undefined })
      const words = flags.words === true ? seedPhraseOf(identity.secret) : undefined
      printKey(deps, { ...report, ...(words === undefined ? {} : { words }) }, flags)
      if (words !== undefined && flags.json !== true) printPhrase(deps, words)
    })
  })
}

function addShow(keys: Command, deps: CliDeps): void {
  const command = keys
    .command('show')
    .description('show whose key it is and where it lies; never the secret')
    .option('--json', 'print JSON')
  addFlags(command, { hasKey: true }).action(async (flags: CommonFlags & KeyFlags) => {
    const source = await keySourceOf(deps, flags)
    const store = createKeyStore(dataDirOf(deps, flags), deps)
    if (source === undefined) {
      const file = await store.read()
      const identity = await loadKey(deps, flags, store)
      printKey(deps, await reportOf(store, identity, { kind: 'file', isEncrypted: file?.isEncrypted === true }), flags)
      return
    }
    const readFile = (): never => {
      throw noKey(store)
    }
    const identity = await openKey({ clock: deps.clock, readFile }, source)
    try {
      printKey(deps, await reportOf(store, identity, { kind: identity.provider.kind }), flags)
    } finally {
      await identity.provider.close()
    }
  })
}

function addExport(keys: Command, deps: CliDeps): void {
  const command = keys
    .command('export')
    .description('copy the key to a file, or show its 24 words')
    .option('--to <file>', 'write a copy of the key file here; it is encrypted if the key is')
    .option('--words', 'show the 24 words that restore the key')
    .option('--yes', 'do not ask first')
    .option('--json', 'print JSON')
  addFlags(command).action(async (flags: ExportFlags) => {
    if ((flags.to === undefined) === (flags.words === undefined)) throw usageError('name one of --to FILE and --words')
    const store = createKeyStore(dataDirOf(deps, flags), deps)
    const file = await store.read()
    if (file === undefined) throw noKey(store)
    if (flags.yes !== true) {
      if (!canAsk(deps)) throw usageError('whoever has the copy can act as this node: confirm with --yes')
      await confirm(deps, 'Whoever has the copy can act as this node.')
    }
    if (flags.to !== undefined) {
      await writeNewFile(flags.to, file.text)
      const isEncrypted = file.isEncrypted
      if (flags.json === true) printJson(deps.stdout, { file: flags.to, isEncrypted })
      else deps.stderr.write(`The key is in ${flags.to} now${isEncrypted ? ', encrypted' : ', in the clear'}.\n`)
      return
    }
    const { secret } = await loadKey(deps, flags, store)
    const words = seedPhraseOf(secret)
    if (words === undefined) throw usageError('this key was imported without a seed phrase: use --to FILE')
    const number = secret.kind === 'root' ? secret.index : 0
    if (flags.json === true) printJson(deps.stdout, { words, number })
    else printPhrase(deps, words, number)
  })
}

function addImport(keys: Command, deps: CliDeps): void {
  const command = keys
    .command('import')
    .description('take over a key from a file, or from its 24 words')
    .argument('[file]', 'a key file')
    .option('--words', 'read the 24 words from standard input, or ask for them')
    .option('--number <n>', 'with --words: which key of the phrase', integerIn(0, KEY_NUMBER_MAX), 0)
    .option('--passphrase', 'ask for a new passphrase, and encrypt the key with it')
    .option('--json', 'print JSON')
  addFlags(command).action(async (file: string | undefined, flags: ImportFlags) => {
    if ((file === undefined) === (flags.words === undefined)) throw usageError('name a key file, or --words')
    const imported = file === undefined ? await readPhrase(deps, flags) : await readKeyFile(deps, file, flags)
    await withLockedKeys(deps, flags, async store => {
      const there = await store.read()
      if (there !== undefined && (await loadKey(deps, flags, store)).peer === imported.identity.peer) {
        deps.stderr.write('This key is there already: nothing was done.\n')
      } else {
        await store.save(imported.identity, imported.protection)
      }
      const isEncrypted = (await store.read())?.isEncrypted === true
      printKey(deps, await reportOf(store, imported.identity, { kind: 'file', isEncrypted }), flags)
    })
  })
}

function addPassphraseChange(keys: Command, deps: CliDeps): void {
  const command = keys
    .command('passphrase')
    .description('encrypt the key, change its passphrase, or take it away')
    .option('--new-passphrase-file <file>', 'the new passphrase (else asked for)')
    .option('--remove', 'keep the key in the clear from now on')
  addFlags(command).action(async (flags: PassphraseChangeFlags) => {
    await withLockedKeys(deps, flags, async store => {
      const identity = await loadKey(deps, flags, store)
      if (flags.remove === true) {
        await store.save(identity, { replaces: true })
        deps.stderr.write('The key is in the clear now: the node starts without a passphrase.\n')
        return
      }
      const passphrase =
        flags.newPassphraseFile === undefined
          ? await askNewPassphrase(deps)
          : readSecretFile(flags.newPassphraseFile, 'the new passphrase')
      await store.save(identity, { passphrase, replaces: true })
      deps.stderr.write('The key is encrypted with the new passphrase.\n')
    })
  })
}

function addRotate(keys: Command, deps: CliDeps): void {
  const command = keys
    .command('rotate')
    .description('go over to another key; peers who know the node follow it')
    .option('--to <where>', 'where the new key lies: file, env (KOINON_NEXT_NODE_KEY), pkcs11:… or kms:…')
    .option('--new-phrase', 'begin a new seed phrase: others may know the old one')
    .option('--json', 'print JSON')
  addFlags(command, { hasKey: true }).action(async (flags: RotateFlags) => {
    const to = await nextKeySource(deps, flags.to)
    const request: KeyRotationRequest = {
      ...(to === undefined ? {} : { to }),
      ...(flags.newPhrase === true ? { newPhrase: true } : {}),
    }
    const running = await rotateRunning(deps, flags, request)
    const rotated = running ?? (await rotateStopped(deps, flags, request))
    const facts = {
      isRunning: running !== undefined,
      hasNewPhrase: flags.newPhrase === true,
      isElsewhere: to !== undefined && to.kind !== 'file',
    }
    printRotation(deps, { ...rotated, ...facts }, flags)
  })
}

/** Undefined where no node runs. */
async function rotateRunning(
  deps: CliDeps,
  flags: DataDirFlags,
  request: KeyRotationRequest,
): Promise<KeyRotated | undefined> {
  try {
    return await (await clientOf(deps, flags)).rotateKey(request)
  } catch (error) {
    if (error instanceof CliError && error.code === 'CLI_NO_NODE') return undefined
    throw error
  }
}

async function rotateStopped(deps: CliDeps, flags: RotateFlags, request: KeyRotationRequest): Promise<KeyRotated> {
  const dataDir = dataDirOf(deps, flags)
  const key = await keySourceOf(deps, flags)
  const before = createKeyStore(dataDir, deps)
  if (key === undefined && (await before.read()) === undefined) throw noKey(before)
  const protection = await passphraseFor(deps, flags, before)
  const { openOwnIdentity } = await import('#node')
  const data = await openDataDir(dataDir, deps)
  try {
    const config = { ...protection, ...(key === undefined ? {} : { key }) }
    const own = await openOwnIdentity({ ...deps, log: silentLogger }, config, data.keys)
    try {
      data.audit.setSigner(own.identity.provider)
      const { from, to } = await own.rotate(request)
      data.audit.record('key-rotated', { peer: to, former: from })
      await data.audit.checkpoint()
      return { from, to }
    } finally {
      await own.close()
    }
  } finally {
    await data.close()
  }
}

/** A key whose private half never leaves the token. */
async function makeTokenKey(deps: CliDeps, where: string, flags: NewFlags): Promise<void> {
  const uri = parseUri(where)
  if (uri.kind !== 'pkcs11') throw usageError('a key can be made in the data directory or on a token (pkcs11:…) only')
  if (flags.words === true) throw usageError('a key that never leaves its token has no words')
  const source = await readSource(deps, uri)
  if (source.kind !== 'pkcs11') throw usageError('this is no token')
  await createTokenKey(deps, source)
  const store = createKeyStore(dataDirOf(deps, flags), deps)
  const identity = await openKey({ clock: deps.clock, readFile: () => Promise.reject(noKey(store)) }, source)
  try {
    printKey(deps, await reportOf(store, identity, { kind: 'pkcs11' }), flags)
  } finally {
    await identity.provider.close()
  }
}

function addFlags(command: Command, options: { readonly hasKey?: boolean } = {}): Command {
  if (options.hasKey === true) addKeyOption(command)
  addPassphraseOption(command)
  return addDataDirOption(command)
}

async function withLockedKeys(
  deps: CliDeps,
  flags: DataDirFlags,
  action: (store: KeyStore) => Promise<void>,
): Promise<void> {
  const store = await openKeyStore(dataDirOf(deps, flags), deps)
  try {
    await action(store)
  } finally {
    store.close()
  }
}

async function loadKey(deps: CliDeps, flags: PassphraseFlags, store: KeyStore): Promise<HeldIdentity> {
  const identity = await store.load(await passphraseFor(deps, flags, store))
  if (identity === undefined) throw noKey(store)
  return identity
}

/** Of a key that is to be written: encrypted where there is a passphrase, or one is wished for. */
async function newProtection(
  deps: CliDeps,
  flags: PassphraseFlags & { readonly passphrase?: boolean },
): Promise<{ readonly passphrase?: string }> {
  const passphrase =
    givenPassphrase(deps, flags) ?? (flags.passphrase === true ? await askNewPassphrase(deps) : undefined)
  return passphrase === undefined ? {} : { passphrase }
}

type Imported = { readonly identity: HeldIdentity; readonly protection: { readonly passphrase?: string } }

/** An encrypted file stays encrypted: with the passphrase that opens it, or a new one. */
async function readKeyFile(deps: CliDeps, file: string, flags: ImportFlags): Promise<Imported> {
  const text = readSecretFile(file, 'the key')
  if (!isKeyFileEncrypted(text)) return { identity: parseKeyFile(text), protection: await newProtection(deps, flags) }
  const given = givenPassphrase(deps, flags)
  if (given === undefined && !canAsk(deps)) return { identity: parseKeyFile(text), protection: {} }
  const passphrase = given ?? (await askLine(deps, `Passphrase of ${file}: `, { isHidden: true }))
  const identity = await decryptKeyFile(text, passphrase)
  return { identity, protection: { passphrase: flags.passphrase === true ? await askNewPassphrase(deps) : passphrase } }
}

async function readPhrase(deps: CliDeps, flags: ImportFlags): Promise<Imported> {
  const words = canAsk(deps) ? await askWords(deps) : await readAll(deps)
  const identity = identityOfSecret(secretOfPhrase(words, flags.number), 'file')
  return { identity, protection: await newProtection(deps, flags) }
}

/** Over as many lines as people like. */
async function askWords(deps: CliDeps): Promise<string> {
  const words: string[] = []
  for (let line = 0; line < PHRASE_LINES_MAX && words.length < PHRASE_WORDS; line++) {
    const question = words.length === 0 ? 'The 24 words (not shown): ' : `${words.length} words; go on: `
    words.push(...(await askLine(deps, question, { isHidden: true })).split(/\s+/).filter(Boolean))
  }
  return words.join(' ')
}

async function readAll({ stdin }: CliDeps): Promise<string> {
  let text = ''
  for await (const part of stdin as AsyncIterable<string | Uint8Array>) {
    text += typeof part === 'string' ? part : new TextDecoder().decode(part)
    if (text.length > TYPED_CHARS_MAX) throw usageError('this is more than 24 words')
  }
  return text
}

async function writeNewFile(path: string, text: string): Promise<void> {
  try {
    const handle = await open(path, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw usageError(`the key cannot be written to ${path}: ${messageOf(error)}`)
  }
}

async function reportOf(
  store: KeyStore,
  identity: {
    readonly peer: string
    readonly stableId: Uint8Array
    readonly provider: { readonly publicKey: Uint8Array }
  },
  kept: { readonly kind: KeyReport['kind']; readonly isEncrypted?: boolean },
): Promise<KeyReport> {
  const { sequence, at, successor } = await store.handoversOf(identity.peer)
  const secret = 'secret' in identity ? (identity as HeldIdentity).secret : undefined
  return {
    peer: identity.peer,
    stableId: toHex(identity.stableId),
    publicKey: toHex(identity.provider.publicKey),
    kind: kept.kind,
    ...(kept.kind === 'file' ? { file: store.path, isEncrypted: kept.isEncrypted === true } : {}),
    ...(secret === undefined ? {} : { hasPhrase: secret.kind === 'root' }),
    ...(secret?.kind === 'root' ? { number: secret.index } : {}),
    handovers: sequence,
    ...(sequence === 0 ? {} : { handedOverAt: at }),
    ...(successor === undefined ? {} : { successor }),
  }
}

function noKey({ path }: Pick<KeyStore, 'path'>): CliError {
  return new CliError({ code: 'CLI_NO_KEY', path }, `there is no node key in ${path}: \`koinon keys new\` makes one`)
}
