import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import koffi from 'koffi'
import { systemClock, systemRandom, toHex } from '#base'
import { ed25519Verifier } from '#crypto'
import { createSoftHsm, PIN, SOFTHSM_MODULE, SOFTHSM_SKIP } from '../../../test/support/softhsm.ts'
import { createTokenKey } from '../create-key.ts'
import type { Pkcs11Source } from '../key-source.ts'
import { TOKEN_QUEUE_MAX } from '../limits.ts'
import { openKey } from '../open-key.ts'
import { FUNCTIONS } from './constants.ts'
import { FUNCTION_LIST_OFFSET, mechanismBytes, Template, Ulongs, ulongBytes } from './memory.ts'
import { openPkcs11Key } from './pkcs11-key.ts'

const skip = SOFTHSM_SKIP
const hsm = skip === false ? createSoftHsm(after) : undefined
const deps = { clock: systemClock, random: systemRandom, readFile: () => assert.fail('no file is read') }
const hello = new TextEncoder().encode('hello')

let count = 0
/** A key of its own token, not made yet. */
function freshSource(): Pkcs11Source {
  const token = hsm?.addToken(`token ${count++}`) ?? ''
  return { kind: 'pkcs11', module: SOFTHSM_MODULE, token, label: 'node', pin: PIN }
}

/** SoftHSM's functions as another program of this process would call them. */
function native(name: (typeof FUNCTIONS)[number], types: readonly string[]): (...values: unknown[]) => number {
  const getList = koffi
    .load(SOFTHSM_MODULE)
    .func('C_GetFunctionList', 'unsigned long', [koffi.out(koffi.pointer('void *'))])
  const list = [null]
  getList(list)
  const address = koffi.decode(list[0], FUNCTION_LIST_OFFSET + FUNCTIONS.indexOf(name) * 8, 'void *') as bigint
  return koffi.decode(address, koffi.proto('unsigned long', [...types])) as (...values: unknown[]) => number
}

test('a key that was made on a token signs there, and is the same key when it is opened again', { skip }, async () => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const first = await openKey(deps, source)
  const { provider } = first
  assert.equal(provider.kind, 'pkcs11')
  assert.ok(ed25519Verifier(provider.publicKey).verify(hello, await provider.sign(hello)))
  await provider.close()
  await provider.close()
  await assert.rejects(Promise.resolve(provider.sign(hello)), { code: 'KEYRING_CLOSED' })
  const second = await openKey(deps, source)
  assert.equal(second.peer, first.peer)
  await second.provider.close()
})

test('messages of any length are signed, empty and large ones too', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const key = await openPkcs11Key(deps, source)
  t.after(() => key.close())
  for (const length of [0, 1, 63, 64, 4096, 512 * 1024]) {
    const message = new Uint8Array(length).fill(7)
    assert.ok(ed25519Verifier(key.publicKey).verify(message, await key.sign(message)), `${length} bytes`)
  }
})

test('signatures that are asked for at once are all right, and more than may wait are refused', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const key = await openPkcs11Key(deps, source)
  t.after(() => key.close())
  const messages = Array.from({ length: TOKEN_QUEUE_MAX + 20 }, (_, i) => Uint8Array.of(i & 0xff, i >> 8))
  const results = await Promise.allSettled(messages.map(async message => key.sign(message)))
  const verifier = ed25519Verifier(key.publicKey)
  let busy = 0
  for (const [i, result] of results.entries()) {
    if (result.status === 'fulfilled') assert.ok(verifier.verify(messages[i] ?? hello, result.value))
    else busy += (result.reason as { code?: string }).code === 'KEYRING_BUSY' ? 1 : 0
  }
  assert.equal(busy, 20 - 1, 'one runs, and as many wait as may')
})

test('the module stays loaded when memory is collected', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const key = await openPkcs11Key(deps, source)
  t.after(() => key.close())
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let turn = 0; turn < 5; turn++) {
    collect()
    await new Promise(resolve => setImmediate(resolve))
    assert.ok(ed25519Verifier(key.publicKey).verify(hello, await key.sign(hello)))
  }
})

test('two keys of two tokens of one module work beside each other', { skip }, async () => {
  const sources = [freshSource(), freshSource()] as const
  for (const source of sources) await createTokenKey(deps, source)
  const [a, b] = [await openPkcs11Key(deps, sources[0]), await openPkcs11Key(deps, sources[1])]
  assert.notEqual(toHex(a.publicKey), toHex(b.publicKey))
  const [byA, byB] = await Promise.all([a.sign(hello), b.sign(hello)])
  assert.ok(ed25519Verifier(a.publicKey).verify(hello, byA))
  assert.ok(ed25519Verifier(b.publicKey).verify(hello, byB))
  await a.close()
  assert.ok(ed25519Verifier(b.publicKey).verify(hello, await b.sign(hello)), 'closing one leaves the other')
  await b.close()
})

test('a wrong PIN, no PIN, an unknown token and an unknown key are told apart', { skip }, async () => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const { pin: _pin, ...withoutPin } = source
  const refused = async (changed: Pkcs11Source, code: string): Promise<void> => {
    await assert.rejects(openPkcs11Key(deps, changed), { code })
  }
  await refused({ ...source, pin: 'not this one' }, 'KEYRING_PIN_WRONG')
  await refused({ ...source, pin: '' }, 'KEYRING_PIN_WRONG')
  await refused(withoutPin, 'KEYRING_PIN_NEEDED')
  await refused({ ...source, token: 'nowhere' }, 'KEYRING_TOKEN_UNKNOWN')
  await refused({ ...source, serial: '0123' }, 'KEYRING_TOKEN_UNKNOWN')
  await refused({ ...source, label: 'other' }, 'KEYRING_KEY_UNKNOWN')
  await refused({ ...source, id: '77' }, 'KEYRING_KEY_UNKNOWN')
  await (await openPkcs11Key(deps, source)).close()
})

test('a file that is no PKCS#11 module, or is not there, is a clear error', { skip }, async () => {
  const text = join(hsm?.directory ?? '', 'module.so')
  writeFileSync(text, 'no library')
  for (const module of [text, join(hsm?.directory ?? '', 'missing.so')]) {
    await assert.rejects(openPkcs11Key(deps, { ...freshSource(), module }), { code: 'KEYRING_MODULE' })
  }
})

test('a name is given once on a token, and a key can be named by its id', { skip }, async () => {
  const source = { ...freshSource(), id: '0a0b' }
  await createTokenKey(deps, source)
  await assert.rejects(createTokenKey(deps, source), { code: 'KEYRING_KEY_EXISTS' })
  await createTokenKey(deps, { ...source, id: '0c0d' })
  const { id: _id, ...byLabel } = source
  await assert.rejects(openPkcs11Key(deps, byLabel), { code: 'KEYRING_KEY_UNKNOWN', message: /several/ })
  const { label: _label, ...byId } = source
  const [a, b] = [await openPkcs11Key(deps, byId), await openPkcs11Key(deps, { ...source, id: '0c0d' })]
  assert.notEqual(toHex(a.publicKey), toHex(b.publicKey))
  await Promise.all([a.close(), b.close()])
})

test('the private key cannot be read out of the token', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const key = await openPkcs11Key(deps, source)
  t.after(() => key.close())
  const { session, handle } = findPrivate(source)
  const value = new Template([[0x11, new Uint8Array(new ArrayBuffer(128))]])
  const read = native('C_GetAttributeValue', ['unsigned long', 'unsigned long', 'void *', 'unsigned long'])
  assert.equal(read(session, handle, value.bytes, 1), 0x11, 'CKR_ATTRIBUTE_SENSITIVE')
  const extractable = new Template([[0x162, new Uint8Array(new ArrayBuffer(1))]])
  assert.equal(read(session, handle, extractable.bytes, 1), 0)
  assert.deepEqual(extractable.valueAt(0), Uint8Array.of(0))
})

test('a session that the token has ended is begun again', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const key = await openPkcs11Key(deps, source)
  t.after(() => key.close())
  const closeAll = native('C_CloseAllSessions', ['unsigned long'])
  for (const slot of slots()) closeAll(slot)
  assert.ok(ed25519Verifier(key.publicKey).verify(hello, await key.sign(hello)))
})

test('a PIN that the token does not take any more is not tried again and again', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const key = await openPkcs11Key(deps, source)
  t.after(() => key.close())
  setPin(source, 'another pin')
  const closeAll = native('C_CloseAllSessions', ['unsigned long'])
  for (const slot of slots()) closeAll(slot)
  await assert.rejects(Promise.resolve(key.sign(hello)), { code: 'KEYRING_PIN_WRONG' })
  setPin({ ...source, pin: 'another pin' }, PIN)
  for (const slot of slots()) closeAll(slot)
  await assert.rejects(Promise.resolve(key.sign(hello)), { code: 'KEYRING_PIN_WRONG' })
})

test('a key that asks for the PIN before each signature gets it', { skip }, async t => {
  const source = freshSource()
  await createTokenKey(deps, source)
  const plain = await openPkcs11Key(deps, source)
  t.after(() => plain.close())
  const { session } = findPrivate(source)
  const names = [
    [0x3, new TextEncoder().encode('careful')],
    [0x102, Uint8Array.of(9)],
  ] as const
  const yes = Uint8Array.of(1)
  const curve = Uint8Array.from([0x13, 12, ...new TextEncoder().encode('edwards25519')])
  const publicHalf = new Template([[0x1, yes], [0x180, curve], ...names])
  const privateHalf = new Template([[0x1, yes], [0x2, yes], [0x108, yes], [0x202, yes], ...names])
  const types = ['unsigned long', 'void *', 'void *', 'unsigned long', 'void *', 'unsigned long', 'void *', 'void *']
  const generate = native('C_GenerateKeyPair', types)
  const made = [mechanismBytes(0x1055), publicHalf.bytes, publicHalf.count, privateHalf.bytes, privateHalf.count]
  assert.equal(generate(session, ...made, ulongBytes(0), ulongBytes(0)), 0)
  const key = await openPkcs11Key(deps, { ...source, label: 'careful' })
  t.after(() => key.close())
  for (let i = 0; i < 3; i++) assert.ok(ed25519Verifier(key.publicKey).verify(hello, await key.sign(hello)))
})

test('an RSA key is not taken for a node key', { skip }, async () => {
  const source = freshSource()
  const file = join(hsm?.directory ?? '', 'rsa.pem')
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const args = ['--import', file, '--token', source.token, '--label', 'node', '--id', '01', '--pin', PIN]
  const imported = spawnSync('softhsm2-util', args, { encoding: 'utf8' })
  assert.equal(imported.status, 0, imported.stderr)
  await assert.rejects(openPkcs11Key(deps, source), { code: 'KEYRING_KEY_TYPE' })
})

function slots(): number[] {
  const list = new Ulongs(64)
  const size = new Ulongs(1, 64)
  assert.equal(native('C_GetSlotList', ['uint8_t', 'void *', 'void *'])(1, list.bytes, size.bytes), 0)
  return Array.from({ length: size.at(0) }, (_, i) => list.at(i))
}

/** A read-write session with the token of a source whose key is open, and its private key. */
function findPrivate(source: Pkcs11Source): { readonly session: number; readonly handle: number } {
  const open = native('C_OpenSession', ['unsigned long', 'unsigned long', 'void *', 'void *', 'void *'])
  const template = new Template([
    [0x0, ulongBytes(3)],
    [0x3, new TextEncoder().encode(source.label ?? '')],
  ])
  const info = new Uint8Array(new ArrayBuffer(512))
  for (const slot of slots()) {
    assert.equal(native('C_GetTokenInfo', ['unsigned long', 'void *'])(slot, info), 0)
    if (new TextDecoder().decode(info.subarray(0, 32)).trimEnd() !== source.token) continue
    const session = new Ulongs(1)
    assert.equal(open(slot, 6, null, null, session.bytes), 0)
    const pin = new TextEncoder().encode(source.pin)
    native('C_Login', ['unsigned long', 'unsigned long', 'void *', 'unsigned long'])(session.at(0), 1, pin, pin.length)
    const types = ['unsigned long', 'void *', 'unsigned long']
    assert.equal(native('C_FindObjectsInit', types)(session.at(0), template.bytes, 2), 0)
    const found = new Ulongs(1)
    const size = new Ulongs(1)
    const find = native('C_FindObjects', ['unsigned long', 'void *', 'unsigned long', 'void *'])
    assert.equal(find(session.at(0), found.bytes, 1, size.bytes), 0)
    native('C_FindObjectsFinal', ['unsigned long'])(session.at(0))
    return { session: session.at(0), handle: found.at(0) }
  }
  return assert.fail('the token is gone')
}

function setPin(source: Pkcs11Source, pin: string): void {
  const { session } = findPrivate(source)
  const [before, next] = [source.pin ?? '', pin].map(text => new TextEncoder().encode(text))
  const set = native('C_SetPIN', ['unsigned long', 'void *', 'unsigned long', 'void *', 'unsigned long'])
  assert.equal(set(session, before, before?.length, next, next?.length), 0)
}
