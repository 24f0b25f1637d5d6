import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, concatBytes, ManualClock, seededRandom, systemClock } from '#base'
import { PROTOCOLS, type ProtocolId } from '#wire'
import { CARRIED_WINDOW_BYTES_MAX, STREAM_WINDOW_BYTES_MAX } from './limits.ts'
import { firstAddress, startHost, within } from '../../test/support/net-hosts.ts'

const MIB = 1024 * 1024
const PIECE_BYTES = 64 * 1024

type Cleaner = { after(action: () => Promise<void>): void }

/** How streams are carried. `aheadMax`: what a writer may be ahead of a reader who does not read, in bytes. */
const CARRIERS = {
  'over libp2p, sealed': { options: { planePort: 'off' }, aheadMax: 4 * STREAM_WINDOW_BYTES_MAX },
  'over QUIC, sealed': {
    options: { planePort: 'off', transport: 'quic', listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] },
    aheadMax: 4 * STREAM_WINDOW_BYTES_MAX,
  },
  'over WebSocket, sealed': {
    options: { planePort: 'off', listen: ['/ip4/127.0.0.1/tcp/0/ws'] },
    aheadMax: 4 * STREAM_WINDOW_BYTES_MAX,
  },
  // What the two sockets take: Linux gives a receiver 6 MiB and a sender 4 MiB at most.
  'over the data plane': { options: {}, aheadMax: 16 * MIB },
} as const

/** The streams of a service go on when what carries them is lost, and have a window of their own; others are one carrier. */
const STREAMS = Object.entries(CARRIERS).flatMap(([how, { options, aheadMax }]) => [
  { how, protocol: PROTOCOLS.exchange, options, aheadMax },
  {
    how: `${how}, carried`,
    protocol: PROTOCOLS.stage,
    options,
    aheadMax: CARRIED_WINDOW_BYTES_MAX + 2 * PIECE_BYTES,
  },
])

/**
 * Both ends of one stream between two hosts, whose time stands still: behind so much that is on its way pings get no answer
 * for seconds on a slow machine, and the connection would be given up.
 */
async function streamsBetween(
  test: Cleaner,
  { protocol, options }: { readonly protocol: ProtocolId; readonly options: Parameters<typeof startHost>[1] },
): Promise<[ByteStream, ByteStream]> {
  const clock = new ManualClock(systemClock.now())
  const [a, b] = [await startHost(test, { clock, ...options }), await startHost(test, { clock, ...options })]
  const { promise, resolve } = Promise.withResolvers<ByteStream>()
  b.handle(protocol, resolve)
  const opened = await a.open(b.id, protocol, { addresses: [firstAddress(b)] })
  return [opened, await within('the stream', promise)]
}

async function sendAll(stream: ByteStream, pieces: Iterable<Uint8Array>): Promise<void> {
  for (const piece of pieces) if (!stream.send(piece)) await stream.drained()
  await stream.close()
}

async function readAll(stream: ByteStream): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream.received) pieces.push(piece)
  return concatBytes(pieces)
}

/** Gives everything else a turn, so that the reader is slower than the writer. */
function otherTurns(): Promise<void> {
  return new Promise(resolve => setImmediate(() => setImmediate(resolve)))
}

for (const { how, protocol, options, aheadMax } of STREAMS) {
  describe(`net / streams ${how}`, () => {
    const connectedStreams = (test: Cleaner): ReturnType<typeof streamsBetween> =>
      streamsBetween(test, { protocol, options })

    it('brings bytes both ways at once, in order and whole', async test => {
      const [a, b] = await connectedStreams(test)
      const random = seededRandom(7)
      const sent = [1, 70_000, 3, 300_000, 1, 8192].map(size => random.bytes(size))
      const [back, forth] = await within(
        'the exchange',
        Promise.all([readAll(a), readAll(b), sendAll(a, sent), sendAll(b, sent.toReversed())]),
      )
      assert.deepEqual(forth, concatBytes(sent))
      assert.deepEqual(back, concatBytes(sent.toReversed()))
    })

    it('lets one side go on after the other has said all it had to say', async test => {
      const [a, b] = await connectedStreams(test)
      await a.close()
      assert.equal((await within('the end', readAll(b))).byteLength, 0)
      b.send(Uint8Array.of(5))
      await b.close()
      assert.deepEqual(await within('the answer', readAll(a)), Uint8Array.of(5))
      assert.throws(() => a.send(Uint8Array.of(1)), { code: 'STREAM_CLOSED' })
    })

    it('makes a fast writer wait for a slow reader, and loses nothing', async test => {
      const [a, b] = await connectedStreams(test)
      const total = 48 * MIB
      const piece = seededRandom(1).bytes(PIECE_BYTES)
      let sent = 0
      let received = 0
      let ahead = 0
      const writing = (async () => {
        for (; sent < total; sent += piece.byteLength) {
          if (!a.send(piece)) await a.drained()
          ahead = Math.max(ahead, sent - received)
        }
        await a.close()
      })()
      for await (const part of b.received) {
        const at = received % piece.byteLength
        assert.equal(part[0], piece[at])
        received += part.byteLength
        if (received % 7 === 0 || part.byteLength > 4096) await otherTurns()
      }
      await writing
      assert.equal(received, total)
      // What may be under way: the window, the reader's queue, and what sockets and TLS hold.
      assert.ok(ahead < 2 * aheadMax, `the writer was ${(ahead / MIB).toFixed(1)} MiB ahead`)
    })

    it('stops a writer at a reader who does not read at all, and goes on when it does', async test => {
      const [a, b] = await connectedStreams(test)
      const piece = new Uint8Array(PIECE_BYTES)
      let sent = 0
      let isWaiting = false
      const writing = (async () => {
        for (; sent < 48 * MIB; sent += piece.byteLength) {
          isWaiting = true
          if (!a.send(piece)) await a.drained()
          isWaiting = false
        }
        await a.close()
      })()
      // Turns of the loop are all it takes on loopback: the count stands still once every buffer is full.
      let last = -1
      for (let still = 0; still < 50; still = sent === last ? still + 1 : 0) {
        last = sent
        await otherTurns()
      }
      assert.ok(isWaiting)
      assert.ok(sent < aheadMax, `${sent} bytes went to nobody`)
      assert.equal((await within('the rest', readAll(b))).byteLength, 48 * MIB)
      await writing
    })

    it('resets the stream of a writer who does not wait, before its memory grows', async test => {
      const settings = { streamWriteBytes: MIB }
      const [a] = await streamsBetween(test, { protocol, options: { ...options, settings } })
      const piece = new Uint8Array(PIECE_BYTES)
      let sent = 0
      assert.throws(
        () => {
          for (; sent < 64 * MIB; sent += piece.byteLength) a.send(piece)
        },
        { code: 'STREAM_RESET' },
      )
      const windowBytes = Math.max(STREAM_WINDOW_BYTES_MAX, CARRIED_WINDOW_BYTES_MAX)
      assert.ok(sent <= settings.streamWriteBytes + windowBytes + piece.byteLength)
      await assert.rejects(a.drained(), { code: 'STREAM_RESET' })
    })

    it('sends what lies apart as one write, however large its parts', async test => {
      const [a, b] = await connectedStreams(test)
      const writes = [
        [Uint8Array.of(1, 2, 3), new Uint8Array(300_000).fill(4)],
        [Uint8Array.of(5), Uint8Array.of(6), new Uint8Array(70_000).fill(7), Uint8Array.of(8)],
        [Uint8Array.of(9), new Uint8Array(200_000).fill(10), Uint8Array.of(11), Uint8Array.of(12)],
      ]
      const reading = readAll(b)
      for (const parts of writes) if (!a.sendParts(parts)) await a.drained()
      await a.close()
      assert.deepEqual(await within('the bytes', reading), concatBytes(writes.flat()))
    })

    it('tells a reset from an end', async test => {
      const [a, b] = await connectedStreams(test)
      a.send(Uint8Array.of(1))
      const reading = readAll(b)
      const writing = assert.rejects(readAll(a), { code: 'STREAM_RESET' })
      a.abort(new Error('enough'))
      await assert.rejects(within('the reset', reading), { code: 'STREAM_RESET' })
      await writing
      assert.throws(() => a.send(Uint8Array.of(1)), { code: 'STREAM_RESET' })
    })

    it('resets the stream of a handler that fails', async test => {
      const [a, b] = [await startHost(test, options), await startHost(test, options)]
      b.handle(PROTOCOLS.stage, () => {
        throw new Error('a bug')
      })
      const stream = await a.open(b.id, PROTOCOLS.stage, { addresses: [firstAddress(b)] })
      await assert.rejects(within('the reset', readAll(stream)), { code: 'STREAM_RESET' })
      assert.equal(a.peers().length, 1)
    })

    it('has one reader', async test => {
      const [a] = await connectedStreams(test)
      const reading = assert.rejects(readAll(a), { code: 'STREAM_RESET' })
      await assert.rejects(readAll(a), /one reader/)
      a.abort(new Error('done'))
      await reading
    })
  })
}
