/** What a node does about models, with the real stores in a directory of their own; the swarm does what the test says. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { Bitfield, KoinonError, ManualClock, seededRandom, silentLogger } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { parseCore } from '#formats'
import { openDataDir, openFileSource } from '#storage'
import type { PullOptions, Swarm } from '#swarm'
import { signVote } from '#protocol'
import { smallModel } from '../../../test/support/model-core.ts'
import { assertUnchanged, openKeptModel } from '../model-library.ts'
import { Shelf } from './shelf.ts'
import { peerAddressOf, withoutBitTorrent } from './subject.ts'
import { Weights, type WeightsDeps } from './weights.ts'

const model = await smallModel()
const other = await smallModel(3)
const { signal } = new AbortController()
const options = { signal, onProgress: () => undefined }

async function bench(t: TestContext) {
  const path = await mkdtemp(join(tmpdir(), 'koinon-weights-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  const clock = new ManualClock(1_700_000_000_000)
  const data = await openDataDir(join(path, 'data'), { clock, random: seededRandom(1) })
  t.after(() => data.close())
  const blobs = await data.blobs()
  const signer = ed25519Signer(seededRandom(2).bytes(32))
  const shared = new Set<string>()
  const pulls: PullOptions[] = []
  const changed: string[] = []
  const swarm = {
    share: ({ core }: { readonly core: Uint8Array }) => void shared.add(parseCore(core).id),
    unshare: (id: string) => void shared.delete(id),
    votesChanged: (id: string) => void changed.push(id),
    facts: () => [],
    pull: (asked: PullOptions) => {
      pulls.push(asked)
      return Promise.reject(new Error('nobody is there'))
    },
  }
  const shelf = new Shelf({ log: silentLogger, models: data.models, blobs })
  const weights = new Weights({
    clock,
    log: silentLogger,
    shelf,
    swarm: swarm as unknown as Swarm,
    stores: { models: data.models, votes: data.votes, blobs },
    signer,
    self: () => peerOfPublicKey(signer.publicKey),
    origins: { find: () => Promise.resolve([]), suggested: () => [] } as unknown as WeightsDeps['origins'],
    onShared: () => undefined,
    sharesByDefault: true,
  } as unknown as WeightsDeps)
  const file = join(path, 'small.gguf')
  await writeFile(file, model.bytes)
  return { path, file, data, blobs, shelf, weights, shared, pulls, changed }
}

test('a model is found by id, by the beginning of its id and by name; a file that was changed is no part of it', async t => {
  const { file, shelf, data, blobs } = await bench(t)
  const hashed = { tree: model.pieces, leaves: model.leaves }
  await shelf.put({ core: model.core, file: { path: file, hashed }, isShared: true })
  assert.equal(shelf.find(model.id.slice(0, 12)).known.id, model.id)
  assert.equal(shelf.find(model.id.toUpperCase()).blob.has.isFull, true)
  assert.throws(() => shelf.find('another'), { code: 'NODE_MODEL_UNKNOWN' })
  await writeFile(file, new Uint8Array(model.bytes.byteLength))
  // Within one tick of the system's clock the times of the file would be as they were.
  await utimes(file, 1, 1)
  const next = new Shelf({ log: silentLogger, models: data.models, blobs })
  await next.load()
  assert.equal(next.get(model.id)?.blob.has.isEmpty, true)
})

test('a model that is being pulled is not removed, and stays as it was', async t => {
  const { shelf, weights, shared, blobs } = await bench(t)
  const { blob } = await shelf.put({ core: model.core, isShared: true })
  await weights.start()
  const unpin = blob.pin(Bitfield.full(blob.pieceCount))
  await assert.rejects(weights.remove(model.id), { code: 'STORAGE_BLOB_PINNED' })
  assert.deepEqual([shared.has(model.id), shelf.get(model.id)?.known.id], [true, model.id])
  unpin()
  await weights.remove(model.id)
  assert.deepEqual([shared.has(model.id), shelf.list().length, blobs.list().length], [false, 0, 0])
})

test('what its owner does not share is not shared by a pull; a pull that fails leaves no pins', async t => {
  const { shelf, weights, shared, pulls } = await bench(t)
  await shelf.put({ core: model.core, isShared: false })
  await assert.rejects(weights.pull({ model: model.id }, options), /nobody is there/)
  assert.equal(pulls[0]?.isShared, false)
  const provision = { id: model.id, parts: { edges: true } }
  await assert.rejects(weights.provide(provision, options), /nobody is there/)
  assert.equal(shared.size, 0)
  await weights.remove(model.id)
})

test('votes: our own and those of others are told to peers, once', async t => {
  const { shelf, weights, changed } = await bench(t)
  await shelf.put({ core: model.core, isShared: true })
  await weights.vote(model.id, { isTrusted: true, comment: '' })
  const bob = ed25519Signer(seededRandom(3).bytes(32))
  const vote = await signVote(bob, {
    model: model.id,
    isTrusted: false,
    comment: '',
    sequence: 1,
    at: 1_700_000_000_000,
  })
  weights.takeVotes(model.id, [vote, new Uint8Array(3)])
  weights.takeVotes(model.id, [vote])
  assert.deepEqual(changed, [model.id, model.id])
  assert.equal(weights.details(model.id).votes.length, 2)
})

test('a core that lies about the header of its file is refused; so is a file that was changed meanwhile', async t => {
  const { file, shelf } = await bench(t)
  const kept = await shelf.put({
    core: model.core,
    file: { path: file, hashed: { tree: model.pieces, leaves: model.leaves } },
    isShared: true,
  })
  const lie = { ...kept, core: parseCore(other.core) }
  await assert.rejects(openKeptModel(lie, { contextMax: undefined }), { code: 'NODE_MODEL_INVALID' })
  const source = await openFileSource(file)
  const { stamp } = source
  await source.close()
  await assertUnchanged({ stamp })
  await utimes(file, 1, 1)
  await assert.rejects(assertUnchanged({ stamp }), { code: 'NODE_MODEL_CHANGED' })
})

test('addresses: BitTorrent hosts, IPv6 among them, and nodes', async () => {
  const connect = (): Promise<string> => Promise.resolve('peer')
  assert.deepEqual(await peerAddressOf('bt:[2001:db8::1]:6881', connect), {
    kind: 'bittorrent',
    host: '2001:db8::1',
    port: 6881,
  })
  assert.equal((await peerAddressOf('/ip4/127.0.0.1/tcp/1', connect)).kind, 'koinon')
  for (const text of ['bt:host:0', 'bt:host:65536', 'bt:2001:db8::1:6881', 'nonsense'])
    await assert.rejects(peerAddressOf(text, connect), { code: 'NODE_ADDRESS_INVALID' })
})

test('who pulls by a magnet link or a torrent and finds nobody hears that BitTorrent clients were not asked', () => {
  const nobody = new KoinonError({ code: 'SWARM_NO_PEERS' }, 'nobody was found')
  const magnet = { model: `magnet:?xt=urn:btmh:1220${'ab'.repeat(32)}` }
  for (const request of [magnet, { model: 'x.torrent', torrent: 'ZGU=' }]) {
    const told = withoutBitTorrent(nobody, request)
    assert.ok(told instanceof KoinonError && told.code === 'NODE_BITTORRENT_OFF')
    assert.match(told.message, /^nobody was found; .*koinon up --bittorrent/)
  }
  assert.equal(withoutBitTorrent(nobody, { model: 'ab'.repeat(32) }), nobody)
  const full = new KoinonError({ code: 'SWARM_DISK_FULL' }, 'full')
  assert.equal(withoutBitTorrent(full, magnet), full)
})
