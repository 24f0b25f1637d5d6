import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { x25519 } from '@noble/curves/ed25519.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import * as fc from 'fast-check'
import { concatBytes, seededRandom, systemRandom, toHex } from '#base'
import { x25519Key } from '#crypto'
import type { HandshakeFault, HandshakeRole } from './handshake.ts'
import { type ResumeMessage, Resumption, type ResumptionOptions } from './resumption.ts'

/** All that this file draws comes from it, in the order of its tests: with the same number it comes again. */
const SEED = systemRandom.uint32()
const random = seededRandom(SEED)

const PROLOGUE = new TextEncoder().encode('HELLO of one side, HELLO of the other')
const SECRET = random.bytes(32)

function side(role: HandshakeRole, options: Partial<ResumptionOptions> = {}): Resumption {
  return new Resumption({ random }, { role, secret: SECRET, prologue: PROLOGUE, ...options })
}

/** What lies between the two, and may change or record what passes. */
type Wire = (message: ResumeMessage, index: number) => ResumeMessage

/** Lets the two talk until both are done or one of them finds a fault. */
function talk(
  [dialler, listener]: readonly [Resumption, Resumption],
  wire: Wire = message => message,
): HandshakeFault | undefined {
  for (const [index, [writer, reader]] of [
    [dialler, listener] as const,
    [listener, dialler] as const,
    [dialler, listener] as const,
  ].entries()) {
    const fault = reader.read(wire(writer.write(), index))
    if (fault !== undefined) {
      assert.equal(reader.turn, 'failed')
      assert.throws(() => reader.result(), /when it is done/)
      return fault
    }
  }
  return undefined
}

afterEach(t => {
  if ('passed' in t && !t.passed) t.diagnostic(`seed ${SEED} of all tests here`)
})

test('two nodes that share a secret agree on new keys and on the next secret', () => {
  const [dialler, listener] = [side('dialler'), side('listener')] as const
  const shapes: string[][] = []
  const record: Wire = message => {
    shapes.push(Object.keys(message))
    return message
  }
  assert.equal(talk([dialler, listener], record), undefined)
  assert.deepEqual(shapes, [['share'], ['share', 'mac'], ['mac']])
  assert.deepEqual([dialler.turn, listener.turn], ['done', 'done'])
  const [ours, theirs] = [dialler.result(), listener.result()]
  assert.deepEqual(ours.send, theirs.receive)
  assert.deepEqual(ours.receive, theirs.send)
  assert.deepEqual(ours.resumptionSecret, theirs.resumptionSecret)
  assert.deepEqual(ours.transcript, theirs.transcript)
  const all = [ours.send, ours.receive, ours.resumptionSecret, ours.transcript, SECRET]
  assert.deepEqual(
    all.map(bytes => bytes.byteLength),
    [32, 32, 32, 32, 32],
  )
  assert.equal(new Set(all.map(toHex)).size, 5)
})

test('an implementation on other libraries derives the same', () => {
  const text = (value: string): Uint8Array => new TextEncoder().encode(value)
  const private32 = random.bytes(32)
  const share = x25519.getPublicKey(private32)
  const listener = side('listener')
  assert.equal(listener.read({ share }), undefined)
  const answer = listener.write()
  assert.ok(answer.share !== undefined)
  const transcript = sha256(concatBytes([text('koinon/resume/1'), sha256(PROLOGUE), share, answer.share]))
  const agreed = x25519.getSharedSecret(private32, answer.share)
  const keys = hkdf(sha256, SECRET, agreed, concatBytes([text('koinon/resume-keys/1'), transcript]), 160)
  assert.deepEqual(answer.mac, hmac(sha256, keys.subarray(32, 64), transcript))
  assert.equal(listener.read({ mac: hmac(sha256, keys.subarray(0, 32), transcript) }), undefined)
  const result = listener.result()
  assert.deepEqual(result.receive, keys.slice(64, 96))
  assert.deepEqual(result.send, keys.slice(96, 128))
  assert.deepEqual(result.resumptionSecret, keys.slice(128))
  assert.deepEqual(result.transcript, transcript)
})

test('the secret moves on: the next resumption needs the new one, and keys never come twice', () => {
  const seen = new Set<string>()
  let secret: Uint8Array = SECRET
  for (let round = 0; round < 20; round++) {
    const pair = [side('dialler', { secret }), side('listener', { secret })] as const
    assert.equal(talk(pair), undefined)
    const { send, receive, resumptionSecret, transcript } = pair[0].result()
    for (const bytes of [send, receive, resumptionSecret, transcript]) seen.add(toHex(bytes))
    const stale = [side('dialler', { secret }), side('listener', { secret: resumptionSecret })] as const
    assert.equal(talk(stale)?.code, 'HANDSHAKE_UNAUTHENTIC')
    secret = resumptionSecret
  }
  assert.equal(seen.size, 80)
  const again = [side('dialler'), side('listener')] as const
  assert.equal(talk(again), undefined)
  assert.ok(!seen.has(toHex(again[0].result().send)), 'an old secret alone does not give the keys back')
})

test('either side finds out that the other has another secret', () => {
  const secret = random.bytes(32)
  assert.equal(talk([side('dialler'), side('listener', { secret })])?.code, 'HANDSHAKE_UNAUTHENTIC')
  // A dialler that answers although the listener's mac does not fit: without the secret it can but guess.
  const listener = side('listener')
  assert.equal(listener.read(side('dialler', { secret }).write()), undefined)
  listener.write()
  assert.equal(listener.read({ mac: random.bytes(32) })?.code, 'HANDSHAKE_UNAUTHENTIC')
})

test('a version or suite that was changed in the HELLOs ends the resumption', () => {
  const prologue = PROLOGUE.subarray(1)
  assert.equal(talk([side('dialler'), side('listener', { prologue })])?.code, 'HANDSHAKE_UNAUTHENTIC')
})

test('whatever bit of whatever field is flipped, the resumption does not come to an end', t => {
  const seed = random.uint32() | 0
  t.diagnostic(`seed ${seed}`)
  const places = fc.constantFrom(
    ...([
      [0, 'share'],
      [1, 'share'],
      [1, 'mac'],
      [2, 'mac'],
    ] as const),
  )
  fc.assert(
    fc.property(places, fc.nat(255), ([target, field], bit) => {
      const fault = talk([side('dialler'), side('listener')], (message, index) =>
        index === target ? { ...message, [field]: flipped(message[field], bit) } : message,
      )
      assert.ok(fault?.code === 'HANDSHAKE_UNAUTHENTIC' || fault?.code === 'HANDSHAKE_KEY_INVALID', fault?.code)
    }),
    { seed, numRuns: 300 },
  )
})

test('a field too many, too few, too short or too long is a fault', () => {
  const bytes = random.bytes(32)
  const wrong: ReadonlyArray<readonly [index: number, message: ResumeMessage, code: HandshakeFault['code']]> = [
    [0, {}, 'HANDSHAKE_MALFORMED'],
    [0, { mac: bytes }, 'HANDSHAKE_MALFORMED'],
    [0, { share: bytes, mac: bytes }, 'HANDSHAKE_MALFORMED'],
    [0, { share: bytes.subarray(1) }, 'HANDSHAKE_SIZE'],
    [0, { share: new Uint8Array(33) }, 'HANDSHAKE_SIZE'],
    [1, {}, 'HANDSHAKE_MALFORMED'],
    [1, { share: bytes }, 'HANDSHAKE_MALFORMED'],
    [1, { mac: bytes }, 'HANDSHAKE_MALFORMED'],
    [1, { share: x25519Key(bytes).publicKey, mac: bytes.subarray(1) }, 'HANDSHAKE_UNAUTHENTIC'],
    [2, {}, 'HANDSHAKE_MALFORMED'],
    [2, { share: bytes, mac: bytes }, 'HANDSHAKE_MALFORMED'],
    [2, { share: bytes }, 'HANDSHAKE_MALFORMED'],
    [2, { mac: new Uint8Array(0) }, 'HANDSHAKE_UNAUTHENTIC'],
  ]
  for (const [target, replacement, code] of wrong) {
    const fault = talk([side('dialler'), side('listener')], (message, index) =>
      index === target ? replacement : message,
    )
    assert.equal(fault?.code, code, `message ${target + 1}: ${Object.keys(replacement).join()}`)
  }
})

test('a share of small order is refused on either side', () => {
  const share = new Uint8Array(32)
  assert.equal(side('listener').read({ share })?.code, 'HANDSHAKE_KEY_INVALID')
  const dialler = side('dialler')
  dialler.write()
  assert.equal(dialler.read({ share, mac: share })?.code, 'HANDSHAKE_KEY_INVALID')
})

test('messages that were recorded, or that a node said itself, prove nothing', () => {
  const recorded: ResumeMessage[] = []
  const record: Wire = message => {
    recorded.push(message)
    return message
  }
  assert.equal(talk([side('dialler'), side('listener')], record), undefined)
  const [first = {}, second = {}, third = {}] = recorded
  const listener = side('listener')
  assert.equal(listener.read(first), undefined)
  const answer = listener.write()
  assert.notDeepEqual(answer, second)
  const dialler = side('dialler')
  dialler.write()
  assert.equal(dialler.read(second)?.code, 'HANDSHAKE_UNAUTHENTIC')
  assert.equal(listener.read(third)?.code, 'HANDSHAKE_UNAUTHENTIC')

  const reflected = side('listener')
  assert.equal(reflected.read(first), undefined)
  const { mac } = reflected.write()
  assert.equal(reflected.read({ mac })?.code, 'HANDSHAKE_UNAUTHENTIC', 'the listener has its own mac')
})

test('a message out of turn ends the resumption, and the first fault stays', () => {
  const dialler = side('dialler')
  const fault = dialler.read({ share: new Uint8Array(32) })
  assert.equal(fault?.code, 'HANDSHAKE_OUT_OF_TURN')
  assert.equal(dialler.read({}), fault)
  assert.throws(() => dialler.write(), /in its turn/)
  assert.throws(() => side('listener').write(), /in its turn/)
  const pair = [side('dialler'), side('listener')] as const
  assert.equal(talk(pair), undefined)
  assert.equal(pair[0].read({})?.code, 'HANDSHAKE_OUT_OF_TURN')
})

test('how long a resumption takes, both sides together', t => {
  const times: number[] = []
  for (let round = 0; round < 50; round++) {
    const from = performance.now()
    assert.equal(talk([side('dialler'), side('listener')]), undefined)
    times.push(performance.now() - from)
  }
  times.sort((a, b) => a - b)
  t.diagnostic(`median ${times[25]?.toFixed(2)} ms, worst ${times.at(-1)?.toFixed(2)} ms`)
})

function flipped(bytes: Uint8Array | undefined, bit: number): Uint8Array {
  assert.ok(bytes !== undefined)
  const copy = bytes.slice()
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return copy
}
