/** What a node knows about models: cores, manifests, votes. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, type TestContext, test } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import type { ModelVote } from '#formats'
import { signEnvelope } from '#identity'
import { signManifest, signVote } from '#protocol'
import { smallModel } from '../../test/support/model-core.ts'
import { manifestOf } from '../../test/support/model-manifest.ts'
import { type DataDir, openDataDir } from './data-dir.ts'
import { KNOWN_MODELS_MAX, VOTES_PER_MODEL_MAX, VOTES_SHOWN_MAX } from './limits.ts'

const NOW = 1_700_000_000_000
const root = await mkdtemp(join(tmpdir(), 'koinon-models-'))
after(() => rm(root, { recursive: true, force: true }))
const model = await smallModel()
const keyOf = (n: number) => {
  const signer = ed25519Signer(seededRandom(n).bytes(32))
  return { signer, peer: peerOfPublicKey(signer.publicKey) }
}
const [alice, bob] = [keyOf(1), keyOf(2)]
const manifest = await signManifest(alice.signer, manifestOf(model))

type Bench = {
  readonly path: string
  readonly clock: ManualClock
  data: DataDir
  reopen(): Promise<void>
  sql(text: string): void
}

let count = 0
async function bench(t: TestContext): Promise<Bench> {
  const path = join(root, `data-${count++}`)
  const clock = new ManualClock(NOW)
  const deps = { clock, random: seededRandom(1) }
  const self: Bench = {
    path,
    clock,
    data: await openDataDir(path, deps),
    reopen: async () => {
      await self.data.close()
      self.data = await openDataDir(path, deps)
    },
    sql: text => {
      const database = new DatabaseSync(join(path, 'node.db'), { defensive: false })
      database.exec(text)
      database.close()
    },
  }
  t.after(() => self.data.close())
  return self
}

const voteOf = (over: Partial<ModelVote> = {}): ModelVote => ({
  model: model.id,
  isTrusted: true,
  comment: 'good',
  sequence: 1,
  at: NOW,
  ...over,
})

test('a model comes back as it was put, after a restart too; put again it takes the new words', async t => {
  const b = await bench(t)
  const put = b.data.models.put({ core: model.core, manifest, file: '/models/small.gguf', isShared: true })
  assert.equal(put?.id, model.id)
  assert.equal(put.manifest?.signer, alice.peer)
  assert.deepEqual(put.manifest.manifest, manifestOf(model))
  await b.reopen()
  assert.deepEqual(b.data.models.find(model.id), put)
  assert.deepEqual(b.data.models.list(), [put])
  b.clock.advance(1_000)
  const again = b.data.models.put({ core: model.core, file: undefined, isShared: false })
  assert.deepEqual(again, { ...put, manifest: undefined, file: undefined, isShared: false })
  assert.deepEqual(b.data.models.find(model.id), again)
  assert.equal(b.data.models.remove(model.id), true)
  assert.equal(b.data.models.remove(model.id), false)
  assert.deepEqual(b.data.models.list(), [])
})

test('what is no core, and a manifest that does not hold or speaks of another model, is refused', async t => {
  const { models } = (await bench(t)).data
  const put = (core: Uint8Array, words?: Uint8Array) =>
    models.put({ core, manifest: words, file: undefined, isShared: false })
  assert.equal(put(model.core.subarray(1)), undefined)
  assert.equal(put(model.core, manifest.subarray(1)), undefined)
  const broken = manifest.slice()
  broken[broken.length - 1] = (broken.at(-1) ?? 0) ^ 1
  assert.equal(put(model.core, broken), undefined)
  assert.equal(put(model.core, await signManifest(alice.signer, manifestOf(model, { layerCount: 9 }))), undefined)
  assert.equal(put(model.core, await signEnvelope(alice.signer, 'koinon/model-vote/1', new Uint8Array(3))), undefined)
  assert.deepEqual(models.list(), [])
})

test('a damaged model counts as none; a damaged manifest leaves its model', async t => {
  const b = await bench(t)
  b.data.models.put({ core: model.core, manifest, file: undefined, isShared: true })
  b.sql(`UPDATE models SET manifest = x'00'`)
  assert.equal(b.data.models.find(model.id)?.manifest, undefined)
  assert.equal(b.data.models.list().length, 1)
  b.sql(`UPDATE models SET core = x'00'`)
  assert.equal(b.data.models.find(model.id), undefined)
  assert.deepEqual(b.data.models.list(), [])
})

test('a node that knows as many models as it may says so, and forgets none', async t => {
  const b = await bench(t)
  b.sql(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${KNOWN_MODELS_MAX})
    INSERT INTO models (id, core, manifest, file, shared, added_at) SELECT printf('%064d', i), x'00', NULL, NULL, 0, i FROM n`)
  const put = () => b.data.models.put({ core: model.core, file: undefined, isShared: false })
  assert.throws(put, { code: 'STORAGE_MODELS_FULL' })
  assert.equal(b.data.models.find(model.id), undefined)
  b.data.models.remove('1'.padStart(64, '0'))
  assert.equal(put()?.id, model.id)
})

test('one voter has one vote on a model, the newest, whatever order they come in', async t => {
  const b = await bench(t)
  const put = async (vote: ModelVote, signer = alice.signer) => b.data.votes.put(await signVote(signer, vote))
  assert.equal((await put(voteOf({ sequence: 5 })))?.voter, alice.peer)
  assert.equal(await put(voteOf({ sequence: 5, isTrusted: false })), undefined)
  assert.equal(await put(voteOf({ sequence: 4, isTrusted: false, at: NOW + 5 })), undefined)
  assert.ok(await put(voteOf({ sequence: 6, isTrusted: false, comment: '' })))
  assert.ok(await put(voteOf(), bob.signer))
  await b.reopen()
  assert.deepEqual(b.data.votes.count(model.id), { trusted: 1, distrusted: 1 })
  assert.equal(b.data.votes.sequenceOf(model.id, alice.peer), 6)
  assert.equal(b.data.votes.sequenceOf('0'.repeat(64), alice.peer), undefined)
  const [first] = b.data.votes.of(model.id).filter(({ voter }) => voter === alice.peer)
  assert.deepEqual(first?.vote, voteOf({ sequence: 6, isTrusted: false, comment: '' }))
  assert.equal(b.data.votes.put(new Uint8Array(2_000)), undefined)
  assert.equal(b.data.votes.put(manifest), undefined)
})

test('a vote from the future keeps no later one out', async t => {
  const b = await bench(t)
  b.data.votes.put(await signVote(alice.signer, voteOf({ at: 2 ** 50 })))
  b.clock.advance(10)
  b.data.votes.put(await signVote(bob.signer, voteOf({ at: NOW + 10 })))
  assert.deepEqual(
    b.data.votes.of(model.id).map(({ voter }) => voter),
    [bob.peer, alice.peer],
  )
})

test('votes on one model are bounded, the oldest go first', async t => {
  const b = await bench(t)
  b.sql(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${VOTES_PER_MODEL_MAX})
    INSERT INTO model_votes SELECT '${model.id}', 'v' || i, 0, i, x'00' FROM n`)
  assert.ok(b.data.votes.put(await signVote(alice.signer, voteOf())))
  assert.deepEqual(b.data.votes.count(model.id), { trusted: 1, distrusted: VOTES_PER_MODEL_MAX - 1 })
  // What is damaged is not shown.
  assert.equal(b.data.votes.of(model.id).length, 1)
  assert.equal(
    b.data.votes.put(await signVote(bob.signer, voteOf({ at: 0 }))),
    undefined,
    'older than all that are kept',
  )
  const voters = Array.from({ length: VOTES_SHOWN_MAX + 1 }, (_, n) => keyOf(100 + n))
  for (const { signer } of voters) b.data.votes.put(await signVote(signer, voteOf()))
  assert.equal(b.data.votes.of(model.id).length, VOTES_SHOWN_MAX)
})

test("a peer's votes go with it to its new key, and the old key says nothing more", async t => {
  const b = await bench(t)
  const { votes, peerKeys } = b.data
  const carol = keyOf(3)
  const other = '0'.repeat(64)
  votes.put(await signVote(alice.signer, voteOf({ sequence: 3 })))
  votes.put(await signVote(alice.signer, voteOf({ model: other, sequence: 3 })))
  votes.put(await signVote(carol.signer, voteOf({ model: other, isTrusted: false })))
  assert.ok(peerKeys.record({ from: alice.peer, to: carol.peer, bytes: new Uint8Array(9), at: NOW }))
  assert.deepEqual(
    votes.of(model.id).map(({ voter, signer }) => [voter, signer]),
    [[carol.peer, alice.peer]],
  )
  assert.deepEqual(votes.count(other), { trusted: 0, distrusted: 1 })
  assert.equal(votes.sequenceOf(model.id, alice.peer), 3)
  assert.equal(votes.put(await signVote(alice.signer, voteOf({ sequence: 99, isTrusted: false }))), undefined)
  assert.ok(votes.put(await signVote(carol.signer, voteOf({ sequence: 1, isTrusted: false }))))
  assert.deepEqual(votes.count(model.id), { trusted: 0, distrusted: 1 })
  // One that nobody has heard of yet still counts as said by the voter.
  const third = await signVote(alice.signer, voteOf({ model: '1'.repeat(64) }))
  assert.equal(votes.put(third)?.voter, carol.peer)
})

test('a database of the version before gets the new tables', async t => {
  const b = await bench(t)
  b.sql('DROP TABLE models; DROP TABLE model_votes; PRAGMA user_version = 6')
  await b.reopen()
  assert.ok(b.data.models.put({ core: model.core, file: undefined, isShared: false }))
  assert.ok(b.data.votes.put(await signVote(alice.signer, voteOf())))
})
