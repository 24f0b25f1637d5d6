/**
 * Stock BitTorrent v2 clients: Debian's libtorrent fetches a model from us, from a .torrent file and from a magnet link, and
 * seeds one to us, of which only what we ask for moves.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { seededRandom, silentLogger, systemClock, systemRandom } from '#base'
import { createStockPeers, type StockPeers } from '../src/swarm/bittorrent/stock-peers.ts'
import type { WireFault } from '../src/swarm/wire/errors.ts'
import { isFault } from '../src/swarm/wire/faults.ts'
import type { PeerSession } from '../src/swarm/wire/types.ts'
import { until } from '../tools/swarm.ts'
import { LIBTORRENT_SKIP } from './support/libtorrent-dht.ts'
import { LibtorrentPeer } from './support/libtorrent-swarm.ts'
import { fetchHashes, fetchPiece, Listener, seed } from './support/plain-transfer.ts'
import { type TorrentFixture, torrentFixture, writeFixture } from './support/torrent-fixture.ts'

const PIECE_LAYER = 6
const LEAVES_A_PIECE = 64
const skip = LIBTORRENT_SKIP

let fixture: TorrentFixture
let directory: string
let torrentPath: string

before(() => {
  if (skip !== false) return
  fixture = torrentFixture(seededRandom(5), { core: 200_000, model: 24 * 1024 * 1024 + 12_345 })
  directory = mkdtempSync(join(tmpdir(), 'koinon-swarm-'))
  torrentPath = writeFixture(fixture, directory)
})

after(() => {
  if (skip === false) rmSync(directory, { recursive: true })
})

function stockPeers(onSession: (session: PeerSession) => void, onFault?: (fault: WireFault) => void): StockPeers {
  const find = (infoHash: Uint8Array) =>
    Buffer.compare(infoHash, fixture.infoHash) === 0
      ? { layout: fixture, says: { metadataBytes: fixture.info.byteLength, agent: 'koinon test' } }
      : undefined
  return createStockPeers(
    { clock: systemClock, logger: silentLogger, random: systemRandom, find, isBanned: () => false },
    { host: '127.0.0.1', port: 0, onSession, ...(onFault === undefined ? {} : { onFault }) },
  )
}

/** What libtorrent must fetch from us to have the whole model. @returns faults of its connections */
async function leechedBy(source: string, ...options: readonly string[]): Promise<readonly WireFault[]> {
  const into = mkdtempSync(join(directory, 'leech-'))
  const faults: WireFault[] = []
  const peers = stockPeers(
    session => void seed(session, fixture),
    fault => faults.push(fault),
  )
  const port = await peers.listen()
  const leech = new LibtorrentPeer(['leech', source, into, '0', `127.0.0.1:${port}`, ...options])
  try {
    const done = await leech.event('done')
    assert.equal(
      done['bytes'],
      fixture.files.reduce((sum, { bytes }) => sum + bytes.byteLength, 0),
    )
    for (const { name, bytes } of fixture.files) {
      assert.equal(Buffer.compare(readFileSync(join(into, fixture.name, name)), bytes), 0, name)
    }
    assert.equal((await leech.status())['failed'], 0)
    return faults
  } finally {
    await leech.stop()
    await peers.stop()
  }
}

test('libtorrent downloads a model from us by its .torrent file', { skip }, async () => {
  assert.deepEqual(await leechedBy(torrentPath, '--plain'), [])
})

test('libtorrent downloads a model from us by its magnet link: info and hashes come from us too', {
  skip,
}, async () => {
  assert.deepEqual(await leechedBy(fixture.magnet, '--plain'), [])
})

test('libtorrent as it is tries encryption first, is cut off, and comes back without', { skip }, async () => {
  const [fault] = await leechedBy(torrentPath)
  assert.ok(fault?.blame === 'nobody')
})

test('we download chosen pieces from libtorrent, with their hashes, and nothing else moves', { skip }, async () => {
  const seeder = new LibtorrentPeer(['seed', torrentPath, directory, '0'])
  const peers = stockPeers(() => undefined)
  try {
    const { port } = await seeder.event('listening')
    await seeder.event('ready')
    const session = await peers.dial({
      host: '127.0.0.1',
      port: Number(port),
      infoHash: fixture.infoHash,
      layout: fixture,
      says: {},
    })
    assert.ok(!isFault(session), JSON.stringify(session))
    const listener = new Listener(session, fixture.pieceCount)
    const { metadataBytes } = await listener.next('extended-handshake')
    assert.equal(metadataBytes, fixture.info.byteLength)
    session.send({ kind: 'metadata', what: 'request', chunk: 0 })
    const metadata = await listener.next('metadata')
    assert.deepEqual(metadata.what === 'data' && metadata.bytes, new Uint8Array(fixture.info))

    const [, model] = fixture.files
    assert.ok(model !== undefined)
    const layer = await fetchHashes(listener, model, { baseLayer: PIECE_LAYER, index: 0, length: 32 })
    assert.ok(layer !== undefined)
    session.send({ kind: 'interested' })
    await listener.next('unchoke')
    assert.ok(listener.has.isFull)
    let wantedBytes = 0
    for (const piece of [model.firstPiece + 3, model.firstPiece + 4, fixture.pieceCount - 1]) {
      const index = (piece - model.firstPiece) * LEAVES_A_PIECE
      const leaves = await fetchHashes(listener, model, { baseLayer: 0, index, length: LEAVES_A_PIECE })
      assert.equal(leaves?.byteLength, LEAVES_A_PIECE * 32)
      const bytes = await fetchPiece(listener, fixture, { piece, leaves })
      assert.equal(Buffer.compare(bytes, fixture.read(piece, 0, fixture.pieceBytes(piece))), 0)
      wantedBytes += bytes.byteLength
    }
    // It counts what it has written, and may learn of that after we have read it.
    const uploaded = await until(
      async () => {
        const bytes = Number((await seeder.status())['uploaded'])
        return bytes >= wantedBytes ? bytes : undefined
      },
      { what: 'the count of what libtorrent gave', timeoutMs: 60_000 },
    )
    assert.equal(uploaded, wantedBytes)
    session.close()
  } finally {
    await peers.stop()
    await seeder.stop()
  }
})
