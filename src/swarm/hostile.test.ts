/** Peers that do harm: the download completes, nothing bad is stored, and the blame falls on the guilty alone. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { type ByteStream, seededRandom, silentLogger } from '#base'
import { PROTOCOLS } from '#wire'
import { fullBlob, type MemoryBlob } from '../../test/support/memory-blobs.ts'
import { startSwarm, type SwarmNode, swarmNetwork, type SwarmNetwork } from '../../test/support/swarm-hosts.ts'
import { testModel, type TestModel } from '../../test/support/swarm-models.ts'
import { acceptPieces } from './wire/greeting.ts'
import type { PeerSession, ReceivedMessage } from './wire/types.ts'

const SEED = Number(process.env['SEED'] ?? Math.floor(performance.timeOrigin) % 1e6)
const MIB = 2 ** 20
const { signal } = new AbortController()

/** Two honest seeds, one puller. */
async function world(t: TestContext): Promise<{
  readonly model: TestModel
  readonly network: SwarmNetwork
  readonly pull: () => Promise<SwarmNode>
}> {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 12 * MIB)
  const network = swarmNetwork()
  for (const id of ['honest-1', 'honest-2']) {
    const seed = startSwarm(t, { host: network.host(id), seed: SEED, rates: { up: 12 * MIB } })
    seed.swarm.share({ core: model.core, blob: fullBlob(model) })
  }
  const pull = async (): Promise<SwarmNode> => {
    const node = startSwarm(t, { host: network.host('puller'), seed: SEED })
    await network.pass(node.swarm.pull({ subject: { core: model.core }, wanted: 'all', signal }))
    const [blob] = node.blobs.all.values()
    assert.deepEqual(blob?.bytes, model.bytes)
    return node
  }
  return { model, network, pull }
}

const guilty = (node: SwarmNode): string[] => [...new Set(node.blamed.map(({ party }) => party))]

/** A peer that answers the greeting about any model and then does what the test says. */
function scripted(
  network: SwarmNetwork,
  model: TestModel,
  script: (session: PeerSession, message: ReceivedMessage) => void,
): void {
  network.host('bad').handle(PROTOCOLS.pieces, async (stream: ByteStream) => {
    const says = { coreBytes: model.core.byteLength }
    const accepted = await acceptPieces({ clock: network.clock, logger: silentLogger }, stream, () => ({ says }))
    if ('blame' in accepted) return
    const { session } = accepted
    session.onMessage = message => script(session, message)
    session.start()
    session.send({ kind: 'have-all' })
    session.send({ kind: 'unchoke' })
  })
}

test('a peer that spoils one block in a hundred is left out, and none of these blocks is stored', async t => {
  const { model, network, pull } = await world(t)
  const blob: MemoryBlob = fullBlob(model)
  const random = seededRandom(SEED)
  let blocks = 0
  const read = blob.read.bind(blob)
  const bad = startSwarm(t, { host: network.host('bad'), seed: SEED })
  bad.swarm.share({
    core: model.core,
    blob: Object.assign(blob, {
      read: async (piece: number, offset: number, length: number) => {
        const bytes = await read(piece, offset, length)
        for (let at = 0; at < bytes.byteLength; at += 16_384) {
          // The first always: by chance alone it might be only blocks that another peer's came before.
          if (blocks++ > 0 && random.uint32() % 100 !== 0) continue
          bytes[at] = (bytes[at] ?? 0) ^ 1
        }
        return bytes
      },
    }),
  })
  const node = await pull()
  assert.deepEqual(guilty(node), ['bad'])
})

test('a peer that sends garbage behind the greeting is left out', async t => {
  const { network, pull } = await world(t)
  network.host('bad').handle(PROTOCOLS.pieces, stream => {
    stream.send(seededRandom(SEED).bytes(4096))
  })
  assert.deepEqual(guilty(await pull()), ['bad'])
})

test('a peer that says it has all and answers nothing holds nothing up, and is not taken for a liar', async t => {
  const { model, network, pull } = await world(t)
  scripted(network, model, () => undefined)
  assert.deepEqual(guilty(await pull()), [])
})

test('a peer that gives false hashes is left out', async t => {
  const { model, network, pull } = await world(t)
  let lies = 0
  scripted(network, model, (session, message) => {
    if (message.kind !== 'hash-request') return
    lies++
    const { uncles, ...range } = {
      ...message,
      uncles: Math.max(0, message.proofLayers - Math.log2(message.length) + 1),
    }
    session.send({ ...range, kind: 'hashes', hashes: new Uint8Array((message.length + uncles) * 32).fill(7) })
  })
  const node = await pull()
  assert.deepEqual(guilty(node), lies > 0 ? ['bad'] : [])
})

test('a peer that says it has all and refuses every request costs nobody else anything', async t => {
  const { model, network, pull } = await world(t)
  scripted(network, model, (session, message) => {
    if (message.kind === 'request') session.send({ ...message, kind: 'reject' })
    if (message.kind === 'hash-request') session.send({ ...message, kind: 'hash-reject' })
  })
  assert.ok(guilty(await pull()).every(party => party === 'bad'))
})

/** A puller whose store takes as long to judge what is not the model as the test wants, and a peer that gives that and leaves. */
function hitAndRun(t: TestContext, { model, network }: { readonly model: TestModel; readonly network: SwarmNetwork }) {
  const isJudged = Promise.withResolvers<void>()
  const seen = { asked: 0, waiting: 0 }
  scripted(network, model, (session, message) => {
    if (message.kind === 'hash-request') session.send({ ...message, kind: 'hash-reject' })
    if (message.kind !== 'request') return
    const { piece, offset, length } = message
    session.send({ kind: 'piece', piece, offset, bytes: new Uint8Array(length) })
    seen.asked++
  })
  const node = startSwarm(t, { host: network.host('puller'), seed: SEED })
  const open = node.blobs.open.bind(node.blobs)
  const slowed = new Set<unknown>()
  node.blobs.open = async file => {
    const blob = await open(file)
    if (slowed.has(blob)) return blob
    slowed.add(blob)
    const write = blob.write.bind(blob)
    blob.write = async (run, bytes) => {
      if (bytes.some(byte => byte !== 0)) return write(run, bytes)
      seen.waiting++
      await isJudged.promise
      return write(run, bytes)
    }
    return blob
  }
  const { tree } = model.hashed
  const pullAll = (signal: AbortSignal) =>
    node.swarm.pull({
      subject: { core: model.core },
      wanted: 'all',
      pieceLayer: tree.layer(0, tree.count),
      signal,
    })
  const leave = (): void => {
    for (const { peers, cut } of network.streams) if (peers.includes('bad')) cut()
  }
  return { node, seen, pullAll, leave, judge: isJudged.resolve }
}

test('a peer that has left before what it gave was verified is left out all the same', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 4 * MIB)
  const network = swarmNetwork()
  const { node, seen, pullAll, leave, judge } = hitAndRun(t, { model, network })
  const pull = pullAll(signal)
  await network.until(() => seen.waiting > 0)
  leave()
  await network.until(() => node.swarm.facts().every(({ peers }) => peers.length === 0))
  assert.deepEqual(guilty(node), [])
  judge()
  // No time passes, so it has not come back.
  for (let turn = 0; turn < 10; turn++) await new Promise(resolve => void setImmediate(resolve))
  assert.deepEqual(node.blamed, [{ party: 'bad', why: 'bad-data' }])
  const { asked } = seen
  const honest = startSwarm(t, { host: network.host('honest'), seed: SEED })
  honest.swarm.share({ core: model.core, blob: fullBlob(model) })
  await network.pass(pull)
  assert.equal(seen.asked, asked, 'nobody asks it again')
  assert.equal(node.blamed.length, 1)
})

test('what is verified after a pull was given up still tells who gave it', async t => {
  t.diagnostic(`seed ${SEED}`)
  const model = await testModel(SEED, 4 * MIB)
  const network = swarmNetwork()
  const { node, seen, pullAll, judge } = hitAndRun(t, { model, network })
  const abort = new AbortController()
  const pull = pullAll(abort.signal)
  await network.until(() => seen.waiting > 0)
  abort.abort(new Error('given up'))
  await assert.rejects(network.pass(pull), /given up/)
  assert.deepEqual(node.blamed, [])
  judge()
  await network.until(() => node.blamed.length > 0)
  assert.deepEqual(node.blamed, [{ party: 'bad', why: 'bad-data' }])
})
