import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { seededRandom } from '#base'
import { encodeNodeKey, generateNodeKey, peerIdOf } from '#crypto'
import {
  assertPassphrase,
  decryptKeyFile,
  encodeKeyFile,
  encryptKeyFile,
  isKeyFileEncrypted,
  parseKeyFile,
} from './key-file.ts'
import {
  KDF_LANES_MAX,
  KDF_MEMORY_KIB_MAX,
  KDF_PASSES_MAX,
  KEY_TEXT_CHARS_MAX,
  PASSPHRASE_CHARS_MAX,
} from './limits.ts'
import { createNodeIdentity, identityOfSecret } from './node-identity.ts'

const PASSPHRASE = 'correct horse battery'
/** The least that Argon2 takes: what a guess costs is not what is tested here. */
const cheap = { random: seededRandom(7), cost: { memoryKib: 8, passes: 1, lanes: 1 } }

const seedIdentity = identityOfSecret({ kind: 'seed', seed: seededRandom(3).bytes(32) }, 'file')
const rootIdentity = await createNodeIdentity(seededRandom(1))
const rotated = identityOfSecret({ kind: 'root', root: seededRandom(2).bytes(32), index: 65_535 }, 'file')

/** A whole file, with the checksum that belongs to these lines. */
function withChecksum(lines: readonly string[]): string {
  const body = lines.map(line => `${line}\n`).join('')
  return `${body}${createHash('sha256').update(body).digest('hex').slice(0, 16)}\n`
}

function linesOf(text: string): string[] {
  return text.split('\n').slice(0, -2)
}

test('an identity survives its key file in the clear, root and index too', () => {
  for (const identity of [rootIdentity, seedIdentity, rotated]) {
    const text = encodeKeyFile(identity)
    assert.match(text, /^koinon-node-key 2\nclear\n[A-Za-z0-9+/]+=*\n[0-9a-f]{16}\n$/)
    assert.equal(isKeyFileEncrypted(text), false)
    assert.equal(parseKeyFile(text).peer, identity.peer)
    assert.deepEqual(parseKeyFile(text).secret, identity.secret)
    assert.equal(parseKeyFile(text.replaceAll('\n', '\r\n')).peer, identity.peer, 'after an editor on Windows')
    assert.equal(parseKeyFile(text.trimEnd()).peer, identity.peer, 'without the end of the last line')
  }
})

test('a key file of version 1 is read', async () => {
  const key = await generateNodeKey(seededRandom(1))
  const text = `koinon-node-key 1\n${Buffer.from(encodeNodeKey(key)).toString('base64')}\n`
  for (const file of [text, text.replaceAll('\n', '\r\n'), text.trimEnd()]) {
    assert.equal(parseKeyFile(file).peer, peerIdOf(key))
    assert.equal(parseKeyFile(file).secret.kind, 'seed')
  }
})

test('a key file of version 1: a vector', () => {
  // The key of RFC 8032, section 7.1, test 1, as libp2p writes it.
  const raw =
    '080112409d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'
  const { provider } = parseKeyFile(`koinon-node-key 1\n${Buffer.from(raw, 'hex').toString('base64')}\n`)
  assert.equal(Buffer.from(provider.publicKey).toString('hex').slice(0, 16), 'd75a980182b10ab7')
})

test('an identity survives its encrypted key file, and nothing of the secret is in the text', async () => {
  for (const identity of [rootIdentity, seedIdentity, rotated]) {
    const text = await encryptKeyFile(cheap, identity, PASSPHRASE)
    assert.match(text, /^koinon-node-key 2\nargon2id m=8 t=1 p=1\n/)
    assert.equal(isKeyFileEncrypted(text), true)
    const { secret } = identity
    const bytes = Buffer.from(secret.kind === 'root' ? secret.root : secret.seed)
    assert.ok(!text.includes(bytes.toString('base64').slice(0, 20)))
    assert.ok(!Buffer.from(linesOf(text)[4] ?? '', 'base64').includes(bytes))
    const again = await decryptKeyFile(text.replaceAll('\n', '\r\n'), PASSPHRASE)
    assert.deepEqual(again.secret, secret)
    assert.equal(again.peer, identity.peer)
  }
})

test("without a cost a key file takes RFC 9106's second recommendation", async () => {
  const text = await encryptKeyFile({ random: seededRandom(1) }, rootIdentity, PASSPHRASE)
  assert.match(text, /\nargon2id m=65536 t=3 p=4\n/)
  assert.equal((await decryptKeyFile(text, PASSPHRASE)).peer, rootIdentity.peer)
})

test('two files of one key and passphrase share no salt, IV or ciphertext', async () => {
  const random = seededRandom(5)
  const files = [1, 2].map(async () => encryptKeyFile({ ...cheap, random }, rootIdentity, PASSPHRASE))
  const [a = [], b = []] = (await Promise.all(files)).map(linesOf)
  for (const line of [2, 3, 4]) assert.notEqual(a[line], b[line])
})

test('a wrong passphrase is told from a damaged file', async () => {
  const text = await encryptKeyFile(cheap, rootIdentity, PASSPHRASE)
  for (const passphrase of ['', 'correct horse batterY', `${PASSPHRASE} `, 'x'.repeat(1_000_000)]) {
    await assert.rejects(decryptKeyFile(text, passphrase), { code: 'IDENTITY_PASSPHRASE_WRONG' })
  }
  for (let at = 0; at < text.length - 1; at++) {
    const other = text[at] === 'A' ? 'B' : 'A'
    await assert.rejects(
      decryptKeyFile(text.slice(0, at) + other + text.slice(at + 1), PASSPHRASE),
      (error: { code?: unknown }) => error.code === 'IDENTITY_KEY_INVALID' || error.code === 'IDENTITY_KEY_VERSION',
      `character ${at}`,
    )
  }
})

test('a passphrase is the same one from a keyboard that composes its letters otherwise', async () => {
  const text = await encryptKeyFile(cheap, rootIdentity, 'cafe\u0301 ole\u0301!')
  assert.equal((await decryptKeyFile(text, 'caf\u00e9 ol\u00e9!')).peer, rootIdentity.peer)
})

test('an encrypted file asks for its passphrase, and a file in the clear needs none', async () => {
  const text = await encryptKeyFile(cheap, rootIdentity, PASSPHRASE)
  assert.throws(() => parseKeyFile(text), { code: 'IDENTITY_PASSPHRASE_NEEDED' })
  assert.equal((await decryptKeyFile(encodeKeyFile(rootIdentity), '')).peer, rootIdentity.peer)
})

test('a passphrase that is too short or too long protects no key', async () => {
  for (const passphrase of ['', 'seven77', 'x'.repeat(PASSPHRASE_CHARS_MAX + 1)]) {
    await assert.rejects(encryptKeyFile(cheap, rootIdentity, passphrase), { code: 'IDENTITY_PASSPHRASE_LENGTH' })
    assert.throws(() => assertPassphrase(passphrase), { code: 'IDENTITY_PASSPHRASE_LENGTH' })
  }
  const longest = 'x'.repeat(PASSPHRASE_CHARS_MAX)
  const text = await encryptKeyFile(cheap, rootIdentity, longest)
  assert.equal((await decryptKeyFile(text, longest)).peer, rootIdentity.peer)
})

test('a cost beyond what is taken is refused before anything is spent on it', async () => {
  const lines = linesOf(await encryptKeyFile(cheap, rootIdentity, PASSPHRASE))
  const costs = [
    `m=${KDF_MEMORY_KIB_MAX + 1} t=1 p=1`,
    'm=4294967295 t=1 p=1',
    `m=1024 t=${KDF_PASSES_MAX + 1} p=1`,
    `m=1024 t=1 p=${KDF_LANES_MAX + 1}`,
    'm=7 t=1 p=1',
    'm=15 t=1 p=2',
  ]
  for (const cost of costs) {
    const text = withChecksum(lines.with(1, `argon2id ${cost}`))
    assert.throws(() => isKeyFileEncrypted(text), { code: 'IDENTITY_KEY_COST' }, cost)
    await assert.rejects(decryptKeyFile(text, PASSPHRASE), { code: 'IDENTITY_KEY_COST' }, cost)
  }
})

test('a cheaper cost cannot be written into a file: it would have to be encrypted again', async () => {
  const deps = { ...cheap, cost: { memoryKib: 16, passes: 2, lanes: 1 } }
  const lines = linesOf(await encryptKeyFile(deps, rootIdentity, PASSPHRASE))
  const text = withChecksum(lines.with(1, 'argon2id m=16 t=1 p=1'))
  await assert.rejects(decryptKeyFile(text, PASSPHRASE), { code: 'IDENTITY_PASSPHRASE_WRONG' })
})

test('a damaged key file is refused, not replaced by another identity', async () => {
  const clear = encodeKeyFile(rootIdentity)
  const sealed = linesOf(await encryptKeyFile(cheap, rootIdentity, PASSPHRASE))
  const damaged = [
    '',
    'hello',
    'koinon-node-key 1\n',
    'koinon-node-key 1\nAAAA\n',
    'koinon-node-key 2\n',
    clear.slice(0, 40),
    clear.replace('node', 'nude'),
    `${clear}more`,
    `${clear}\n`,
    clear.replace('clear', 'cleas'),
    withChecksum(['koinon-node-key 2', 'clear']),
    withChecksum(['koinon-node-key 2', 'clear', 'oA==']),
    withChecksum(['koinon-node-key 2', 'clear', '~']),
    withChecksum(linesOf(clear).concat('x')),
    withChecksum(['koinon-node-key 2', 'scrypt']),
    withChecksum(sealed.slice(0, 4)),
    withChecksum(sealed.concat('AAAA')),
    withChecksum(sealed.with(1, 'argon2id m=08 t=1 p=1')),
    withChecksum(sealed.with(1, 'argon2d m=8 t=1 p=1')),
    withChecksum(sealed.with(2, 'AAAA')),
    withChecksum(sealed.with(3, 'AAAA')),
    withChecksum(sealed.with(4, 'AAAA')),
    'x'.repeat(KEY_TEXT_CHARS_MAX + 1),
  ]
  for (const text of damaged) {
    assert.throws(() => parseKeyFile(text), { code: 'IDENTITY_KEY_INVALID' }, text)
    await assert.rejects(decryptKeyFile(text, PASSPHRASE), { code: 'IDENTITY_KEY_INVALID' }, text)
  }
})

test('a key file of a later version says so', () => {
  const text = encodeKeyFile(rootIdentity).replace('key 2', 'key 3')
  assert.throws(() => parseKeyFile(text), { code: 'IDENTITY_KEY_VERSION' })
})

test('no text makes the reader of key files throw anything but its own errors', () => {
  const line = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.base64String({ maxLength: 60 }),
    fc.constantFrom(
      'clear',
      'argon2id m=8 t=1 p=1',
      'argon2id m=99999999 t=99 p=99',
      ...linesOf(encodeKeyFile(rootIdentity)),
    ),
  )
  const text = fc.tuple(fc.constantFrom('1', '2', '3', ''), fc.array(line, { maxLength: 6 }), fc.boolean())
  fc.assert(
    fc.property(text, ([version, lines, isWhole]) => {
      const all = [`koinon-node-key ${version}`, ...lines]
      try {
        isKeyFileEncrypted(isWhole ? withChecksum(all) : all.join('\n'))
      } catch (error) {
        assert.match(String((error as { code?: unknown }).code), /^IDENTITY_KEY_(?:INVALID|VERSION|COST)$/)
      }
    }),
    { numRuns: 1000 },
  )
})
