/** Pulls, removals and ends that meet: two swarms in one process, the real store of the one that pulls, and what it does with it. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { Bitfield, seededRandom, silentLogger, systemClock, toHex } from '#base'
import { ed25519Signer } from '#crypto'
import { parseCore, wantedRanges } from '#formats'
import { openDataDir } from '#storage'
import { createSwarm } from '#swarm'
import { fullBlob, type MemoryBlob } from '../../../test/support/memory-blobs.ts'
import { smallModel } from '../../../test/support/model-core.ts'
import { startSwarm, swarmNetwork } from '../../../test/support/swarm-hosts.ts'
import type { TestModel } from '../../../test/support/swarm-models.ts'
import { ownPiecesOf, Shelf } from './shelf.ts'
import { Weights, type WeightsDeps } from './weights.ts'

const SEED = Number(process.env['SEED'] ?? Math.floor(performance.timeOrigin) % 1e6)
const { signal } = new AbortController()
const options = { signal, onProgress: () => undefined }

/** A true model with tensors of a little over 1 MiB. */
async function modelOf(layers: number): Promise<TestModel> {
  const { id, core, bytes, pieces: tree, leaves } = await smallModel(layers, 2 ** 20)
  const own = new Uint8Array(core)
  const root = parseCore(own).files[0]?.root ?? new Uint8Array(32)
  return { id, core: own, bytes, root, hashed: { tree, leaves } }
}

const small = await modelOf(8)
const other = await modelOf(9)

type Trial = Parameters<WeightsDeps['tryModel']>[0]

/** A node that pulls, and one that has everything. `tryModel`: what a trial does. */
async function bench(
  t: TestContext,
  { tryModel = () => Promise.resolve(), blobQuotaBytes }: Partial<BenchOptions> = {},
) {
  t.diagnostic(`seed ${SEED}`)
  const path = await mkdtemp(join(tmpdir(), 'koinon-pulls-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  const random = seededRandom(SEED)
  const network = swarmNetwork()
  const seeder = startSwarm(t, { host: { ...network.host('seeder'), clock: systemClock }, seed: SEED })
  const seeds = [small, other].map(model => fullBlob(model))
  for (const [at, model] of [small, other].entries()) {
    const blob = seeds[at]
    if (blob !== undefined) seeder.swarm.share({ core: model.core, blob })
  }
  const deps = { clock: systemClock, random }
  const quota = blobQuotaBytes === undefined ? {} : { blobQuotaBytes }
  const data = await openDataDir(join(path, 'data'), deps, quota)
  t.after(() => data.close())
  const blobs = await data.blobs()
  const host = network.host('puller')
  const swarm = createSwarm({
    ...deps,
    log: silentLogger,
    host,
    blobs,
    onBlame: () => undefined,
    isBanned: () => false,
  })
  swarm.start()
  t.after(() => swarm.stop())
  const trials: Trial[] = []
  const shelf = new Shelf({ log: silentLogger, models: data.models, blobs })
  const weights = new Weights({
    clock: systemClock,
    log: silentLogger,
    shelf,
    swarm,
    stores: { models: data.models, votes: data.votes, blobs },
    signer: ed25519Signer(random.bytes(32)),
    self: () => 'puller',
    lookUp: async function* () {},
    connect: () => Promise.reject(new Error('nobody is dialled')),
    origins: { find: () => Promise.resolve([]), suggested: () => [] } as unknown as WeightsDeps['origins'],
    measure: () => Promise.reject(new Error('nothing is measured')),
    tryModel: async task => {
      trials.push(task)
      await tryModel(task)
    },
    onShared: () => undefined,
    hasBitTorrent: false,
    sharesByDefault: true,
  })
  t.after(() => weights.stop())
  return { path, data, blobs, swarm, shelf, weights, trials, seeds }
}

type BenchOptions = {
  readonly tryModel: (task: Trial) => Promise<void>
  readonly blobQuotaBytes: number
}

/** Reads of what a seeder has wait until they are let go. */
function holdReads(blob: MemoryBlob | undefined): () => void {
  assert.ok(blob !== undefined)
  const { promise, resolve } = Promise.withResolvers<void>()
  const read = blob.read.bind(blob)
  blob.read = async (...span) => {
    await promise
    return read(...span)
  }
  return resolve
}

function layers(first: number, last: number) {
  return { layers: { first, last }, edges: false }
}

test('pulls of one model at once, and of two, end with all of it; what both wanted is tried once', async t => {
  const { weights, shelf, trials, blobs } = await bench(t)
  const ends = await Promise.all([
    weights.pull({ model: small.id }, options),
    weights.pull({ model: small.id }, options),
    weights.pull({ model: small.id, layers: { first: 2, last: 4 } }, options),
    weights.pull({ model: other.id }, options),
  ])
  assert.deepEqual(
    ends.map(({ model }) => model),
    [small.id, small.id, small.id, other.id],
  )
  for (const model of [small, other]) assert.equal(shelf.find(model.id).blob.has.isFull, true)
  const tried = trials.filter(({ file }) => file === shelf.find(small.id).blob.path)
  assert.ok(tried.length <= 2, 'what was tried is not tried again')
  assert.equal(blobs.usage().pinnedBytes, 0)
})

test('trials run one after another, and nothing that is tried gives way to what comes meanwhile', async t => {
  let running = 0
  const seen: number[] = []
  const held = Promise.withResolvers<void>()
  const { weights, blobs, shelf } = await bench(t, {
    blobQuotaBytes: other.bytes.byteLength + 4096,
    tryModel: async () => {
      seen.push(++running)
      await held.promise
      running--
    },
  })
  const first = weights.pull({ model: small.id }, options)
  while (seen.length === 0) await new Promise(resolve => void setImmediate(resolve))
  await assert.rejects(weights.pull({ model: other.id }, options), { code: 'SWARM_DISK_FULL' })
  assert.equal(shelf.find(small.id).blob.has.isFull, true)
  assert.equal(await blobs.makeRoom(other.bytes.byteLength), false)
  held.resolve()
  await first
  // Now it may go.
  await weights.pull({ model: other.id }, options)
  assert.deepEqual([seen, shelf.find(other.id).blob.has.isFull], [[1, 1], true])
})

test('what failed its trial does not stay, also where it was to be served', async t => {
  const { weights, shelf, blobs } = await bench(t, { tryModel: () => Promise.reject(new Error('it is bad')) })
  await assert.rejects(weights.pull({ model: small.id }, options), /it is bad/)
  assert.equal(shelf.find(small.id).blob.has.isEmpty, true)
  await assert.rejects(weights.provide({ id: small.id, parts: layers(0, 4) }, options), /it is bad/)
  assert.deepEqual([shelf.find(small.id).blob.has.isEmpty, blobs.usage().pinnedBytes], [true, 0])
})

test('a model that is being fetched is not removed; what is being removed is not put back', async t => {
  const { weights, shelf, data, seeds } = await bench(t)
  const letGo = holdReads(seeds[0])
  const pulling = weights.pull({ model: small.id }, options)
  while (shelf.get(small.id) === undefined) await new Promise(resolve => void setImmediate(resolve))
  await assert.rejects(weights.remove(small.id), { code: 'NODE_MODEL_IN_USE' })
  letGo()
  await pulling
  const [freed, again] = await Promise.all([weights.remove(small.id), weights.pull({ model: small.id }, options)])
  assert.ok(freed > 0)
  assert.equal(again.hadBytes, 0, 'it was removed first, and came anew')
  assert.equal(data.models.find(small.id)?.id, shelf.get(small.id)?.known.id)
  assert.equal(shelf.find(small.id).blob.has.isFull, true)
})

test('what its owner says while it is being fetched holds afterwards', async t => {
  const { weights, shelf, swarm, seeds } = await bench(t)
  const letGo = holdReads(seeds[0])
  const pulling = weights.pull({ model: small.id }, options)
  while (!swarm.facts().some(({ isShared }) => isShared)) await new Promise(resolve => void setImmediate(resolve))
  await weights.share(small.id, false)
  letGo()
  await pulling
  assert.deepEqual([shelf.find(small.id).known.isShared, swarm.facts()], [false, []])
  // By another name of it, which does not say that it is known here.
  const infoHash = toHex(shelf.find(small.id).torrent.infoHash)
  await weights.pull({ model: `magnet:?xt=urn:btmh:1220${infoHash}` }, options)
  assert.equal(shelf.find(small.id).known.isShared, false)
})

test('a node that stops ends pulls and trials; what was verified stays', async t => {
  for (const phase of ['pulling', 'checking']) {
    const started = Promise.withResolvers<void>()
    const { weights, shelf, seeds } = await bench(t, {
      tryModel: ({ signal }) => {
        started.resolve()
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error))
        })
      },
    })
    const letGo = phase === 'pulling' ? holdReads(seeds[0]) : () => undefined
    const pulling = weights.pull(
      { model: small.id },
      { ...options, onProgress: () => phase === 'pulling' && started.resolve() },
    )
    const refused = assert.rejects(pulling, { code: 'NODE_STOPPED' })
    await started.promise
    await weights.stop()
    await refused
    letGo()
    if (phase === 'checking') assert.equal(shelf.find(small.id).blob.has.isFull, true)
    await assert.rejects(weights.pull({ model: small.id }, options), { code: 'NODE_STOPPED' })
  }
})

test('a file of the owner’s takes the place of what was fetched, and is what peers get from then on', async t => {
  const { weights, shelf, swarm, path } = await bench(t)
  await weights.pull({ model: small.id }, options)
  const before = shelf.find(small.id).blob
  const file = join(path, 'own.gguf')
  await writeFile(file, small.bytes)
  await weights.adopt({ path: file, core: small.core, hashed: small.hashed })
  assert.notEqual(shelf.find(small.id).blob, before)
  assert.equal(swarm.facts()[0]?.heldBytes, small.bytes.byteLength)
})

test('other layers: those of before stay until the new ones are here, and go only where both do not fit', async t => {
  const pieces = (model: Shelf, range: ReturnType<typeof layers>) => {
    const shelved = model.find(small.id)
    return ownPiecesOf(shelved, wantedRanges(shelved.core, range))
  }
  const roomy = await bench(t)
  await roomy.weights.pull({ model: small.id, layers: { first: 0, last: 4 } }, options)
  await roomy.weights.provide({ id: small.id, parts: layers(0, 4) }, options)
  const letGo = holdReads(roomy.seeds[0])
  const changing = roomy.weights.provide({ id: small.id, parts: layers(4, 8) }, options)
  const old = pieces(roomy.shelf, layers(0, 4))
  const { blob } = roomy.shelf.find(small.id)
  assert.equal(await blob.drop(old), 0, 'they are pinned')
  letGo()
  await changing
  assert.equal(blob.has.contains(pieces(roomy.shelf, layers(4, 8))), true)
  assert.ok((await blob.drop(old)) > 0)
  assert.equal(blob.has.contains(pieces(roomy.shelf, layers(4, 8))), true)

  const tight = await bench(t, { blobQuotaBytes: 6 * 2 ** 20 })
  await tight.weights.pull({ model: small.id, layers: { first: 0, last: 4 } }, options)
  await tight.weights.provide({ id: small.id, parts: layers(0, 4) }, options)
  const held = tight.shelf.find(small.id).blob
  // They would not fit whatever goes: nothing does.
  await assert.rejects(tight.weights.provide({ id: small.id, parts: layers(0, 8) }, options), {
    code: 'NODE_QUOTA_FULL',
  })
  assert.equal(held.has.contains(pieces(tight.shelf, layers(0, 4))), true)
  assert.equal(await held.drop(Bitfield.full(held.pieceCount)), 0, 'they are pinned as before')
  await tight.weights.provide({ id: small.id, parts: layers(4, 8) }, options)
  assert.equal(held.has.contains(pieces(tight.shelf, layers(4, 8))), true)
  await assert.rejects(tight.weights.remove(small.id), { code: 'NODE_MODEL_IN_USE' })
})

test('layers that nobody has cost none of those that are here', async t => {
  const { weights, shelf, seeds } = await bench(t, { blobQuotaBytes: 6 * 2 ** 20 })
  await weights.pull({ model: small.id, layers: { first: 0, last: 4 } }, options)
  await weights.provide({ id: small.id, parts: layers(0, 4) }, options)
  const { blob } = shelf.find(small.id)
  const before = blob.has.count
  const letGo = holdReads(seeds[0])
  const abort = new AbortController()
  const onProgress = (): void => abort.abort(new Error('given up'))
  const provided = weights.provide({ id: small.id, parts: layers(4, 8) }, { signal: abort.signal, onProgress })
  await assert.rejects(provided, /given up/)
  assert.equal(blob.has.count, before)
  letGo()
})
