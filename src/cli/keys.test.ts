import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { seededRandom, silentLogger, systemClock } from '#base'
import { parseEnvironmentKey } from '#identity'
import { createKeyStore } from '#storage'
import { EXIT } from './exit-codes.ts'
import type { KeyReport } from './keys-output.ts'
import { runCli } from './program.ts'
import { TextOutput } from './terminal.ts'
import type { CliDeps } from './types.ts'

const PASSPHRASE = 'correct horse battery staple'

/** A terminal that somebody types at. */
class Keyboard extends PassThrough {
  readonly isTTY = true
  readonly modes: boolean[] = []

  setRawMode(isRaw: boolean): this {
    this.modes.push(isRaw)
    return this
  }
}

type Bench = {
  readonly dataDir: string
  readonly stdout: TextOutput
  readonly stderr: TextOutput
  readonly keyboard: Keyboard
  readonly run: (...args: string[]) => Promise<number>
  /** Runs with --json, and reads what was printed. */
  readonly ask: (...args: string[]) => Promise<KeyReport & { readonly number?: number }>
}

/** So many were made; each has other keys. */
let benches = 0

function bench(
  t: TestContext,
  options: { readonly env?: Record<string, string>; readonly isTty?: boolean; readonly typed?: string } = {},
): Bench {
  const dataDir = mkdtempSync(join(tmpdir(), 'koinon-keys-'))
  t.after(() => rmSync(dataDir, { recursive: true, force: true }))
  const keyboard = new Keyboard()
  const pipe = new PassThrough()
  if (options.isTty === true) keyboard.write(options.typed ?? '')
  else pipe.end(options.typed ?? '')
  const stdout = new TextOutput({ isTty: options.isTty === true })
  const stderr = new TextOutput({ isTty: options.isTty === true })
  const deps: CliDeps = {
    stdout,
    stderr,
    stdin: options.isTty === true ? keyboard : pipe,
    lineEditor: undefined,
    env: { NO_COLOR: '1', ...options.env },
    pid: 7,
    version: '1.2.3',
    clock: systemClock,
    random: seededRandom(++benches),
    signals: { outputClosed: () => undefined, listen: () => () => undefined },
    exit: () => assert.fail('the command ends by itself'),
    createLog: () => silentLogger,
    defaultDataDir: () => dataDir,
    findSocket: async () => join(dataDir, 'node.sock'),
    builtInModel: '/nowhere.gguf',
    serve: () => assert.fail('no node is started'),
    planFile: () => assert.fail('nothing is planned'),
    surveyNetwork: () => assert.fail('not looked at here'),
    describeEngine: () => assert.fail('no engine is looked at'),
    proveSandbox: () => assert.fail('no engine is looked at'),
  }
  const run = (...args: string[]): Promise<number> => runCli(deps, ['keys', ...args])
  const ask = async (...args: string[]): Promise<KeyReport> => {
    stdout.text = ''
    assert.equal(await run(...args, '--json'), EXIT.ok, stderr.text)
    return JSON.parse(stdout.text) as KeyReport
  }
  return { dataDir, stdout, stderr, keyboard, run, ask }
}

const fileWith = (b: Bench, name: string, text: string): string => {
  const path = join(b.dataDir, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

/** The secret of the key in every form that might turn up somewhere. */
async function secretsOf(b: Bench, passphrase?: string): Promise<readonly string[]> {
  const store = createKeyStore(b.dataDir, { random: seededRandom(1) })
  const { secret } = (await store.load(passphrase === undefined ? {} : { passphrase })) ?? assert.fail('no key')
  const bytes = Buffer.from(secret.kind === 'root' ? secret.root : secret.seed)
  return [bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url'), PASSPHRASE]
}

test('a key is made in the clear, shown, and never made twice', async t => {
  const b = bench(t)
  const made = await b.ask('new')
  assert.match(made.peer, /^12D3KooW/)
  assert.deepEqual(
    [made.kind, made.isEncrypted, made.hasPhrase, made.number, made.handovers],
    ['file', false, true, 0, 0],
  )
  assert.match(made.stableId, /^[0-9a-f]{40}$/)
  assert.deepEqual(await b.ask('show'), made)
  const before = readFileSync(made.file ?? '')
  assert.equal(await b.run('new'), EXIT.failed)
  assert.match(b.stderr.text, /STORAGE_KEY_EXISTS/)
  assert.deepEqual(readFileSync(made.file ?? ''), before)
  for (const secret of await secretsOf(b)) assert.ok(!(b.stdout.text + b.stderr.text).includes(secret))
})

test('with a passphrase from a file the key is encrypted, and is shown with it only', async t => {
  const b = bench(t)
  const file = fileWith(b, 'pass', `${PASSPHRASE}\n`)
  const made = await b.ask('new', '--passphrase-file', file)
  assert.equal(made.isEncrypted, true)
  assert.equal(await b.run('show'), EXIT.failed)
  assert.match(b.stderr.text, /the node key is encrypted.*IDENTITY_PASSPHRASE_NEEDED/)
  const wrong = fileWith(b, 'wrong', 'another passphrase')
  assert.equal(await b.run('show', '--passphrase-file', wrong), EXIT.failed)
  assert.match(b.stderr.text, /IDENTITY_PASSPHRASE_WRONG/)
  assert.equal((await b.ask('show', '--passphrase-file', file)).peer, made.peer)
  for (const secret of await secretsOf(b, PASSPHRASE)) assert.ok(!(b.stdout.text + b.stderr.text).includes(secret))
})

test('the environment gives the passphrase where no file does', async t => {
  const b = bench(t, { env: { KOINON_PASSPHRASE: PASSPHRASE } })
  assert.equal((await b.ask('new')).isEncrypted, true)
  assert.equal((await b.ask('show')).isEncrypted, true)
})

test('a passphrase that is asked for does not appear, and must be typed twice', async t => {
  const b = bench(t, { isTty: true, typed: `${PASSPHRASE}\r${PASSPHRASE}\r${PASSPHRASE}x\b\r` })
  assert.equal(await b.run('new', '--passphrase'), EXIT.ok, b.stderr.text)
  assert.equal(await b.run('show'), EXIT.ok, b.stderr.text)
  assert.match(b.stdout.text, /encrypted/)
  assert.match(b.stderr.text, /^New passphrase: \nThe same again: \nPassphrase of the node key: \n/)
  assert.ok(!(b.stdout.text + b.stderr.text).includes('horse'))
  assert.deepEqual(b.keyboard.modes, [true, false, true, false, true, false])
})

test('two passphrases that differ, and one that is too short, make no key', async t => {
  const b = bench(t, { isTty: true, typed: `${PASSPHRASE}\rcorrect horse\rshort\r` })
  assert.equal(await b.run('new', '--passphrase'), EXIT.usage)
  assert.equal(await b.run('new', '--passphrase'), EXIT.failed)
  assert.match(b.stderr.text, /differ[\s\S]*IDENTITY_PASSPHRASE_LENGTH/)
  assert.equal(await b.run('show'), EXIT.failed)
  assert.match(b.stderr.text, /CLI_NO_KEY/)
})

test('Ctrl-C at a question ends the command', async t => {
  const b = bench(t, { isTty: true, typed: 'corr\u0003' })
  assert.equal(await b.run('new', '--passphrase'), EXIT.interrupted)
  assert.deepEqual(b.keyboard.modes, [true, false], 'the terminal is as it was')
})

test('words are shown on a terminal, and elsewhere only where that was asked for', async t => {
  const pipe = bench(t)
  assert.equal(await pipe.run('new', '--words'), EXIT.usage)
  assert.match(pipe.stderr.text, /--force/)
  assert.equal(await pipe.run('new', '--words', '--force'), EXIT.ok)
  assert.match(pipe.stdout.text, /\n(?:[a-z]+(?: [a-z]+){5}\n){4}$/)
  const terminal = bench(t, { isTty: true })
  assert.equal(await terminal.run('new', '--words'), EXIT.ok)
  const words = terminal.stdout.text.split('\n').slice(-5).join(' ').trim()
  const { peer } = await terminal.ask('show')
  assert.equal(parseEnvironmentKey(words).peer, peer)
})

test('a key comes back from its words, typed or piped, and from the number of the key', async t => {
  const a = bench(t)
  const first = await a.ask('new', '--words')
  const words = first.words ?? ''
  await a.run('rotate')
  const second = await a.ask('show')
  const exported = await a.ask('export', '--words', '--yes')
  assert.deepEqual([exported.words, exported.number], [words, 1])

  const piped = bench(t, { typed: `${words.toUpperCase()}\n` })
  assert.equal((await piped.ask('import', '--words')).peer, first.peer)
  const list = words.split(' ')
  const typed = bench(t, { isTty: true, typed: `${list.slice(0, 10).join(' ')}\r${list.slice(10).join('  ')}\r` })
  assert.equal((await typed.ask('import', '--words', '--number', '1')).peer, second.peer)
  assert.match(typed.stderr.text, /24 words \(not shown\).*\n10 words; go on/)
  assert.ok(!typed.stderr.text.includes(list[3] ?? ''))

  const wrong = bench(t, { typed: `${list.slice(1).join(' ')} zoo zoo` })
  assert.equal(await wrong.run('import', '--words'), EXIT.failed)
  assert.match(wrong.stderr.text, /IDENTITY_PHRASE_INVALID/)
  assert.equal(await wrong.run('show'), EXIT.failed)
})

test('a key file is copied privately and taken over elsewhere, encrypted if it was', async t => {
  const a = bench(t)
  const pass = fileWith(a, 'pass', PASSPHRASE)
  const made = await a.ask('new', '--passphrase-file', pass)
  const copy = join(a.dataDir, 'copy.key')
  assert.equal(await a.run('export', '--to', copy), EXIT.usage, 'nobody is there to confirm')
  assert.equal(await a.run('export', '--to', copy, '--yes'), EXIT.ok)
  if (process.platform !== 'win32') assert.equal(statSync(copy).mode & 0o777, 0o600)
  assert.equal(await a.run('export', '--to', copy, '--yes'), EXIT.usage, 'no file is written over')
  assert.equal(await a.run('export', '--yes'), EXIT.usage)

  const b = bench(t)
  assert.equal(await b.run('import', copy), EXIT.failed)
  assert.match(b.stderr.text, /IDENTITY_PASSPHRASE_NEEDED/)
  const taken = await b.ask('import', copy, '--passphrase-file', pass)
  assert.deepEqual([taken.peer, taken.isEncrypted], [made.peer, true])
  assert.equal((await b.ask('import', copy, '--passphrase-file', pass)).peer, made.peer, 'the same key again is fine')
  const other = bench(t)
  await other.run('new')
  const before = await other.ask('show')
  assert.equal(await other.run('import', copy, '--passphrase-file', pass), EXIT.failed)
  assert.match(other.stderr.text, /IDENTITY_PASSPHRASE|STORAGE_KEY_EXISTS/)
  assert.equal((await other.ask('show')).peer, before.peer)
})

test('an export is confirmed at the terminal', async t => {
  const b = bench(t, { isTty: true, typed: 'no\ryes\r' })
  await b.run('new')
  const copy = join(b.dataDir, 'copy.key')
  assert.equal(await b.run('export', '--to', copy), EXIT.usage)
  assert.equal(await b.run('export', '--to', copy), EXIT.ok)
  assert.match(b.stderr.text, /Type yes: no\n[\s\S]*Type yes: yes\n[\s\S]*in the clear/)
})

test('a passphrase is set, changed and taken away, and the key stays', async t => {
  const b = bench(t)
  const { peer } = await b.ask('new')
  const [one, two] = [fileWith(b, 'one', 'the first passphrase'), fileWith(b, 'two', 'the second passphrase')]
  assert.equal(await b.run('passphrase', '--new-passphrase-file', one), EXIT.ok)
  assert.equal((await b.ask('show', '--passphrase-file', one)).isEncrypted, true)
  assert.equal(await b.run('passphrase', '--new-passphrase-file', two), EXIT.failed)
  assert.equal(await b.run('passphrase', '--passphrase-file', one, '--new-passphrase-file', two), EXIT.ok)
  assert.equal(await b.run('show', '--passphrase-file', one), EXIT.failed)
  assert.equal(await b.run('passphrase', '--passphrase-file', two, '--remove'), EXIT.ok)
  const last = await b.ask('show')
  assert.deepEqual([last.peer, last.isEncrypted], [peer, false])
})

test('a rotation tells both peer ids, and the statement is there at the next look', async t => {
  const b = bench(t)
  const { peer } = await b.ask('new')
  assert.equal(await b.run('rotate'), EXIT.ok, b.stderr.text)
  const after = await b.ask('show')
  assert.ok(after.peer !== peer && after.handovers === 1 && after.number === 1)
  b.stdout.text = ''
  assert.equal(await b.run('rotate', '--new-phrase', '--json'), EXIT.ok)
  const { from, to } = JSON.parse(b.stdout.text) as { readonly from: string; readonly to: string }
  assert.equal(from, after.peer)
  const last = await b.ask('show')
  assert.deepEqual([last.peer, last.number, last.handovers], [to, 0, 2])
})

test('a rotation without a key, or of a key that others hold, says what is missing', async t => {
  const b = bench(t)
  assert.equal(await b.run('rotate'), EXIT.failed)
  assert.match(b.stderr.text, /CLI_NO_KEY/)
  const env = bench(t, { env: { KOINON_NODE_KEY: '11'.repeat(32), KOINON_NEXT_NODE_KEY: '22'.repeat(32) } })
  assert.equal(await env.run('rotate'), EXIT.failed)
  assert.match(env.stderr.text, /NODE_KEY_FIXED/)
  assert.equal(await env.run('rotate', '--to', 'env'), EXIT.ok, env.stderr.text)
  assert.match(env.stderr.text, /Start the node with --key for the new key/)
  const old = await env.ask('show')
  assert.deepEqual([old.kind, old.successor], ['environment', parseEnvironmentKey('22'.repeat(32)).peer])
  assert.doesNotMatch(env.stdout.text + env.stderr.text, /(?:11){20}|(?:22){20}/)
})

test('words about where a key lies that make no sense are wrong usage, and a PIN in them is not repeated', async t => {
  const b = bench(t)
  for (const key of ['usb', 'pkcs11:token=T;object=k?module-path=/m.so&pin-value=987654', 'env']) {
    assert.equal(await b.run('show', '--key', key), EXIT.usage, key)
  }
  assert.match(b.stderr.text, /use pin-source/)
  assert.match(b.stderr.text, /KOINON_NODE_KEY is not set/)
  assert.doesNotMatch(b.stderr.text, /987654/)
})

test('what is printed fits a terminal of 80 columns', async t => {
  const b = bench(t, { isTty: true })
  await b.run('new', '--words')
  await b.run('rotate', '--new-phrase')
  await b.run('show')
  for (const line of b.stdout.text.split('\n')) {
    assert.ok(line.length <= 80 || line.includes(b.dataDir), `${line.length} columns: ${line}`)
  }
})
