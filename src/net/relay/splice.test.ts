import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, createStreamPair, ManualClock } from '#base'
import { type CircuitLimits, PROTOCOLS, RELAY_HEAD_BYTES, relayDataHead, type RelayCut, type RelayFrame } from '#wire'
import { turns } from '../../../test/support/turns.ts'
import { RELAY_LINGER_MS } from './limits.ts'
import { RelayStream } from './relay-stream.ts'
import { Splice } from './splice.ts'

const WIDE: CircuitLimits = { bytes: 1e9, durationMs: 1e9, bytesPerSecond: 1e9 }

type Bench = {
  readonly clock: ManualClock
  readonly a: RelayStream
  readonly b: RelayStream
  readonly cuts: (RelayCut | undefined)[]
  readonly passed: () => number
  readonly done: Promise<void>
  readonly stop: AbortController
}

/** A circuit between two ends in memory; `wrap` changes the relay's stream to b. */
function bench(limits: Partial<CircuitLimits>, wrap: (stream: ByteStream) => ByteStream = stream => stream): Bench {
  const clock = new ManualClock()
  const [a, atA] = createStreamPair(PROTOCOLS.relay, { a: 'a', b: 'relay' })
  const [b, atB] = createStreamPair(PROTOCOLS.relay, { a: 'b', b: 'relay' })
  const cuts: (RelayCut | undefined)[] = []
  const stop = new AbortController()
  let passed = 0
  const splice = new Splice({ clock }, [new RelayStream(atA), new RelayStream(wrap(atB))], {
    limits: { ...WIDE, ...limits },
    signal: stop.signal,
    onBytes: (_from, count) => {
      passed += count
    },
    onOver: cut => cuts.push(cut),
  })
  return { clock, a: new RelayStream(a), b: new RelayStream(b), cuts, passed: () => passed, done: splice.run(), stop }
}

/** What an end hears until nothing more comes. */
async function heard(end: RelayStream): Promise<{ readonly bytes: number; readonly last: RelayFrame | undefined }> {
  let bytes = 0
  let last: RelayFrame | undefined
  for (;;) {
    const frame = await end.next()
    if (frame === undefined) return { bytes, last }
    assert.ok(!('code' in frame))
    last = frame
    if (frame.kind === 'data') bytes += frame.bytes.byteLength
  }
}

describe('net / relay / splice', () => {
  it('passes bytes both ways, and ends both when one end does', async () => {
    const { a, b, cuts, done } = bench({})
    a.send(Uint8Array.of(1, 2))
    b.send(Uint8Array.of(3))
    await a.close()
    const atB = await heard(b)
    assert.equal(atB.bytes, 2)
    assert.equal((await heard(a)).bytes, 1)
    await b.close()
    await done
    assert.deepEqual(cuts, [undefined])
  })

  it('cuts a circuit over its bytes, and tells both ends why; heads count', async () => {
    const { clock, a, b, cuts, done } = bench({ bytes: 10 * (100 + RELAY_HEAD_BYTES) })
    for (let index = 0; index < 11; index++) (index % 2 === 0 ? a : b).send(new Uint8Array(100))
    await turns(5)
    const [atA, atB] = await Promise.all([heard(a), heard(b)])
    assert.equal(atA.bytes + atB.bytes, 1000)
    for (const { last } of [atA, atB])
      assert.deepEqual(last, { kind: 'message', message: { type: 'cut', reason: 'bytes' } })
    assert.deepEqual(cuts, ['bytes'])
    // Ends that do not hang up are let go of all the same.
    clock.advance(RELAY_LINGER_MS)
    await done
  })

  it('cuts a circuit that has stood as long as it may, and one whose relay goes away', async () => {
    for (const reason of ['duration', 'stopping'] as const) {
      const { clock, a, b, cuts, done, stop } = bench({ durationMs: 5_000 })
      clock.advance(4_999)
      assert.deepEqual(cuts, [])
      if (reason === 'duration') clock.advance(1)
      else stop.abort()
      const ends = await Promise.all([heard(a), heard(b)])
      for (const { last } of ends) assert.deepEqual(last, { kind: 'message', message: { type: 'cut', reason } })
      clock.advance(RELAY_LINGER_MS)
      await done
      assert.deepEqual(cuts, [reason])
    }
  })

  it('tells one end when the other was reset', async () => {
    const { clock, a, b, cuts, done } = bench({})
    a.abort(new Error('gone'))
    assert.deepEqual((await heard(b)).last, { kind: 'message', message: { type: 'cut', reason: 'lost' } })
    clock.advance(RELAY_LINGER_MS)
    await done
    assert.deepEqual(cuts, ['lost'])
  })

  it('cuts where an end does not keep to the protocol', async () => {
    const { clock, a, b, cuts, done } = bench({})
    a.say({ type: 'accept' })
    assert.deepEqual((await heard(b)).last, { kind: 'message', message: { type: 'cut', reason: 'malformed' } })
    clock.advance(RELAY_LINGER_MS)
    await done
    assert.deepEqual(cuts, ['malformed'])
  })

  it('passes no more bytes a second than the circuit may', async () => {
    const { clock, a, b, passed, done } = bench({ bytesPerSecond: 1_000 })
    const piece = new Uint8Array(100 - RELAY_HEAD_BYTES)
    for (let index = 0; index < 50; index++) a.send(piece)
    await turns(20)
    const atOnce = passed() / piece.byteLength
    assert.ok(atOnce >= 10 && atOnce <= 11, `${atOnce} pieces at once`)
    for (let second = 1; second <= 3; second++) {
      for (let tenth = 0; tenth < 10; tenth++) {
        clock.advance(100)
        await turns(3)
      }
      const pieces = passed() / piece.byteLength
      assert.ok(Math.abs(pieces - 10 * (second + 1)) <= 1, `${pieces} pieces after ${second} s`)
    }
    await b.close()
    clock.advance(RELAY_LINGER_MS)
    await turns(5)
    clock.advance(RELAY_LINGER_MS)
    await done
  })

  it('reads no more of one end than the other takes', async () => {
    let room = Promise.withResolvers<void>()
    let sent = 0
    const { a, passed, done, b, clock } = bench({}, stream => ({
      peer: stream.peer,
      protocol: stream.protocol,
      received: stream.received,
      send: bytes => stream.send(bytes),
      sendParts: parts => {
        sent++
        stream.sendParts(parts)
        return false
      },
      drained: () => room.promise,
      close: () => stream.close(),
      abort: error => stream.abort(error),
    }))
    for (let index = 0; index < 100; index++) a.send(new Uint8Array(1000))
    await turns(10)
    assert.deepEqual([sent, passed()], [1, 1000])
    for (let index = 2; index < 5; index++) {
      const before = room
      room = Promise.withResolvers<void>()
      before.resolve()
      await turns(5)
      assert.equal(sent, index)
    }
    await b.close()
    await turns(2)
    clock.advance(RELAY_LINGER_MS)
    room.resolve()
    await done
  })

  it('bears bytes that a hostile end sends as heads that announce much', async () => {
    const { a, b, passed, done, clock } = bench({})
    // Announced two gigabytes: nothing is held for it, what comes is passed on.
    const [raw, other] = createStreamPair(PROTOCOLS.relay, { a: 'x', b: 'y' })
    raw.sendParts([relayDataHead(0x7fff_ffff), new Uint8Array(3)])
    const frame = await new RelayStream(other).next()
    assert.ok(frame !== undefined && !('code' in frame) && frame.kind === 'data')
    a.send(frame.bytes)
    await turns(3)
    assert.equal(passed(), 3)
    b.abort(new Error('done'))
    await turns(3)
    clock.advance(RELAY_LINGER_MS)
    await done
  })
})
