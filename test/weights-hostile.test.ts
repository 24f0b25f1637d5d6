/**
 * A node pulls a model while four peers do harm at once: one spoils blocks, one sends garbage, one is silent, one says that it
 * has what it has not. A whole node with its store and its penalties; what each does alone is tested in `src/swarm/hostile.test.ts`.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom, silentLogger, systemClock } from '#base'
import { hashSource, memorySource } from '#formats'
import type { Host } from '#net'
import { PROTOCOLS } from '#wire'
import { acceptPieces } from '../src/swarm/wire/greeting.ts'
import type { PeerSession, ReceivedMessage } from '../src/swarm/wire/types.ts'
import { startSwarm, until } from '../tools/swarm.ts'
import { fullBlob } from './support/memory-blobs.ts'
import { startHost, within } from './support/net-hosts.ts'
import { startSwarm as serve } from './support/swarm-hosts.ts'
import type { TestModel } from './support/swarm-models.ts'
import { assertHasAll, KEEPER, pull, verified, writeWeightsModel } from './support/weights-nodes.ts'

const SEED = Number(process.env['SEED'] ?? Math.floor(performance.timeOrigin) % 1e6)
const MIB = 2 ** 20
const BLOCK_BYTES = 16_384
const BLOCKS_PER_SPOILT = 100

/** What a peer served, in blocks. */
type Served = { blocks: number; spoilt: number }

/** Serves the model with one block in a hundred spoilt: of each hundred that it gives, one by chance. */
function serveSpoilt(test: Parameters<typeof serve>[0], host: Host, model: TestModel): Served {
  const blob = fullBlob(model)
  const random = seededRandom(SEED)
  const served = { blocks: 0, spoilt: 0 }
  let spoiltNext = 0
  const read = blob.read.bind(blob)
  const spoil = async (piece: number, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = await read(piece, offset, length)
    for (let at = 0; at < bytes.byteLength; at += BLOCK_BYTES) {
      if (served.blocks % BLOCKS_PER_SPOILT === 0) spoiltNext = served.blocks + (random.uint32() % BLOCKS_PER_SPOILT)
      if (served.blocks++ !== spoiltNext) continue
      served.spoilt++
      bytes[at] = (bytes[at] ?? 0) ^ 1
    }
    return bytes
  }
  serve(test, { host: Object.assign(host, { clock: systemClock }), seed: SEED }).swarm.share({
    core: model.core,
    blob: Object.assign(blob, { read: spoil }),
  })
  return served
}

/** Answers the greeting about any model, says that it has all, and then does what the test says. */
function script(host: Host, model: TestModel, act: (session: PeerSession, message: ReceivedMessage) => void): void {
  host.handle(PROTOCOLS.pieces, async stream => {
    const says = { coreBytes: model.core.byteLength }
    const accepted = await acceptPieces({ clock: systemClock, logger: silentLogger }, stream, () => ({ says }))
    if ('blame' in accepted) return
    const { session } = accepted
    session.onMessage = message => act(session, message)
    session.start()
    session.send({ kind: 'have-all' })
    session.send({ kind: 'unchoke' })
  })
}

test(`four peers that do harm hold nothing up, nothing of theirs is stored, and only they are blamed (seed ${SEED})`, async t => {
  const file = await writeWeightsModel(t)
  const hashed = await hashSource(memorySource(file.bytes))
  const model: TestModel = { id: file.id, core: file.coreBytes, bytes: file.bytes, root: hashed.tree.root, hashed }
  await using swarm = await startSwarm({ nodes: [KEEPER], whole: false })
  const [puller] = swarm.nodes
  assert.ok(puller)
  const [address] = puller.ready.addresses
  assert.ok(address)
  const [spoiler, garbler, silent, liar] = await Promise.all([1, 2, 3, 4].map(() => startHost(t)))
  assert.ok(spoiler && garbler && silent && liar)
  const spoilt = serveSpoilt(t, spoiler, model)
  let garbage = 0
  garbler.handle(PROTOCOLS.pieces, stream => {
    garbage++
    stream.send(seededRandom(SEED).bytes(4096))
  })
  script(silent, model, () => undefined)
  let refusals = 0
  script(liar, model, (session, message) => {
    if (message.kind === 'request') refusals++
    if (message.kind === 'request') session.send({ ...message, kind: 'reject' })
    if (message.kind === 'hash-request') session.send({ ...message, kind: 'hash-reject' })
  })
  await Promise.all([spoiler, garbler, silent, liar].map(host => within('a connection', host.connect(address))))
  const leftOut = (): RegExpExecArray[] => [...puller.log().matchAll(/left out party=(\S+) why=(\S+)/g)]
  const isLeftOut = (host: Host, blame: string): boolean =>
    leftOut().some(([, party, why]) => party === host.id && why === blame)
  const pulling = pull(puller, { model: file.id })
  // All may be here before they have done their harm, where somebody else gives it fast enough.
  const bothAreFound = until(
    async () => (isLeftOut(spoiler, 'bad-data') && isLeftOut(garbler, 'malformed')) || undefined,
    { what: 'the blame for those who spoil', timeoutMs: 60_000 },
  )
  await Promise.race([bothAreFound, pulling.then(() => bothAreFound)])
  const honest = await swarm.add({ layers: 'none', args: ['--model', file.file] })
  const end = await pulling
  const names = new Map([
    [honest.ready.peer, 'honest'],
    [spoiler.id, 'spoiler'],
    [garbler.id, 'garbler'],
    [silent.id, 'silent'],
    [liar.id, 'liar'],
  ])
  const facts = `${spoilt.spoilt} of ${spoilt.blocks} blocks were spoilt, ${garbage} greetings garbled, ${refusals} requests refused; from ${JSON.stringify(
    end.from.map(({ name, bytes }) => [names.get(name) ?? name, bytes]),
  )}`
  t.diagnostic(facts)
  assert.ok(garbage > 0, facts)
  assert.ok(spoilt.spoilt > 0 && spoilt.spoilt <= Math.ceil(spoilt.blocks / BLOCKS_PER_SPOILT), facts)
  assertHasAll(puller.ready.dataDir, file)
  assert.equal(await verified(puller, file.id), file.bytes.byteLength)
  assert.ok(end.wastedBytes <= 4 * MIB, `${end.wastedBytes} bytes were of no use`)

  const guilty = leftOut().map(([, party = '', why]) => `${names.get(party) ?? party}: ${why}`)
  assert.ok(guilty.includes('spoiler: bad-data') && guilty.includes('garbler: malformed'), JSON.stringify(guilty))
  assert.deepEqual(
    guilty.filter(name => name.endsWith('bad-data')),
    ['spoiler: bad-data'],
    'its first bad block was its last one',
  )
  // Who is silent or refuses may be left out too, for that alone; whoever is honest may not.
  assert.ok(
    guilty.every(name => /^(spoiler|garbler|silent|liar):/.test(name)),
    JSON.stringify(guilty),
  )
})
