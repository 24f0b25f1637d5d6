import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createLogger, ManualClock, seededRandom, silentLogger, toHex } from '#base'
import {
  createNodeIdentity,
  type HeldIdentity,
  parseEnvironmentKey,
  seedPhraseOf,
  verifyChain,
  verifyHandover,
} from '#identity'
import type { KeySource } from '#keyring'
import { createKeyStore, type KeyStore } from '#storage'
import { KMS_KEY, KMS_REGION, startKmsServer } from '../../test/support/kms-server.ts'
import { openOwnIdentity, type OwnIdentity } from './own-identity.ts'
import type { NodeConfig } from './types.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-own-'))
after(() => rm(root, { recursive: true, force: true }))

const clock = new ManualClock(1_700_000_000_000)
const random = seededRandom(3)
const deps = { clock, random, log: silentLogger }
const PASSPHRASE = 'correct horse battery staple'

let count = 0
const freshStore = (): KeyStore => createKeyStore(join(root, `data-${count++}`), { random })

type Config = Pick<NodeConfig, 'key' | 'passphrase' | 'hybridSignatures'>
const open = (store: KeyStore, config: Config = {}): Promise<OwnIdentity> => openOwnIdentity(deps, config, store)

/** A key of the environment, and its text. */
async function environmentKey(): Promise<KeySource & { readonly kind: 'environment' }> {
  return { kind: 'environment', text: seedPhraseOf((await createNodeIdentity(random)).secret) ?? '' }
}

test('without a word about keys, the data directory has one, which is made once', async () => {
  const store = freshStore()
  const own = await open(store)
  assert.deepEqual([own.isNew, own.handovers], [true, []])
  const again = await open(store)
  assert.deepEqual([again.isNew, again.identity.peer], [false, own.identity.peer])
  assert.ok(again.identity.hybrid !== undefined)
})

test('a rotation is signed by both keys, takes the next key of the phrase, and is there at the next start', async () => {
  const store = freshStore()
  const own = await open(store)
  const phrase = seedPhraseOf((own.identity as HeldIdentity).secret)
  const { from, to, signer, statement } = await own.rotate()
  assert.equal(from, own.identity.peer)
  const handover = verifyHandover(statement)
  assert.ok(!('code' in handover))
  assert.deepEqual([handover.from.peer, handover.to.peer, handover.sequence], [from, to, 1])
  assert.equal(toHex(handover.to.publicKey), toHex(signer.publicKey))
  const next = await open(store)
  assert.equal(next.identity.peer, to)
  assert.deepEqual(next.handovers, [statement])
  assert.equal(seedPhraseOf((next.identity as HeldIdentity).secret), phrase, 'one phrase restores both')
  assert.equal(parseEnvironmentKey(`${phrase} #1`).peer, to)
})

test('a node that is not restarted rotates again and again, one after the other', async () => {
  const store = freshStore()
  const own = await open(store, { passphrase: PASSPHRASE })
  const rotations = await Promise.all([own.rotate(), own.rotate(), own.rotate()])
  const chain = verifyChain(rotations.map(({ statement }) => statement))
  assert.ok(!('code' in chain))
  assert.deepEqual(chain.peers, [own.identity.peer, ...rotations.map(({ to }) => to)])
  assert.equal((await open(store, { passphrase: PASSPHRASE })).identity.peer, rotations[2]?.to)
  await assert.rejects(open(store), { code: 'IDENTITY_PASSPHRASE_NEEDED' }, 'it stays encrypted')
})

test('a clock that went back does not break the chain', async () => {
  const store = freshStore()
  const own = await openOwnIdentity({ ...deps, clock: new ManualClock(2_000_000_000_000) }, {}, store)
  await own.rotate()
  const late = await open(store)
  await late.rotate()
  assert.equal((await open(store)).handovers.length, 2)
})

test('a phrase that others may know is left by a new one', async () => {
  const store = freshStore()
  const own = await open(store)
  const phrase = seedPhraseOf((own.identity as HeldIdentity).secret)
  await own.rotate({ newPhrase: true })
  const next = (await open(store)).identity as HeldIdentity
  assert.notEqual(seedPhraseOf(next.secret), phrase)
  assert.equal((await open(store)).handovers.length, 1)
})

test('an imported key, which has no phrase, is rotated to the first key of a new one', async () => {
  const store = freshStore()
  await store.save(parseEnvironmentKey('22'.repeat(32)))
  const own = await open(store)
  await own.rotate()
  const next = (await open(store)).identity as HeldIdentity
  assert.ok(seedPhraseOf(next.secret) !== undefined)
})

test('a key in the environment can be handed over, where the new one is named', async () => {
  const store = freshStore()
  const [key, next] = [await environmentKey(), await environmentKey()]
  const own = await open(store, { key })
  await assert.rejects(own.rotate(), { code: 'NODE_KEY_FIXED', message: /--to/ })
  const { to } = await own.rotate({ to: next })
  assert.equal(await store.read(), undefined, 'nothing of it is written down but the statement')
  const after = await open(store, { key: next })
  assert.deepEqual([after.identity.peer, after.handovers.length], [to, 1])
  await assert.rejects(open(store, { key }), { code: 'NODE_KEY_GIVEN_UP', message: new RegExp(to) })
})

test('a node moves from the environment into its data directory, and out of it to a key service', async t => {
  const store = freshStore()
  const key = await environmentKey()
  const first = await (await open(store, { key })).rotate({ to: { kind: 'file' } })
  const own = await open(store)
  assert.deepEqual([own.identity.peer, own.handovers.length, own.isNew], [first.to, 1, false])
  const server = await startKmsServer(action => t.after(action), 5)
  const kms: KeySource = { kind: 'kms', key: KMS_KEY, region: KMS_REGION, endpoint: server.endpoint }
  const second = await own.rotate({ to: kms })
  await assert.rejects(open(store), { code: 'NODE_KEY_GIVEN_UP' }, 'the file has the old key')
  const served = await open(store, { key: kms })
  t.after(() => Promise.all([own.close(), served.close()]))
  assert.deepEqual([served.identity.peer, served.handovers.length], [second.to, 2])
  assert.equal(served.identity.hybrid, undefined)
})

test('a key never comes back', async () => {
  const store = freshStore()
  const [a, b] = [await environmentKey(), await environmentKey()]
  const own = await open(store, { key: a })
  await assert.rejects(own.rotate({ to: a }), { code: 'NODE_KEY_USED' })
  await own.rotate({ to: b })
  await assert.rejects(own.rotate({ to: a }), { code: 'NODE_KEY_USED' })
  await assert.rejects(own.rotate({ to: b }), { code: 'NODE_KEY_USED' })
})

test('a rotation that fails leaves the key, and the next one works', async () => {
  const store = freshStore()
  const own = await open(store)
  await assert.rejects(own.rotate({ to: { kind: 'environment', text: 'no key' } }), { code: 'IDENTITY_PHRASE_INVALID' })
  assert.equal((await open(store)).identity.peer, own.identity.peer)
  const { from } = await own.rotate()
  assert.equal(from, own.identity.peer)
})

test('what an owner may believe and is not so is said', async t => {
  const lines: string[] = []
  const log = createLogger({ clock, write: line => lines.push(line) }, { level: 'warn', format: 'text' })
  const store = freshStore()
  await open(store)
  await openOwnIdentity({ ...deps, log }, { passphrase: PASSPHRASE }, store)
  assert.match(lines.join('\n'), /not encrypted/)
  lines.length = 0
  const server = await startKmsServer(action => t.after(action), 6)
  const key: KeySource = { kind: 'kms', key: KMS_KEY, region: KMS_REGION, endpoint: server.endpoint }
  const own = await openOwnIdentity({ ...deps, log }, { key, hybridSignatures: true }, store)
  t.after(() => own.close())
  assert.match(lines.join('\n'), /Ed25519 alone/)
  assert.doesNotMatch(lines.join('\n'), new RegExp(PASSPHRASE))
})
