/** Whole swarms in one process: what is pulled is what was shared, from one and from many. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sleep } from '#base'
import { PIECE_BYTES } from '#formats'
import { fullBlob, type MemoryBlob } from '../../test/support/memory-blobs.ts'
import { startSwarm, type SwarmNode, swarmNetwork } from '../../test/support/swarm-hosts.ts'
import { testModel, type TestModel } from '../../test/support/swarm-models.ts'
import { FIND_INTERVAL_MS } from './limits.ts'
import type { Origin } from './types.ts'

const SEED = Number(process.env['SEED'] ?? Math.floor(performance.timeOrigin) % 1e6)
const MIB = 2 ** 20
const { signal } = new AbortController()
const never = { signal }

function blobOf(node: SwarmNode): MemoryBlob {
  const [blob] = node.blobs.all.values()
  assert.ok(blob !== undefined)
  return blob
}

/** Pieces of the model's file that a node has are the model's. */
function assertOnlyGood(node: SwarmNode, model: TestModel): void {
  const blob = blobOf(node)
  for (const piece of blob.has.numbers()) {
    const [from, end] = [piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES]
    assert.deepEqual(blob.bytes.subarray(from, end), model.bytes.subarray(from, end))
  }
}

test('a model comes whole from one who shares it, known by its id alone', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 5 * MIB + 4096 + 32)
  const network = swarmNetwork()
  const [a, b] = [
    startSwarm(t, { host: network.host('a'), seed: SEED }),
    startSwarm(t, { host: network.host('b'), seed: SEED }),
  ]
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  const phases = new Set<string>()
  const onProgress = ({ phase }: { readonly phase: string }): void => void phases.add(phase)
  const result = await network.pass(b.swarm.pull({ subject: { model: model.id }, wanted: 'all', onProgress, ...never }))
  assert.deepEqual(result.core, model.core)
  assert.deepEqual(blobOf(b).bytes, model.bytes)
  assert.equal(result.wastedBytes, 0)
  assert.deepEqual(result.from, [{ name: 'a', bytes: model.bytes.byteLength }])
  assert.deepEqual([...phases], ['manifest', 'pulling'])
  assert.deepEqual(b.swarm.facts(), [])
})

test('a model of one short piece comes too', async t => {
  t.diagnostic(`seed ${SEED}`)
  for (const size of [8192 + 32, 16 * 1024, 40 * 1024, PIECE_BYTES]) {
    const model = await testModel(SEED, size)
    const network = swarmNetwork()
    const [a, b] = [
      startSwarm(t, { host: network.host('a'), seed: SEED }),
      startSwarm(t, { host: network.host('b'), seed: SEED }),
    ]
    a.swarm.share({ core: model.core, blob: fullBlob(model) })
    await network.pass(b.swarm.pull({ subject: { model: model.id }, wanted: 'all', ...never }))
    assert.deepEqual(blobOf(b).bytes, model.bytes)
  }
})

test('three who pull ranges that overlap end with these ranges only, and give one another what they have', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 24 * MIB)
  const network = swarmNetwork()
  const nodes = ['a', 'b', 'c', 'd'].map(id => startSwarm(t, { host: network.host(id), seed: SEED + id.charCodeAt(0) }))
  const [seed, ...pullers] = nodes
  seed?.swarm.share({ core: model.core, blob: fullBlob(model) })
  const ranges = [
    { offset: 0, length: 12 * MIB },
    { offset: 8 * MIB, length: 8 * MIB },
    { offset: 16 * MIB, length: 8 * MIB },
  ]
  const results = await network.pass(
    Promise.all(
      pullers.map((node, at) =>
        node.swarm.pull({ subject: { model: model.id }, wanted: ranges.slice(at, at + 1), isShared: true, ...never }),
      ),
    ),
  )
  let received = 0
  let wanted = 0
  for (const [at, result] of results.entries()) {
    const node = pullers[at]
    assert.ok(node !== undefined)
    assertOnlyGood(node, model)
    assert.equal(blobOf(node).has.count * MIB, ranges[at]?.length)
    received += result.receivedBytes
    wanted += result.wantedBytes
    assert.deepEqual(node.blamed, [])
  }
  assert.ok(received <= wanted * 1.02, `${received} bytes came for ${wanted}`)
})

test('a pull goes on with seeds that come later, and with what is shared later', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 8 * MIB)
  const network = swarmNetwork()
  const a = startSwarm(t, { host: network.host('a'), seed: SEED })
  const b = startSwarm(t, { host: network.host('b'), seed: SEED })
  a.swarm.share({ core: model.core, blob: fullBlob(model, [0, 1, 2]) })
  const pull = b.swarm.pull({ subject: { model: model.id }, wanted: 'all', ...never })
  await network.until(() => b.blobs.all.size > 0 && blobOf(b).has.count >= 3)
  assert.equal(blobOf(b).has.count, 3)
  const c = startSwarm(t, { host: network.host('c'), seed: SEED })
  c.swarm.share({ core: model.core, blob: fullBlob(model, [3, 4, 5, 6, 7]) })
  await network.pass(pull)
  assert.deepEqual(blobOf(b).bytes, model.bytes)
})

test('whoever comes while nobody has told what the model is is asked at once', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 2 * MIB)
  const network = swarmNetwork()
  const b = startSwarm(t, { host: network.host('b'), seed: SEED })
  const pull = b.swarm.pull({ subject: { model: model.id }, wanted: 'all', ...never })
  const begun = network.clock.monotonic()
  await network.until(() => network.clock.monotonic() > begun + 1_000)
  const a = startSwarm(t, { host: network.host('a'), seed: SEED })
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  await network.pass(pull)
  assert.ok(network.clock.monotonic() < begun + FIND_INTERVAL_MS, 'it was not for the next search to find it')
  assert.deepEqual(blobOf(b).bytes, model.bytes)
})

test('pulls of one model at once are one download, and what is here is not fetched again', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 8 * MIB)
  const network = swarmNetwork()
  const [a, b] = [
    startSwarm(t, { host: network.host('a'), seed: SEED }),
    startSwarm(t, { host: network.host('b'), seed: SEED }),
  ]
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  const subject = { model: model.id }
  const half = [{ offset: 0, length: 4 * MIB }]
  await network.pass(
    Promise.all([b.swarm.pull({ subject, wanted: half, ...never }), b.swarm.pull({ subject, wanted: half, ...never })]),
  )
  assert.equal(blobOf(b).writtenBlocks, 4 * 64)
  assert.equal(network.streams.size, 2, 'one about what it is, one for the pieces')
  const rest = await network.pass(b.swarm.pull({ subject, wanted: 'all', ...never }))
  assert.deepEqual([rest.hadBytes, rest.receivedBytes], [4 * MIB, 4 * MIB])
  const nothing = await network.pass(b.swarm.pull({ subject: { core: model.core }, wanted: 'all', ...never }))
  assert.deepEqual([nothing.hadBytes, nothing.receivedBytes], [8 * MIB, 0])
})

test('a pull that is aborted keeps what is there, and the next goes on', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 16 * MIB)
  const network = swarmNetwork()
  const a = startSwarm(t, { host: network.host('a'), seed: SEED, rates: { up: 8 * MIB } })
  const b = startSwarm(t, { host: network.host('b'), seed: SEED })
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  const abort = new AbortController()
  const options = { subject: { model: model.id }, wanted: 'all' } as const
  const onProgress = ({ doneBytes }: { readonly doneBytes: number }): void => {
    if (doneBytes > 0) abort.abort(new Error('enough'))
  }
  await assert.rejects(network.pass(b.swarm.pull({ ...options, onProgress, signal: abort.signal })), /enough/)
  const had = blobOf(b).has.count
  assert.ok(had > 0 && had < 16)
  a.swarm.setRates({})
  const result = await network.pass(b.swarm.pull({ ...options, ...never }))
  assert.ok(result.hadBytes >= had * MIB)
  assert.deepEqual(blobOf(b).bytes, model.bytes)
})

test('a full disk ends the pull with what is missing; with room the next one goes on', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 8 * MIB)
  const network = swarmNetwork()
  const [a, b] = [
    startSwarm(t, { host: network.host('a'), seed: SEED }),
    startSwarm(t, { host: network.host('b'), seed: SEED }),
  ]
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  const blob = (await b.blobs.open({ root: model.root, length: model.bytes.byteLength })) as MemoryBlob
  blob.roomBytes = 3.5 * MIB
  const options = { subject: { model: model.id }, wanted: 'all', ...never } as const
  await assert.rejects(
    network.pass(b.swarm.pull(options)),
    (error: { code?: string; fault?: { neededBytes?: number } }) => {
      assert.equal(error.code, 'SWARM_DISK_FULL')
      assert.ok((error.fault?.neededBytes ?? 0) >= 4 * MIB)
      return true
    },
  )
  assertOnlyGood(b, model)
  blob.roomBytes = Number.POSITIVE_INFINITY
  await network.pass(b.swarm.pull(options))
  assert.deepEqual(blob.bytes, model.bytes)
})

test('without peers, and without somebody who has a piece, a pull fails and says so', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 4 * MIB)
  const network = swarmNetwork()
  const waits = { noPeersMs: 200, piecesMissingMs: 200 }
  const b = startSwarm(t, { host: network.host('b'), seed: SEED, ...waits })
  await assert.rejects(network.pass(b.swarm.pull({ subject: { model: model.id }, wanted: 'all', ...never })), {
    code: 'SWARM_NO_PEERS',
  })
  await assert.rejects(network.pass(b.swarm.pull({ subject: { core: model.core }, wanted: 'all', ...never })), {
    code: 'SWARM_NO_PEERS',
  })
  const a = startSwarm(t, { host: network.host('a'), seed: SEED })
  a.swarm.share({ core: model.core, blob: fullBlob(model, [0, 2]) })
  await assert.rejects(network.pass(b.swarm.pull({ subject: { core: model.core }, wanted: 'all', ...never })), {
    fault: { code: 'SWARM_PIECES_MISSING', pieces: 2 },
  })
  assert.equal(blobOf(b).has.count, 2)
})

test('rates hold over all transfers together, and can be changed meanwhile', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 8 * MIB)
  const network = swarmNetwork()
  const a = startSwarm(t, { host: network.host('a'), seed: SEED, rates: { up: 4 * MIB } })
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  const pullers = ['b', 'c'].map(id => startSwarm(t, { host: network.host(id), seed: SEED }))
  const startedAt = network.clock.monotonic()
  const pulls = pullers.map(({ swarm }, at) =>
    swarm.pull({ subject: { model: model.id }, wanted: [{ offset: at * 4 * MIB, length: 4 * MIB }], ...never }),
  )
  let rate = 4 * MIB
  let allowed = 0
  let sampledAt = startedAt
  await network.pass(Promise.all(pulls), () => {
    const now = network.clock.monotonic()
    allowed += (rate * (now - sampledAt)) / 1000
    sampledAt = now
    const uploaded = a.swarm.facts()[0]?.uploadedBytes ?? 0
    // What may go at once, and what the last request went over it.
    assert.ok(uploaded <= allowed + 2 * MIB, `${uploaded} bytes where ${allowed} were allowed`)
    if (rate === MIB || uploaded < 5 * MIB) return
    rate = MIB
    a.swarm.setRates({ up: rate })
    allowed = uploaded
  })
  const seconds = (network.clock.monotonic() - startedAt) / 1000
  assert.ok(seconds >= (3 * MIB) / (4 * MIB) + 1, `${seconds} s`)
})

test('streams that are lost are opened again, and nothing is lost with them', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 12 * MIB)
  const network = swarmNetwork()
  const a = startSwarm(t, { host: network.host('a'), seed: SEED, rates: { up: 8 * MIB } })
  const b = startSwarm(t, { host: network.host('b'), seed: SEED })
  a.swarm.share({ core: model.core, blob: fullBlob(model) })
  const pull = b.swarm.pull({ subject: { model: model.id }, wanted: 'all', ...never })
  await network.until(() => (a.swarm.facts()[0]?.uploadedBytes ?? 0) > 2 * MIB)
  for (const { cut } of network.streams) cut()
  await network.pass(pull)
  assert.deepEqual(blobOf(b).bytes, model.bytes)
  assert.deepEqual([...a.blamed, ...b.blamed], [])
})

test('origins and peers give together; an origin that lies, or fails time and again, is given up', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 12 * MIB)
  const network = swarmNetwork()
  const [a, b] = [
    startSwarm(t, { host: network.host('a'), seed: SEED }),
    startSwarm(t, { host: network.host('b'), seed: SEED }),
  ]
  a.swarm.share({ core: model.core, blob: fullBlob(model, [0, 1]) })
  const closed: string[] = []
  const origin = (name: string, give: (bytes: Uint8Array) => Uint8Array): Origin => ({
    kind: 'folder',
    name,
    parallel: 2,
    fetch: async function* ({ offset, length }) {
      await sleep(network.clock, 1)
      for (let at = offset; at < offset + length; at += 100_000) {
        yield give(model.bytes.slice(at, Math.min(at + 100_000, offset + length)))
      }
    },
    close: () => Promise.resolve(void closed.push(name)),
  })
  const failing = origin('failing', () => {
    throw new Error('it is broken')
  })
  const origins = [origin('good', bytes => bytes), origin('lying', bytes => bytes.fill(0)), failing]
  const result = await network.pass(b.swarm.pull({ subject: { model: model.id }, wanted: 'all', origins, ...never }))
  assert.deepEqual(blobOf(b).bytes, model.bytes)
  assert.ok(result.from.some(({ name }) => name === 'good'))
  assert.ok(!result.dropped.some(({ name }) => name === 'good'))
  assert.deepEqual([...new Set(closed)].sort(), ['failing', 'good', 'lying'])
  assert.deepEqual(
    b.blamed.filter(({ party }) => party === 'a'),
    [],
  )
})

test('an origin is read in the order of its file: it begins anywhere, and goes back to the start once', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 40 * MIB)
  const network = swarmNetwork()
  const [a, b] = [
    startSwarm(t, { host: network.host('a'), seed: SEED }),
    startSwarm(t, { host: network.host('b'), seed: SEED }),
  ]
  a.swarm.share({ core: model.core, blob: fullBlob(model, []) })
  let end: number | undefined
  const jumps: string[] = []
  const origin: Origin = {
    kind: 'folder',
    name: 'reader',
    parallel: 1,
    fetch: async function* ({ offset, length }) {
      if (end !== undefined && offset !== end) jumps.push(`from ${end} to ${offset}`)
      end = offset + length
      for (let at = offset; at < end; at += MIB / 2) {
        await sleep(network.clock, 10)
        yield model.bytes.slice(at, Math.min(at + MIB / 2, end))
      }
    },
    close: () => Promise.resolve(),
  }
  await network.pass(b.swarm.pull({ subject: { model: model.id }, wanted: 'all', origins: [origin], ...never }))
  assert.deepEqual(blobOf(b).bytes, model.bytes)
  assert.ok(jumps.length <= 1 && (jumps[0]?.endsWith(' to 0') ?? true), jumps.join(', '))
})

test('manifest and votes travel beside the pieces', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 2 * MIB)
  const network = swarmNetwork()
  const manifest = Uint8Array.of(1, 2, 3)
  const [a, b] = [
    startSwarm(t, { host: network.host('a'), seed: SEED }),
    startSwarm(t, { host: network.host('b'), seed: SEED }),
  ]
  a.votes.push(...Array.from({ length: 100 }, (_, at) => new Uint8Array(200).fill(at)))
  a.swarm.share({ core: model.core, manifest, blob: fullBlob(model) })
  const result = await network.pass(
    b.swarm.pull({ subject: { model: model.id }, wanted: 'all', isShared: true, ...never }),
  )
  assert.deepEqual(result.manifest, manifest)
  await network.until(() => b.votes.length >= 100)
  assert.deepEqual(b.votes, a.votes)
})

test('a vote that is made while a session runs reaches every peer that is connected', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 2 * MIB)
  const network = swarmNetwork()
  const nodes = ['a', 'b', 'c'].map(id => startSwarm(t, { host: network.host(id), seed: SEED }))
  const [a, b, c] = nodes
  assert.ok(a !== undefined && b !== undefined && c !== undefined)
  // Nobody has anything, so that the sessions stay.
  a.swarm.share({ core: model.core, blob: fullBlob(model, []) })
  const wanted = [{ offset: 0, length: MIB }]
  const abort = new AbortController()
  const pulls = [b, c].map(({ swarm }) => swarm.pull({ subject: { core: model.core }, wanted, signal: abort.signal }))
  await network.until(() => nodes.every(({ swarm }) => (swarm.facts()[0]?.peers.length ?? 0) >= 1))
  const vote = new Uint8Array(200).fill(7)
  a.votes.push(vote)
  a.swarm.votesChanged(model.id)
  await network.until(() => b.votes.length > 0 && c.votes.length > 0)
  assert.deepEqual([b.votes[0], c.votes[0]], [vote, vote])
  abort.abort(new Error('enough'))
  await network.pass(Promise.allSettled(pulls))
  assert.deepEqual([...a.blamed, ...b.blamed, ...c.blamed], [])
})
