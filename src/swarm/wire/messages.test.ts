import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes, seededRandom, systemRandom } from '#base'
import { isFault } from './faults.ts'
import { CHUNK_BYTES, EXTENDED_BYTES_MAX, HASHES_MAX } from './limits.ts'
import { encodeMessage } from './messages.ts'
import { EXTENSION_IDS, HASH_BYTES, proofLayersFor, uncleCount } from './protocol.ts'
import { Recorder } from '../../../test/support/wire-recorder.ts'
import type { HashRange, PeerMessage } from './types.ts'

const OFFERED = ['metadata', 'core', 'votes'] as const
const uint32 = fc.nat({ max: 2 ** 32 - 1 })
const bytes = (max: number) => fc.uint8Array({ minLength: 1, maxLength: max })
const span = { piece: uint32, offset: uint32, length: uint32 }

const hashRange = fc
  .record({
    root: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    baseLayer: fc.nat({ max: 20 }),
    step: fc.nat({ max: 1000 }),
    logLength: fc.nat({ max: 6 }),
    proofLayers: fc.nat({ max: 20 }),
  })
  .map(({ root, baseLayer, step, logLength, proofLayers }): HashRange => {
    const length = 2 ** logLength
    return { root, baseLayer, index: step * length, length, proofLayers }
  })

const chunk = fc.oneof(
  fc.record({ what: fc.constantFrom('request' as const, 'reject' as const), chunk: fc.nat({ max: 63 }) }),
  fc.record({ chunk: fc.nat({ max: 62 }), last: bytes(300) }).map(({ chunk: at, last }) => {
    const totalBytes = at * CHUNK_BYTES + last.byteLength
    return { what: 'data' as const, chunk: at, totalBytes, bytes: last }
  }),
)

const extendedHandshake = fc.record({
  metadataBytes: fc.option(fc.integer({ min: 1, max: 100_000 }), { nil: undefined }),
  coreBytes: fc.option(fc.integer({ min: 1, max: 100_000 }), { nil: undefined }),
  manifestBytes: fc.option(fc.integer({ min: 1, max: 100_000 }), { nil: undefined }),
  voteCount: fc.option(fc.nat({ max: 1000 }), { nil: undefined }),
  requestsMax: fc.option(fc.integer({ min: 1, max: 1000 }), { nil: undefined }),
  listenPort: fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
  agent: fc.option(fc.stringMatching(/^[ -~]{0,40}$/), { nil: undefined }),
})

const shaped: fc.Arbitrary<PeerMessage> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('choke', 'unchoke', 'interested', 'not-interested', 'have-all', 'have-none', 'keep-alive'),
  }),
  fc.record({ kind: fc.constant('have' as const), piece: uint32 }),
  fc.record({ kind: fc.constant('bitfield' as const), bytes: bytes(500) }),
  fc.record({ kind: fc.constantFrom('request', 'cancel', 'reject'), ...span }),
  fc.record({ kind: fc.constant('piece' as const), piece: uint32, offset: uint32, bytes: bytes(2000) }),
  hashRange.chain(range =>
    fc.record({ kind: fc.constantFrom('hash-request', 'hash-reject') }).map(k => ({ ...k, ...range })),
  ),
  hashRange.chain(range => {
    const count = (range.length + uncleCount(range)) * HASH_BYTES
    return fc
      .uint8Array({ minLength: count, maxLength: count })
      .map(hashes => ({ kind: 'hashes' as const, ...range, hashes }))
  }),
  extendedHandshake.map(said => ({ kind: 'extended-handshake' as const, ...said })),
  chunk.map(part => ({ kind: 'metadata' as const, ...part })),
  fc
    .tuple(chunk, fc.constantFrom('core' as const, 'manifest' as const))
    .map(([part, document]) => ({ kind: 'core' as const, document, ...part })),
  fc.record({ kind: fc.constant('votes-request' as const), from: fc.nat({ max: 1000 }) }),
  fc
    .record({
      from: fc.nat({ max: 1000 }),
      more: fc.nat({ max: 100 }),
      records: fc.array(bytes(200), { maxLength: 10 }),
    })
    .map(({ from, more, records }) => ({ kind: 'votes' as const, from, total: from + records.length + more, records })),
)

/** With the prototype that all objects have but those of the generator. */
const message = shaped.map(made => ({ ...made }))

function encode(messages: readonly PeerMessage[]): Uint8Array {
  return concatBytes(messages.flatMap(each => encodeMessage(each, { ids: EXTENSION_IDS, offered: OFFERED })))
}

test('every message comes back as it was, however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 5 }),
      fc.infiniteStream(fc.nat({ max: 700 })),
      (messages, cuts) => {
        const stream = encode(messages)
        const recorder = new Recorder()
        for (let at = 0; at < stream.byteLength; ) {
          const end = Math.min(stream.byteLength, at + 1 + (cuts.next().value ?? 0))
          recorder.push(stream.subarray(at, end))
          at = end
        }
        assert.equal(recorder.fault, undefined)
        assert.deepEqual(recorder.messages, messages)
        assert.ok(recorder.reader.isBetweenMessages)
      },
    ),
    { numRuns: 400 },
  )
})

test('every message comes back when the stream is cut at each of its bytes', () => {
  fc.assert(
    fc.property(message, each => {
      const stream = encode([each, { kind: 'have', piece: 7 }])
      const step = Math.max(1, Math.floor(stream.byteLength / 200))
      for (let cut = 1; cut < stream.byteLength; cut += step) {
        const recorder = new Recorder()
        recorder.push(stream.subarray(0, cut))
        recorder.push(stream.subarray(cut))
        assert.equal(recorder.fault, undefined)
        assert.deepEqual(recorder.messages, [each, { kind: 'have', piece: 7 }])
      }
    }),
    { numRuns: 150 },
  )
})

test('a block owns its memory, which is exactly as large as it', () => {
  const recorder = new Recorder()
  recorder.push(encode([{ kind: 'piece', piece: 1, offset: 0, bytes: new Uint8Array(5000).fill(9) }]))
  const [piece] = recorder.messages
  assert.ok(piece?.kind === 'piece')
  assert.equal(piece.bytes.byteOffset, 0)
  assert.equal(piece.bytes.buffer.byteLength, 5000)
  assert.equal(structuredClone(piece.bytes, { transfer: [piece.bytes.buffer] }).byteLength, 5000)
})

test('mutated streams give messages or a fault, never an exception, and hold no more than was allowed', t => {
  const seed = systemRandom.uint32() % 2 ** 31
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const samples = fc.sample(fc.array(message, { minLength: 1, maxLength: 4 }), { numRuns: 200, seed }).map(encode)
  for (let round = 0; round < 10_000; round++) {
    const stream = (samples[random.uint32() % samples.length] ?? new Uint8Array(0)).slice()
    for (let left = 1 + (random.uint32() % 4); left > 0; left--) {
      stream[random.uint32() % stream.byteLength] = random.uint32() & 0xff
    }
    const recorder = new Recorder()
    const cut = random.uint32() % stream.byteLength
    for (const part of [stream.subarray(0, cut), stream.subarray(cut)]) {
      recorder.push(part)
      assert.ok(recorder.reader.heldBytes <= Recorder.heldBytesMax, `seed ${seed}, round ${round}`)
    }
    const fault = recorder.fault
    if (fault === undefined) continue
    assert.ok(isFault(fault) && fault.blame === 'peer', `seed ${seed}, round ${round}`)
    recorder.push(encode([{ kind: 'choke' }]))
    assert.equal(recorder.fault, fault, 'no way leads back from a fault')
  }
})

test('lengths are refused before anything of the body has come', () => {
  const head = (length: number, id: number): Uint8Array => {
    const made = new Uint8Array(5)
    new DataView(made.buffer).setUint32(0, length)
    made[4] = id
    return made
  }
  const faultOf = (bytes: Uint8Array): string | undefined => {
    const recorder = new Recorder()
    recorder.push(bytes)
    assert.ok(recorder.reader.heldBytes < 16)
    return recorder.fault?.code
  }
  assert.equal(faultOf(head(2 ** 32 - 1, 20)), 'SWARM_TOO_LARGE')
  assert.equal(faultOf(head(EXTENDED_BYTES_MAX + 2, 20)), 'SWARM_TOO_LARGE')
  assert.equal(faultOf(head(2 ** 31, 99)), 'SWARM_TOO_LARGE')
  assert.equal(faultOf(head(2 ** 31, 5)), 'SWARM_TOO_LARGE')
  assert.equal(faultOf(head(2, 0)), 'SWARM_MALFORMED')
  assert.equal(faultOf(head(9, 7)), 'SWARM_MALFORMED')
  assert.equal(faultOf(head(49 + HASHES_MAX * 64, 22)), 'SWARM_TOO_LARGE')
  assert.equal(faultOf(concatBytes([head(2 ** 31, 7), new Uint8Array(8)])), 'SWARM_UNASKED')
})

test('messages of kinds that are not known are passed over', () => {
  const recorder = new Recorder()
  recorder.push(Uint8Array.of(0, 0, 0, 3, 77, 1, 2, 0, 0, 0, 3, 9, 0x1a, 0xe1, 0, 0, 0, 1, 1))
  assert.deepEqual(recorder.messages, [{ kind: 'unchoke' }])
})

test('uncle hashes are counted as libtorrent counts them', () => {
  assert.equal(uncleCount({ length: 2, proofLayers: 4 }), 4)
  assert.equal(uncleCount({ length: 32, proofLayers: 4 }), 0)
  assert.equal(uncleCount({ length: 64, proofLayers: proofLayersFor(11) }), 5)
  assert.equal(uncleCount({ length: 512, proofLayers: 3 }), 0)
})
