/** Sealed streams over streams that cut, hold back, change and drop what they carry. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type ByteStream,
  concatBytes,
  createStreamPair,
  ManualClock,
  type Random,
  seededRandom,
  StreamError,
} from '#base'
import { FRAME_HEADER_BYTES } from '#wire'
import { createSessionPair, type SessionPair } from '../../test/support/session-pair.ts'
import { SEALED_OPEN_MS_MAX, SEALED_PART_BYTES_MAX } from './limits.ts'
import { acceptSealedStream, openSealedStream } from './sealed-stream.ts'
import type { SessionFault } from './types.ts'

const PROTOCOL = '/koinon/stage/1'
const PEERS = { a: 'peer-a', b: 'peer-b' }

/** What somebody between the two ends makes of one write. Undefined: the end of that direction. */
type Between = (bytes: Uint8Array, index: number) => readonly Uint8Array[] | undefined

const asIs: Between = bytes => [bytes]

/** Two streams with somebody between them who changes what the first end writes. */
function between(forward: Between, back: Between = asIs): [ByteStream, ByteStream] {
  const [a, a2] = createStreamPair(PROTOCOL, PEERS)
  const [b2, b] = createStreamPair(PROTOCOL, PEERS)
  void pump(a2, b2, forward)
  void pump(b2, a2, back)
  return [a, b]
}

async function pump(from: ByteStream, to: ByteStream, change: Between): Promise<void> {
  let index = 0
  try {
    for await (const bytes of from.received) {
      const changed = change(bytes, index++)
      if (changed === undefined) break
      for (const piece of changed) to.send(piece)
    }
    await to.close()
  } catch (error) {
    to.abort(error instanceof Error ? error : new Error('broken'))
  }
}

type Ends = { readonly a: ByteStream; readonly b: ByteStream; readonly faults: SessionFault[] }

async function sealed(
  [innerA, innerB]: [ByteStream, ByteStream] = createStreamPair(PROTOCOL, PEERS),
  { dialler, listener, clock }: SessionPair = createSessionPair(),
): Promise<Ends> {
  const faults: SessionFault[] = []
  const onFault = (fault: SessionFault): void => void faults.push(fault)
  const a = openSealedStream({ stream: innerA, session: dialler, onFault })
  const b = await acceptSealedStream({ clock }, { stream: innerB, session: listener, onFault })
  return { a, b, faults }
}

async function readAll(stream: ByteStream): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream.received) pieces.push(piece)
  return concatBytes(pieces)
}

const codeOf = async (reading: Promise<unknown>): Promise<string> => {
  try {
    await reading
    return 'ended'
  } catch (error) {
    return error instanceof StreamError ? error.code : String(error)
  }
}

/** Cuts and joins writes as a network does. */
function recut(random: Random): Between {
  return bytes => {
    const pieces: Uint8Array[] = []
    for (let offset = 0; offset < bytes.byteLength; ) {
      const end = offset + 1 + (random.uint32() % 5000)
      pieces.push(bytes.subarray(offset, end))
      offset = end
    }
    return pieces
  }
}

test('what is written arrives, in both directions, however the bytes are cut', async () => {
  for (let seed = 0; seed < 60; seed++) {
    const random = seededRandom(seed)
    const rekey = { channel: { frames: 1 + (random.uint32() % 6) } }
    const { a, b, faults } = await sealed(between(recut(random), recut(random)), createSessionPair({ seed, rekey }))
    assert.deepEqual([a.peer, b.peer, a.protocol], ['peer-b', 'peer-a', PROTOCOL])
    const writes = (): Uint8Array[] =>
      Array.from({ length: random.uint32() % 20 }, () => random.bytes(random.uint32() % 3000))
    const [toB, toA] = [writes(), writes()]
    for (const bytes of toB) a.send(bytes)
    for (const bytes of toA) b.send(bytes)
    await Promise.all([a.close(), b.close()])
    assert.deepEqual(await readAll(b), concatBytes(toB), `seed ${seed}`)
    assert.deepEqual(await readAll(a), concatBytes(toA), `seed ${seed}`)
    assert.deepEqual(faults, [])
  }
})

test('a write is one frame and one write below, up to 256 KiB; a longer one is cut', async () => {
  const lengths: number[] = []
  const { a, b } = await sealed(
    between(bytes => {
      lengths.push(bytes.byteLength)
      return [bytes]
    }),
  )
  lengths.length = 0
  assert.ok(a.send(new Uint8Array(0)))
  a.send(new Uint8Array(8192))
  a.send(new Uint8Array(SEALED_PART_BYTES_MAX))
  a.send(new Uint8Array(2 * SEALED_PART_BYTES_MAX + 5))
  await a.close()
  assert.equal((await readAll(b)).byteLength, 8192 + 3 * SEALED_PART_BYTES_MAX + 5)
  const [header, part] = [FRAME_HEADER_BYTES, SEALED_PART_BYTES_MAX]
  assert.deepEqual(lengths, [header + 8192, header + part, header + part, header + part, header + 5, header])
})

test('what was begun while nobody waited is used, and dropped where a key was replaced meanwhile', async () => {
  const { a, b } = await sealed(undefined, createSessionPair({ rekey: { channel: { frames: 3 } } }))
  const sent = Array.from({ length: 12 }, (_, i) => Uint8Array.of(i))
  const received = readAll(b)
  for (const bytes of sent) {
    a.send(bytes)
    await new Promise(resolve => setImmediate(resolve))
  }
  await a.close()
  assert.deepEqual(await received, concatBytes(sent))
})

test('a stream that somebody ends early is an error for its reader, wherever it is cut', async () => {
  for (let cut = 1; cut <= 5; cut++) {
    const { a, b, faults } = await sealed(between((bytes, index) => (index === cut ? undefined : [bytes])))
    for (const word of ['one', 'two', 'three']) a.send(new TextEncoder().encode(word))
    await a.close()
    const reading = codeOf(readAll(b))
    assert.equal(await reading, cut < 5 ? 'STREAM_TRUNCATED' : 'ended')
    assert.deepEqual(faults, [])
  }
  // In the middle of a frame, the last one too.
  for (const index of [2, 4]) {
    const [innerA, innerB] = between((bytes, i) => (i > index ? [] : i === index ? [bytes.subarray(0, 95)] : [bytes]))
    const { a, b } = await sealed([innerA, innerB])
    for (const word of ['one', 'two', 'three']) a.send(new TextEncoder().encode(word))
    await a.close()
    assert.equal(await codeOf(readAll(b)), 'STREAM_TRUNCATED')
  }
})

test('bytes that were changed, dropped, repeated or swapped on the way end the stream, and are told once', async () => {
  const attacks: ((random: Random) => Between)[] = [
    random => (bytes, index) => {
      if (index !== 2) return [bytes]
      const changed = bytes.slice()
      const bit = random.uint32() % (8 * bytes.byteLength)
      changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
      return [changed]
    },
    () => (bytes, index) => (index === 2 ? [] : [bytes]),
    () => (bytes, index) => (index === 2 ? [bytes, bytes] : [bytes]),
    () => {
      let held = new Uint8Array(0)
      return (bytes, index) => {
        if (index === 2) held = bytes.slice()
        return index === 2 ? [] : index === 3 ? [bytes, held] : [bytes]
      }
    },
  ]
  for (let seed = 0; seed < 200; seed++) {
    const attack = attacks[seed % attacks.length]
    assert.ok(attack !== undefined)
    const { a, b, faults } = await sealed(between(attack(seededRandom(seed))))
    for (const word of ['one', 'two', 'three', 'four']) a.send(new TextEncoder().encode(word))
    await a.close()
    const code = await codeOf(readAll(b))
    // A length that was made longer swallows what follows and then finds nothing more.
    if (code === 'STREAM_TRUNCATED') assert.equal(seed % attacks.length, 0, `seed ${seed}`)
    else {
      assert.equal(code, 'STREAM_TAMPERED', `seed ${seed}`)
      assert.equal(faults.length, 1, `seed ${seed}`)
      assert.ok(faults[0]?.isHostile)
    }
    assert.equal(await codeOf(readAll(b)), code, 'it stays so')
    assert.throws(() => b.send(Uint8Array.of(1)), { code })
  }
})

test('a reader gets bytes of its own', async () => {
  const pieces: Uint8Array[] = []
  const { a, b } = await sealed(
    between(bytes => {
      pieces.push(bytes)
      return [bytes]
    }),
  )
  a.send(new TextEncoder().encode('mine'))
  const reader = b.received[Symbol.asyncIterator]()
  const { value } = await reader.next()
  for (const piece of pieces) piece.fill(0)
  assert.equal(new TextDecoder().decode(value), 'mine')
  assert.notEqual(value?.slice().buffer, value?.buffer)
})

test('a stream has one reader', async () => {
  const { a, b } = await sealed()
  const reader = b.received[Symbol.asyncIterator]()
  const waiting = reader.next()
  await assert.rejects(reader.next(), TypeError)
  a.send(Uint8Array.of(7))
  assert.deepEqual((await waiting).value, Uint8Array.of(7))
})

test('one direction ends, the other goes on', async () => {
  const { a, b } = await sealed()
  a.send(new TextEncoder().encode('question'))
  await a.close()
  await a.close()
  assert.throws(() => a.send(Uint8Array.of(1)), { code: 'STREAM_CLOSED' })
  assert.equal(new TextDecoder().decode(await readAll(b)), 'question')
  b.send(new TextEncoder().encode('answer'))
  await b.close()
  assert.equal(new TextDecoder().decode(await readAll(a)), 'answer')
})

test('an abort reaches the other side as a reset, and our own reader too', async () => {
  const { a, b, faults } = await sealed()
  const reading = codeOf(readAll(b))
  const own = codeOf(readAll(a))
  a.abort(new Error('enough'))
  assert.deepEqual([await reading, await own], ['STREAM_RESET', 'STREAM_RESET'])
  assert.throws(() => a.send(Uint8Array.of(1)), { code: 'STREAM_RESET' })
  assert.deepEqual(faults, [])
})

test('a full stream below says so to whoever writes', async () => {
  const [innerA, innerB] = createStreamPair(PROTOCOL, PEERS)
  let drain = (): void => undefined
  const full: ByteStream = {
    ...innerA,
    send: bytes => {
      innerA.send(bytes)
      return false
    },
    drained: () =>
      new Promise(resolve => {
        drain = resolve
      }),
  }
  const { a } = await sealed([full, innerB])
  assert.equal(a.send(Uint8Array.of(1)), false)
  let isDrained = false
  const waiting = a.drained().then(() => {
    isDrained = true
  })
  await Promise.resolve()
  assert.equal(isDrained, false)
  drain()
  await waiting
})

test('a stream whose session ends is reset, and nobody is blamed', async () => {
  const pair = createSessionPair()
  const { a, b, faults } = await sealed(undefined, pair)
  a.send(Uint8Array.of(1))
  pair.listener.close()
  assert.equal(await codeOf(readAll(b)), 'STREAM_RESET')
  pair.dialler.close()
  assert.throws(() => a.send(Uint8Array.of(1)), { code: 'STREAM_RESET' })
  assert.deepEqual(faults, [])
})

test('a stream that cannot say its end is reset, so that nobody takes it for whole', async () => {
  const pair = createSessionPair()
  const { a, b } = await sealed(undefined, pair)
  pair.dialler.close()
  await assert.rejects(a.close(), { code: 'STREAM_RESET' })
  assert.equal(await codeOf(readAll(b)), 'STREAM_RESET')
})

test('what does not begin with an opening of this session is refused and reset', async () => {
  const { dialler, listener, clock } = createSessionPair()
  const foreign = createSessionPair({ seed: 2 }).dialler
  const openings: readonly (readonly [string, (stream: ByteStream) => void, string, number])[] = [
    ['clear bytes', stream => void stream.send(new TextEncoder().encode('GET / HTTP/1.1')), 'STREAM_TAMPERED', 1],
    [
      'another session',
      stream => void openSealedStream({ stream, session: foreign, onFault: () => undefined }),
      'STREAM_TAMPERED',
      1,
    ],
    [
      'another protocol',
      stream => {
        openSealedStream({
          stream: { ...stream, protocol: '/koinon/bulk/1' },
          session: dialler,
          onFault: () => undefined,
        })
      },
      'STREAM_TAMPERED',
      1,
    ],
    [
      'a long payload',
      stream => {
        stream.send(Uint8Array.from([0x5a, 0x45, 1, 0x94, 0, 0, 0, 129]))
      },
      'STREAM_TAMPERED',
      1,
    ],
    ['nothing', stream => void stream.close(), 'STREAM_TRUNCATED', 0],
  ]
  for (const [what, begin, code, faultCount] of openings) {
    const [innerA, innerB] = createStreamPair(PROTOCOL, PEERS)
    const faults: SessionFault[] = []
    begin(innerA)
    const accepting = acceptSealedStream(
      { clock },
      { stream: innerB, session: listener, onFault: f => void faults.push(f) },
    )
    await assert.rejects(accepting, { code }, what)
    assert.equal(faults.length, faultCount, what)
    assert.equal(await codeOf(readAll(innerA)), 'STREAM_RESET', what)
  }
})

test('an opening that does not come is waited for ten seconds, or until the caller gives up', async () => {
  const { listener } = createSessionPair()
  const clock = new ManualClock()
  const onFault = (): void => assert.fail('nobody did anything')
  const late = acceptSealedStream(
    { clock },
    { stream: createStreamPair(PROTOCOL, PEERS)[1], session: listener, onFault },
  )
  clock.advance(SEALED_OPEN_MS_MAX)
  await assert.rejects(late, { code: 'TIMEOUT' })
  const controller = new AbortController()
  const stopped = acceptSealedStream(
    { clock },
    { stream: createStreamPair(PROTOCOL, PEERS)[1], session: listener, onFault, signal: controller.signal },
  )
  controller.abort(new Error('stopping'))
  await assert.rejects(stopped, /stopping/)
})

test('a stream that is gone before it is opened takes no channel with it', () => {
  const { dialler } = createSessionPair()
  const [inner] = createStreamPair(PROTOCOL, PEERS)
  inner.abort(new Error('gone'))
  assert.throws(() => openSealedStream({ stream: inner, session: dialler, onFault: () => undefined }), {
    code: 'STREAM_CLOSED',
  })
})
