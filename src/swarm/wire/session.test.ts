import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bitfield, type ByteStream, createLogger, silentLogger, systemClock } from '#base'
import { halfPair, LAYOUT, sessionPair, settled, type Side } from '../../../test/support/wire-pair.ts'
import { chunkOf, DocumentFetch } from './documents.ts'
import { IDLE_TIMEOUT_MS, KEEP_ALIVE_MS, SEND_QUEUE_BYTES_MAX } from './limits.ts'
import { encodeMessage } from './messages.ts'
import { EXTENSION_IDS } from './protocol.ts'
import { createPeerSession } from './session.ts'
import type { PeerMessage } from './types.ts'

const ROOT = new Uint8Array(32).fill(7)
const SPAN = { piece: 1, offset: 16_384, length: 16_384 } as const
const BLOCK = new Uint8Array(SPAN.length).fill(5)

function bytesOf(message: PeerMessage): Uint8Array {
  const parts = encodeMessage(message, { ids: EXTENSION_IDS, offered: ['metadata', 'core', 'votes'] })
  return new Uint8Array(Buffer.concat(parts))
}

async function codeAfter(side: Side, stream: ByteStream, ...messages: readonly PeerMessage[]): Promise<string> {
  side.session.start()
  for (const message of messages) stream.send(bytesOf(message))
  await settled()
  const [end] = side.ends
  if (end === undefined) return 'none'
  return end.kind === 'fault' ? `${end.fault.code} ${end.fault.blame}` : `closed by ${end.by}`
}

test('sessions tell one another what they have, and what they are asked for is answered', async () => {
  const { a, b } = sessionPair({ says: { agent: 'koinon', metadataBytes: 200, requestsMax: 300 } })
  a.session.send({ kind: 'have-all' })
  b.session.send({ kind: 'request', ...SPAN })
  b.session.send({ kind: 'hash-request', root: ROOT, baseLayer: 6, index: 0, length: 2, proofLayers: 1 })
  await settled()
  assert.equal(a.session.theirs?.requestsMax, 300)
  assert.ok(a.session.supports('core') && a.session.supports('votes'))
  assert.deepEqual(
    a.got.map(({ kind }) => kind),
    ['extended-handshake', 'request', 'hash-request'],
  )
  assert.equal(b.session.facts.openRequests, 1)
  a.session.send({ kind: 'piece', piece: 1, offset: 16_384, bytes: BLOCK })
  const hashes = new Uint8Array(3 * 32)
  a.session.send({ kind: 'hashes', root: ROOT, baseLayer: 6, index: 0, length: 2, proofLayers: 1, hashes })
  await settled()
  assert.deepEqual(
    b.got.map(({ kind }) => kind),
    ['extended-handshake', 'have-all', 'piece', 'hashes'],
  )
  assert.equal(b.session.facts.openRequests, 0)
  a.session.close('done')
  await settled()
  assert.deepEqual(a.ends, [{ kind: 'closed', by: 'us', why: 'done' }])
  assert.deepEqual(
    b.ends.map(end => end.kind === 'closed' && end.by),
    ['peer'],
  )
})

test('blocks, hashes, chunks and votes that nobody asked for end the session, and the other side is to blame', async () => {
  const range = { root: ROOT, baseLayer: 6, index: 0, length: 2, proofLayers: 0 }
  const unasked: readonly PeerMessage[] = [
    { kind: 'piece', piece: 1, offset: 0, bytes: BLOCK },
    { kind: 'hashes', ...range, hashes: new Uint8Array(64) },
    { kind: 'metadata', what: 'data', chunk: 0, totalBytes: 5, bytes: new Uint8Array(5) },
    { kind: 'core', document: 'core', what: 'data', chunk: 0, totalBytes: 5, bytes: new Uint8Array(5) },
    { kind: 'votes', from: 0, total: 0, records: [] },
  ]
  for (const message of unasked) {
    const { side, stream } = halfPair()
    assert.equal(await codeAfter(side, stream, message), 'SWARM_UNASKED peer', message.kind)
  }
})

test('hashes that are asked for again before they have come may come as often, and no more often', async () => {
  const range = { root: ROOT, baseLayer: 6, index: 0, length: 2, proofLayers: 0 }
  const { side, stream } = halfPair()
  side.session.start()
  for (let asked = 0; asked < 2; asked++) side.session.send({ kind: 'hash-request', ...range })
  const hashes = { kind: 'hashes', ...range, hashes: new Uint8Array(64) } as const
  assert.equal(await codeAfter(side, stream, hashes), 'none')
  assert.equal(await codeAfter(side, stream, hashes), 'none')
  assert.equal(await codeAfter(side, stream, hashes), 'SWARM_UNASKED peer')
})

test('a block of another length than was asked for is one that nobody asked for', async () => {
  const { side, stream } = halfPair()
  side.session.start()
  side.session.send({ kind: 'request', ...SPAN })
  const short = { kind: 'piece', piece: SPAN.piece, offset: SPAN.offset, bytes: new Uint8Array(100) } as const
  assert.equal(await codeAfter(side, stream, short), 'SWARM_UNASKED peer')
})

test('messages that the torrent rules out end the session', async () => {
  const wrong: readonly (readonly [string, readonly PeerMessage[]])[] = [
    ['SWARM_MALFORMED peer', [{ kind: 'have', piece: 10 }]],
    ['SWARM_TOO_LARGE peer', [{ kind: 'bitfield', bytes: new Uint8Array(3) }]],
    ['SWARM_MALFORMED peer', [{ kind: 'bitfield', bytes: new Uint8Array(1) }]],
    ['SWARM_MALFORMED peer', [{ kind: 'bitfield', bytes: Uint8Array.of(0, 1) }]],
    ['SWARM_MALFORMED peer', [{ kind: 'have-all' }, { kind: 'have-none' }]],
    ['SWARM_MALFORMED peer', [{ kind: 'request', piece: 10, offset: 0, length: 1 }]],
    ['SWARM_MALFORMED peer', [{ kind: 'request', piece: 9, offset: 0, length: 20_001 }]],
    ['SWARM_MALFORMED peer', [{ kind: 'request', piece: 0, offset: 0, length: 0 }]],
    ['SWARM_TOO_LARGE peer', [{ kind: 'request', piece: 0, offset: 0, length: 2 ** 20 + 1 }]],
  ]
  for (const [code, messages] of wrong) {
    const { side, stream } = halfPair()
    assert.equal(await codeAfter(side, stream, ...messages), code, JSON.stringify(messages))
  }
})

test('a block that was cancelled may still come, once', async () => {
  for (const isFast of [true, false]) {
    const { side, stream } = halfPair({ isFast })
    side.session.start()
    side.session.send({ kind: 'request', ...SPAN })
    side.session.send({ kind: 'cancel', ...SPAN })
    const late = { kind: 'piece', piece: SPAN.piece, offset: SPAN.offset, bytes: BLOCK } as const
    assert.equal(await codeAfter(side, stream, late), 'none')
    assert.equal(side.got.at(-1)?.kind, 'piece')
    assert.equal(await codeAfter(side, stream, late), 'SWARM_UNASKED peer')
  }
})

test('without BEP 6 a choke closes all requests, and what it crossed may still come', async () => {
  const { side, stream } = halfPair({ isFast: false })
  side.session.start()
  side.session.send({ kind: 'request', ...SPAN })
  assert.equal(await codeAfter(side, stream, { kind: 'choke' }), 'none')
  assert.equal(side.session.facts.openRequests, 0)
  const late = { kind: 'piece', piece: SPAN.piece, offset: SPAN.offset, bytes: BLOCK } as const
  assert.equal(await codeAfter(side, stream, late), 'none')
})

test('a side that does not know BEP 6 is told what it understands, and may not use it itself', async () => {
  const { a, b } = sessionPair({ isFast: false })
  a.session.send({ kind: 'have-all' })
  a.session.send({ kind: 'have-none' })
  a.session.send({ kind: 'reject', ...SPAN })
  await settled()
  const [, bitfield, ...rest] = b.got
  assert.ok(bitfield?.kind === 'bitfield' && rest.length === 0)
  assert.ok(Bitfield.decode(bitfield.bytes, LAYOUT.pieceCount)?.isFull)
  const { side, stream } = halfPair({ isFast: false })
  assert.equal(await codeAfter(side, stream, { kind: 'have-all' }), 'SWARM_MALFORMED peer')
})

test('a stock client may ask for a whole block at the end of a file, and gets zeros behind it', async () => {
  const { a, b } = sessionPair({ kind: 'bittorrent', layout: { pieceCount: 10, pieceBytes: () => 20_000 } })
  // As a client that counts padding: its session expects the whole block.
  b.session.send({ kind: 'request', piece: 9, offset: 16_384, length: 16_384 })
  await settled()
  assert.deepEqual(a.got.at(-1), { kind: 'request', piece: 9, offset: 16_384, length: 3616 })
  a.session.send({ kind: 'piece', piece: 9, offset: 16_384, bytes: new Uint8Array(3616).fill(1) })
  await settled()
  const piece = b.got.at(-1)
  assert.ok(piece?.kind === 'piece' && piece.bytes.byteLength === 16_384)
  assert.equal(
    piece.bytes.reduce((sum, byte) => sum + byte, 0),
    3616,
  )
  b.session.send({ kind: 'request', piece: 9, offset: 16_384, length: 16_384 })
  await settled()
  a.session.send({ kind: 'reject', piece: 9, offset: 16_384, length: 3616 })
  await settled()
  assert.deepEqual(b.got.at(-1), { kind: 'reject', piece: 9, offset: 16_384, length: 16_384 })
})

test('extensions that the other side has not offered are not sent', async () => {
  const { a, b } = sessionPair({ kind: 'bittorrent' })
  await settled()
  assert.ok(a.session.supports('metadata') && !a.session.supports('core') && !a.session.supports('votes'))
  a.session.send({ kind: 'votes-request', from: 0 })
  a.session.send({ kind: 'core', document: 'core', what: 'request', chunk: 0 })
  await settled()
  assert.equal(b.got.length, 1)
})

test('a session without BEP 10 says nothing extended and passes over what comes', async () => {
  const { side, stream } = halfPair({ isExtended: false })
  assert.equal(await codeAfter(side, stream, { kind: 'extended-handshake', metadataBytes: 3 }), 'none')
  assert.equal(side.session.theirs, undefined)
  assert.equal(side.session.facts.sentBytes, 0)
})

test('documents come in chunks and are whole at the end', async () => {
  const { a, b } = sessionPair()
  const manifest = new Uint8Array(40_000).map((_, at) => at)
  a.session.onMessage = message => {
    if (message.kind !== 'core' || message.what !== 'request') return
    a.session.send({ kind: 'core', document: message.document, ...chunkOf(manifest, message.chunk) })
  }
  await settled()
  const fetch = new DocumentFetch(manifest.byteLength)
  for (const chunk of fetch.orders()) b.session.send({ kind: 'core', document: 'manifest', what: 'request', chunk })
  await settled()
  for (const message of b.got) if (message.kind === 'core' && message.what === 'data') assert.ok(fetch.put(message))
  assert.deepEqual(fetch.document, manifest)
  assert.equal(fetch.put({ what: 'data', chunk: 0, totalBytes: 5, bytes: new Uint8Array(5) }), false)
  assert.deepEqual(chunkOf(manifest, 3), { what: 'reject', chunk: 3 })
})

test('a paused session gives nothing until it goes on, in the middle of what had come', async () => {
  const { side, stream } = halfPair()
  side.session.onMessage = message => {
    side.got.push(message)
    side.session.pause()
  }
  side.session.start()
  stream.send(new Uint8Array(Buffer.concat([1, 2, 3].map(piece => bytesOf({ kind: 'have', piece })))))
  await settled()
  assert.equal(side.got.length, 1)
  side.session.resume()
  await settled()
  assert.deepEqual(side.got.at(-1), { kind: 'have', piece: 2 })
  side.session.resume()
  await settled()
  assert.equal(side.got.length, 3)
})

test('silence ends a session, keep-alives go out before that, and a pause is no silence', async () => {
  const { side, stream, clock } = halfPair()
  side.session.start()
  const sent: number[] = []
  const reading = (async () => {
    for await (const bytes of stream.received) sent.push(bytes.byteLength)
  })()
  await settled()
  sent.length = 0
  clock.advance(KEEP_ALIVE_MS)
  await settled()
  assert.ok(sent.length > 0 && sent.every(size => size % 4 === 0))
  side.session.pause()
  clock.advance(2 * IDLE_TIMEOUT_MS)
  await settled()
  assert.equal(side.ends.length, 0)
  side.session.resume()
  clock.advance(IDLE_TIMEOUT_MS)
  await assert.rejects(reading)
  assert.deepEqual(
    side.ends.map(end => end.kind === 'fault' && `${end.fault.code} ${end.fault.blame}`),
    ['SWARM_TIMEOUT nobody'],
  )
})

test('a stream that ends within a message, or is reset, is lost: nobody is to blame', async () => {
  const cut = halfPair()
  cut.side.session.start()
  cut.stream.send(Uint8Array.of(0, 0, 0, 5, 4))
  await cut.stream.close()
  await settled()
  assert.ok(cut.side.ends[0]?.kind === 'fault' && cut.side.ends[0].fault.code === 'SWARM_LOST')
  const reset = halfPair()
  reset.side.session.start()
  reset.stream.abort(new Error('gone'))
  await settled()
  assert.ok(reset.side.ends[0]?.kind === 'fault' && reset.side.ends[0].fault.blame === 'nobody')
  assert.equal(reset.side.session.send({ kind: 'choke' }), false)
})

test('an owner that throws loses the session, and it is logged', async () => {
  const lines: string[] = []
  const logger = createLogger(
    { clock: systemClock, write: line => lines.push(line) },
    { level: 'error', format: 'text' },
  )
  const { side, stream } = halfPair({ logger })
  side.session.onMessage = () => {
    throw new RangeError('a bug')
  }
  assert.equal(await codeAfter(side, stream, { kind: 'choke' }, { kind: 'choke' }), 'SWARM_LOST nobody')
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /RangeError: a bug/)
})

test('what the owner holds against the other side is a fault of that side', async () => {
  const { a, b } = sessionPair()
  a.session.fail('it lied')
  a.session.fail('again')
  await settled()
  assert.deepEqual(a.ends, [{ kind: 'fault', fault: { code: 'SWARM_BAD_PEER', blame: 'peer', what: 'it lied' } }])
  assert.ok(b.ends[0]?.kind === 'fault' && b.ends[0].fault.code === 'SWARM_LOST')
})

test('a full pipe holds the sender back, loses nothing, and a sender that does not care loses the session', async () => {
  let [release, full] = [(): void => undefined, true]
  const sent: number[] = []
  const pipe = {
    send: () => true,
    sendParts: (parts: readonly Uint8Array[]) => {
      sent.push(...parts.map(part => part.byteLength))
      return !full
    },
    drained: () =>
      new Promise<void>(resolve => {
        release = resolve
      }),
    received: { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) },
    close: () => Promise.resolve(),
    abort: () => undefined,
  }
  const terms = {
    party: 'x',
    kind: 'koinon',
    pipe,
    theirRequestBytesMax: 2 ** 20,
    ownRequestBytesMax: 2 ** 20,
    isFast: true,
    isExtended: false,
  } as const
  const session = createPeerSession({ clock: systemClock, logger: silentLogger }, terms, { says: {} })
  let [writable, ends] = [0, 0]
  session.onWritable = () => writable++
  session.onEnd = () => ends++
  const piece = { kind: 'piece', piece: 0, offset: 0, bytes: new Uint8Array(300_000) } as const
  assert.equal(session.send(piece), true, 'the pipe took it and is full; there is room for what comes next')
  const large = { ...piece, bytes: new Uint8Array(2 ** 20) }
  assert.equal(session.send(large), false)
  assert.equal(session.send({ kind: 'have', piece: 3 }), false)
  await settled()
  assert.deepEqual([sent, writable], [[13, 300_000], 0])
  full = false
  release()
  await settled()
  assert.deepEqual([sent, writable], [[13, 300_000, 13, 2 ** 20, 9], 1])
  full = true
  for (let bytes = 0; bytes < SEND_QUEUE_BYTES_MAX + 900_000; bytes += 300_000) session.send(piece)
  await settled()
  assert.equal(ends, 1)
  assert.ok(session.end?.kind === 'fault' && session.end.fault.code === 'SWARM_LOST')
})
