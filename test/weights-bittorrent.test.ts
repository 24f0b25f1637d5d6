/** A stock BitTorrent client fetches a model from a node and seeds it to another one, which takes its layers alone. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { piecesOf, pieceBytesIn, TORRENT_MODEL_FILE, wantedRanges } from '#formats'
import { startSwarm } from '../tools/swarm.ts'
import { koinon, temporaryDir } from './support/command.ts'
import { freePort } from './support/free-port.ts'
import { LIBTORRENT_SKIP } from './support/libtorrent-dht.ts'
import { LibtorrentPeer } from './support/libtorrent-swarm.ts'
import { assertHasAll, KEEPER, verified, writeWeightsModel } from './support/weights-nodes.ts'

/** libtorrent keeps these apart by itself; a magnet link leads it to the same files. */
const FILES = ['core.cbor', 'model.gguf']

test('libtorrent fetches a model by its .torrent and by its magnet link, and seeds some layers of it, then the rest', {
  skip: LIBTORRENT_SKIP,
}, async t => {
  const model = await writeWeightsModel(t)
  const directory = temporaryDir(t)
  const port = await freePort()
  await using swarm = await startSwarm({
    nodes: [{ layers: 'none', args: ['--model', model.file, '--bittorrent', String(port)] }],
    whole: false,
  })
  const [seeder] = swarm.nodes
  assert.ok(seeder)
  const torrent = join(directory, 'model.torrent')
  const shared = await koinon(['share', model.id, '--torrent', torrent, '--data-dir', seeder.ready.dataDir])
  assert.equal(shared.code, 0, shared.stderr)
  const magnet = /magnet:\S+/.exec(shared.stdout)?.[0]
  assert.ok(magnet)

  const places = { file: join(directory, 'by-file'), magnet: join(directory, 'by-magnet') }
  for (const [what, place] of [
    [torrent, places.file],
    [magnet, places.magnet],
  ] as const) {
    mkdirSync(place)
    const leech = new LibtorrentPeer(['leech', what, place, '0', `127.0.0.1:${port}`])
    t.after(() => leech.stop())
    await leech.event('done')
    assert.equal((await leech.status())['failed'], 0)
    await leech.stop()
    const files = FILES.map(name => readFileSync(join(place, model.torrent.name, name)))
    assert.ok(files[0]?.equals(model.coreBytes) && files[1]?.equals(model.bytes))
  }

  // Nobody but libtorrent has it now.
  assert.equal(await seeder.stop(), 0)
  await using others = await startSwarm({ nodes: [{ ...KEEPER, args: ['--bittorrent'] }], whole: false })
  const [node] = others.nodes
  assert.ok(node)
  const seed = new LibtorrentPeer(['seed', torrent, places.file, '0'])
  t.after(() => seed.stop())
  const { port: seedPort } = await seed.event('listening')
  await seed.event('ready')
  const pull = async (...args: string[]): Promise<void> => {
    const from = ['--from', `bt:127.0.0.1:${String(seedPort)}`, '--data-dir', node.ready.dataDir]
    const { code, stdout, stderr } = await koinon(['pull', torrent, ...args, ...from])
    assert.equal(code, 0, stderr)
    assert.match(stdout, /bt:127\.0\.0\.1/)
  }
  const layers = { first: 2, last: 5 }
  await pull('--layers', '2-5')
  const pieces = piecesOf(model.torrent, TORRENT_MODEL_FILE, wantedRanges(model.core, { layers }))
  const wantedBytes = [...pieces.numbers()].reduce((sum, piece) => sum + pieceBytesIn(model.torrent, piece), 0)
  const uploaded = Number((await seed.status())['uploaded'])
  const facts = `${uploaded} bytes left libtorrent, ${wantedBytes} of ${model.bytes.byteLength} were wanted`
  t.diagnostic(facts)
  assert.ok(wantedBytes < model.bytes.byteLength * 0.6, facts)
  assert.ok(uploaded >= wantedBytes && uploaded <= wantedBytes * 1.02 + model.coreBytes.byteLength, facts)
  const [held] = (await node.client.weights.held()).filter(({ id }) => id === model.id)
  assert.deepEqual([held?.heldLayers, held?.hasEdges], [[layers], false])
  assert.equal(await verified(node, model.id), wantedBytes)

  await pull()
  assertHasAll(node.ready.dataDir, model)
  assert.equal(await verified(node, model.id), model.bytes.byteLength)
  const all = Number((await seed.status())['uploaded'])
  assert.ok(all <= (model.bytes.byteLength + model.coreBytes.byteLength) * 1.02, `${all} bytes left libtorrent`)
})
