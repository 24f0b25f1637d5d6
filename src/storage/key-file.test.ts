import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { seededRandom, toHex } from '#base'
import {
  createHandover,
  createNodeIdentity,
  encodeKeyFile,
  type HeldIdentity,
  identityOfSecret,
  nextSecret,
  verifyChain,
} from '#identity'
import { openKeyStore } from './data-dir.ts'
import { createKeyStore, type KeyStore } from './key-file.ts'
import { HANDOVER_LINES_MAX, HANDOVERS_TOLD_MAX } from './limits.ts'

const isWindows = process.platform === 'win32'
const root = await mkdtemp(join(tmpdir(), 'koinon-keys-'))
after(() => rm(root, { recursive: true, force: true }))

const random = seededRandom(7)
const PASSPHRASE = 'correct horse battery staple'

let count = 0
async function freshStore(): Promise<{ readonly store: KeyStore; readonly keys: string; readonly path: string }> {
  const path = join(root, `data-${count++}`)
  await mkdir(path)
  return { store: createKeyStore(path, { random }), keys: join(path, 'keys'), path }
}

const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777
const secretOf = ({ secret }: HeldIdentity): string => toHex(secret.kind === 'seed' ? secret.seed : secret.root)

/** The next key of an identity, and the statement that leads to it. */
async function nextOf(
  store: KeyStore,
  from: HeldIdentity,
): Promise<{ readonly next: HeldIdentity; readonly statement: Uint8Array }> {
  const { sequence, at } = await store.handoversOf(from.peer)
  const next = identityOfSecret(nextSecret(from.secret, random), 'file')
  const statement = await createHandover({
    from: from.provider,
    to: next.provider,
    at: at + 1,
    sequence: sequence + 1,
  })
  return { next, statement }
}

async function rotate(store: KeyStore, from: HeldIdentity): Promise<HeldIdentity> {
  const { next, statement } = await nextOf(store, from)
  await store.rotate({ statement, next })
  return next
}

test('a key is made once, in a private file in the clear, and read again', { skip: isWindows }, async () => {
  const { store, keys } = await freshStore()
  assert.equal(await store.load(), undefined)
  assert.equal(await store.read(), undefined)
  const first = await store.loadOrCreate()
  assert.equal((await store.loadOrCreate()).peer, first.peer)
  assert.equal((await store.read())?.isEncrypted, false)
  assert.deepEqual([await modeOf(keys), await modeOf(store.path)], [0o700, 0o600])
})

test('with a passphrase the key is encrypted, and its secret is not in the file', async () => {
  const { store, keys } = await freshStore()
  const made = await store.loadOrCreate({ passphrase: PASSPHRASE })
  assert.equal((await store.read())?.isEncrypted, true)
  assert.equal((await store.load({ passphrase: PASSPHRASE }))?.peer, made.peer)
  await assert.rejects(store.load(), { code: 'IDENTITY_PASSPHRASE_NEEDED' })
  await assert.rejects(store.loadOrCreate(), { code: 'IDENTITY_PASSPHRASE_NEEDED' })
  await assert.rejects(store.load({ passphrase: 'wrong horse' }), { code: 'IDENTITY_PASSPHRASE_WRONG' })
  const bytes = await readFile(store.path)
  const secret = made.secret.kind === 'root' ? made.secret.root : made.secret.seed
  for (const form of [
    Buffer.from(secret),
    Buffer.from(secret).toString('hex'),
    Buffer.from(secret).toString('base64'),
  ]) {
    assert.equal(bytes.includes(form), false)
  }
  assert.equal(bytes.includes(PASSPHRASE), false)
  assert.deepEqual(await readdir(keys), ['node.key'], 'nothing else is left')
})

test('a weak passphrase makes no key', async () => {
  const { store } = await freshStore()
  await assert.rejects(store.loadOrCreate({ passphrase: 'short' }), { code: 'IDENTITY_PASSPHRASE_LENGTH' })
  assert.equal(await store.read(), undefined)
})

test('a key is not replaced unless that was asked for', async () => {
  const { store } = await freshStore()
  const first = await store.loadOrCreate()
  const other = await createNodeIdentity(random)
  await assert.rejects(store.save(other), { code: 'STORAGE_KEY_EXISTS' })
  assert.equal((await store.load())?.peer, first.peer)
  await store.save(first, { passphrase: PASSPHRASE, replaces: true })
  assert.equal((await store.load({ passphrase: PASSPHRASE }))?.peer, first.peer)
})

test('files of the first version are read', async () => {
  const { store, keys } = await freshStore()
  await mkdir(keys, { mode: 0o700 })
  const text =
    'koinon-node-key 1\n' +
    'CAESQBERERERERERERERERERERERERERERERERERERERERER0Eqy71HEj59ep4mJtfXWC8WjtVmjkTd+CkXkgfUHNxM=\n'
  await writeFile(store.path, text, { mode: 0o600 })
  const loaded = await store.load()
  assert.equal(loaded === undefined ? '' : secretOf(loaded), '11'.repeat(32))
})

test('a damaged file is an error, and stays as it is', async () => {
  const { store, keys } = await freshStore()
  await mkdir(keys, { mode: 0o700 })
  const whole = encodeKeyFile(await createNodeIdentity(random))
  for (const text of ['', whole.slice(0, -4), whole.replace('clear', 'cleer'), 'x'.repeat(10_000)]) {
    await writeFile(store.path, text, { mode: 0o600 })
    await assert.rejects(store.loadOrCreate(), { code: 'IDENTITY_KEY_INVALID' })
    assert.equal(await readFile(store.path, 'utf8'), text)
  }
})

test('keys and statements that others can read are refused', { skip: isWindows }, async () => {
  const { store, keys } = await freshStore()
  const key = await rotate(store, await store.loadOrCreate())
  await chmod(join(keys, 'handovers'), 0o644)
  await assert.rejects(store.handoversOf(key.peer), { code: 'STORAGE_PERMISSIONS', message: /chmod 600/ })
  await chmod(store.path, 0o604)
  await assert.rejects(store.load(), { code: 'STORAGE_PERMISSIONS' })
})

test('a directory that cannot be used is a clear error', async () => {
  const { store, keys } = await freshStore()
  await writeFile(keys, 'a file')
  await assert.rejects(store.loadOrCreate(), { code: 'STORAGE_UNUSABLE' })
})

test('a rotation keeps the passphrase and leaves a chain that ends at the new key', async () => {
  const { store } = await freshStore()
  const first = await store.loadOrCreate({ passphrase: PASSPHRASE })
  assert.deepEqual(await store.handoversOf(first.peer), { statements: [], sequence: 0, at: 0 })
  const { next, statement } = await nextOf(store, first)
  await store.rotate({ statement, next, passphrase: PASSPHRASE })
  assert.equal((await store.load({ passphrase: PASSPHRASE }))?.peer, next.peer)
  const { statements, sequence, successor } = await store.handoversOf(next.peer)
  assert.deepEqual([statements, sequence, successor], [[statement], 1, undefined])
  assert.equal((await store.handoversOf(first.peer)).successor, next.peer)
})

test('the newest statements are told, and the list stays short', async () => {
  const { store, keys } = await freshStore()
  let key = await store.loadOrCreate()
  for (let i = 0; i < HANDOVER_LINES_MAX + 3; i++) key = await rotate(store, key)
  const { statements, sequence } = await store.handoversOf(key.peer)
  assert.deepEqual([statements.length, sequence], [HANDOVERS_TOLD_MAX, HANDOVER_LINES_MAX + 3])
  const chain = verifyChain(statements)
  assert.ok(!('code' in chain))
  assert.equal(chain.peers.at(-1), key.peer)
  const lines = (await readFile(join(keys, 'handovers'), 'utf8')).trimEnd().split('\n')
  assert.equal(lines.length, HANDOVER_LINES_MAX)
})

test('chains of two identities lie beside each other', async () => {
  const { store } = await freshStore()
  const a = await rotate(store, await store.loadOrCreate())
  const other = await createNodeIdentity(random)
  const { next, statement } = await nextOf(store, other)
  await store.rotate({ statement })
  assert.equal((await store.load())?.peer, a.peer, 'a key elsewhere leaves the file as it is')
  for (const { peer } of [a, next]) assert.equal((await store.handoversOf(peer)).sequence, 1)
})

test('a list of statements that somebody edited is refused', async () => {
  const { store, keys } = await freshStore()
  const key = await rotate(store, await rotate(store, await store.loadOrCreate()))
  const path = join(keys, 'handovers')
  const text = await readFile(path, 'utf8')
  const [first = '', second = ''] = text.split('\n')
  const flipped = `${first.slice(0, 60)}${first[60] === 'A' ? 'B' : 'A'}${first.slice(61)}`
  for (const bad of [
    `${flipped}\n${second}\n`,
    `${first}\n${second}`,
    'nonsense\n',
    `${text}\n`,
    `${first}\n`.repeat(70),
  ]) {
    await writeFile(path, bad, { mode: 0o600 })
    await assert.rejects(store.handoversOf(key.peer), { code: 'STORAGE_HANDOVERS' }, JSON.stringify(bad.slice(0, 20)))
  }
  await writeFile(path, `${second}\n`, { mode: 0o600 })
  assert.equal((await store.handoversOf(key.peer)).sequence, 2, 'a chain may begin at any rotation')
})

test('wherever a rotation is cut off, the node starts with a key and the chain that ends at it', async () => {
  const { store, keys } = await freshStore()
  const zero = await store.loadOrCreate()
  const old = await rotate(store, zero)
  const before = await filesOf(keys)
  const fresh = await rotate(store, old)
  const done = await filesOf(keys)
  const [oldKey, oldList] = [before.get('node.key') ?? '', before.get('handovers') ?? '']
  const [newKey, newList] = [done.get('node.key') ?? '', done.get('handovers') ?? '']
  // Each step of a rotation leaves these, and each file may be cut off anywhere while it is written.
  const states: (readonly [
    key: string,
    list: string,
    keyStaged: string | undefined,
    listStaged: string | undefined,
  ])[] = [
    [oldKey, oldList, newKey, undefined],
    [oldKey, oldList, newKey.slice(0, 30), undefined],
    [oldKey, oldList, newKey, newList],
    [newKey, oldList, undefined, newList],
    [newKey, newList, undefined, undefined],
  ]
  for (let end = 0; end < newList.length; end += 7) states.push([oldKey, oldList, newKey, newList.slice(0, end)])
  for (const [key, list, keyStaged, listStaged] of states) {
    await writeFiles(keys, { 'node.key': key, handovers: list, 'node.key.new': keyStaged, 'handovers.new': listStaged })
    const expected = key === newKey ? fresh : old
    const loaded = await store.load()
    assert.equal(loaded?.peer, expected.peer)
    const { statements, successor } = await store.handoversOf(expected.peer)
    const chain = verifyChain(statements)
    assert.ok(!('code' in chain))
    const peers = expected === fresh ? [zero.peer, old.peer, fresh.peer] : [zero.peer, old.peer]
    assert.deepEqual([chain.peers, successor], [peers, undefined])
    const third = await rotate(store, expected)
    const again = verifyChain((await store.handoversOf(third.peer)).statements)
    assert.deepEqual('code' in again ? again : again.peers, [...peers, third.peer], 'and it can be rotated again')
    assert.deepEqual((await readdir(keys)).toSorted(), ['handovers', 'node.key'])
  }
})

test('a rotation that fails leaves everything as it was', { skip: isWindows || process.getuid?.() === 0 }, async () => {
  const { store, keys } = await freshStore()
  const key = await store.loadOrCreate()
  await chmod(keys, 0o500)
  await assert.rejects(rotate(store, key), { code: 'STORAGE_UNUSABLE' })
  await chmod(keys, 0o700)
  assert.equal((await store.load())?.peer, key.peer)
  assert.equal((await store.handoversOf(key.peer)).successor, undefined)
})

test('a rotation that cannot replace the key leaves everything as it was', async () => {
  const { store, keys } = await freshStore()
  const key = await store.loadOrCreate()
  const { next, statement } = await nextOf(store, key)
  const text = await readFile(store.path, 'utf8')
  await rm(store.path)
  await mkdir(join(store.path, 'in the way'), { recursive: true })
  await assert.rejects(store.rotate({ statement, next }), { code: 'STORAGE_UNUSABLE' })
  await rm(store.path, { recursive: true })
  await writeFile(store.path, text, { mode: 0o600 })
  assert.deepEqual(await readdir(keys), ['node.key'])
  assert.equal((await store.handoversOf(key.peer)).successor, undefined)
})

test('who writes keys holds the lock of the data directory', async () => {
  const { path } = await freshStore()
  const keys = await openKeyStore(path, { random })
  await assert.rejects(openKeyStore(path, { random }), { code: 'STORAGE_LOCKED' })
  keys.close()
  keys.close()
  ;(await openKeyStore(path, { random })).close()
})

async function filesOf(directory: string): Promise<ReadonlyMap<string, string>> {
  const names = await readdir(directory)
  return new Map(
    await Promise.all(names.map(async name => [name, await readFile(join(directory, name), 'utf8')] as const)),
  )
}

async function writeFiles(directory: string, files: Readonly<Record<string, string | undefined>>): Promise<void> {
  await rm(directory, { recursive: true })
  await mkdir(directory, { mode: 0o700 })
  for (const [name, text] of Object.entries(files)) {
    if (text !== undefined) await writeFile(join(directory, name), text, { mode: 0o600 })
  }
}
