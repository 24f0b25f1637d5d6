import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { encode } from '@ipld/dag-cbor'
import { ed25519 } from '@noble/curves/ed25519.js'
import * as fc from 'fast-check'
import { concatBytes, seededRandom, systemRandom, toHex } from '#base'
import { ed25519Signer, mlDsa65Signer, mlKem768Key, x25519Key } from '#crypto'
import { ReferenceNoise } from '../../test/support/noise-reference.ts'
import {
  Handshake,
  HANDSHAKE_MESSAGE_BYTES,
  type HandshakeFault,
  type HandshakeOptions,
  type HandshakeRole,
} from './handshake.ts'

/** All that this file draws comes from it, in the order of its tests: with the same number it comes again. */
const SEED = systemRandom.uint32()
const random = seededRandom(SEED)

const NOTHING = new Uint8Array(0)
const PROLOGUE = new TextEncoder().encode('HELLO of one side, HELLO of the other')
const ALICE = ed25519Signer(random.bytes(32))
const BOB = ed25519Signer(random.bytes(32))
const MALLORY = ed25519Signer(random.bytes(32))
const ALICE_PQ = mlDsa65Signer(random.bytes(32))
const BOB_PQ = mlDsa65Signer(random.bytes(32))

/** Alice dials Bob. */
function side(role: HandshakeRole, options: Partial<HandshakeOptions> = {}): Handshake {
  const [identity, peer] = role === 'dialler' ? [ALICE, BOB] : [BOB, ALICE]
  return new Handshake(
    { random },
    { role, prologue: PROLOGUE, identity, expected: { publicKey: peer.publicKey }, ...options },
  )
}

/** Both sides, where both have an ML-DSA-65 key and know the other's. */
function hybridPair(): [Handshake, Handshake] {
  return [
    side('dialler', { hybrid: ALICE_PQ, expected: { publicKey: BOB.publicKey, hybridKey: BOB_PQ.publicKey } }),
    side('listener', { hybrid: BOB_PQ, expected: { publicKey: ALICE.publicKey, hybridKey: ALICE_PQ.publicKey } }),
  ]
}

/** What lies between the two, and may change or record what passes. */
type Wire = (message: Uint8Array, index: number) => Uint8Array

/** Lets the two talk until both are done or one of them finds a fault. */
async function talk(
  [dialler, listener]: readonly [Handshake, Handshake],
  wire: Wire = message => message,
): Promise<HandshakeFault | undefined> {
  for (const [index, [writer, reader]] of [
    [dialler, listener] as const,
    [listener, dialler] as const,
    [dialler, listener] as const,
  ].entries()) {
    const fault = reader.read(wire(await writer.write(), index))
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

test('two nodes agree on keys for each direction, on a secret for later and on what was said', async () => {
  const [dialler, listener] = [side('dialler'), side('listener')] as const
  assert.deepEqual([dialler.turn, listener.turn], ['write', 'read'])
  const sizes: number[] = []
  const fault = await talk([dialler, listener], message => {
    sizes.push(message.byteLength)
    return message
  })
  assert.equal(fault, undefined)
  assert.deepEqual(sizes, [1216, 1315, 179])
  assert.deepEqual(
    sizes,
    HANDSHAKE_MESSAGE_BYTES.map(allowed => allowed[0]),
  )
  assert.deepEqual([dialler.turn, listener.turn], ['done', 'done'])
  const [ours, theirs] = [dialler.result(), listener.result()]
  assert.deepEqual(ours.send, theirs.receive)
  assert.deepEqual(ours.receive, theirs.send)
  assert.deepEqual(ours.resumptionSecret, theirs.resumptionSecret)
  assert.deepEqual(ours.transcript, theirs.transcript)
  assert.equal(ours.hybridKey, undefined)
  const all = [ours.send, ours.receive, ours.resumptionSecret, ours.transcript]
  assert.deepEqual(
    all.map(bytes => bytes.byteLength),
    [32, 32, 32, 32],
  )
  assert.equal(new Set(all.map(toHex)).size, 4)
})

test('hybrid signatures hold, make the messages longer, and tell the peer the key', async () => {
  const pair = hybridPair()
  const sizes: number[] = []
  const record: Wire = message => {
    sizes.push(message.byteLength)
    return message
  }
  assert.equal(await talk(pair, record), undefined)
  assert.deepEqual(sizes, [1216, 6604, 5468])
  assert.deepEqual(
    sizes,
    HANDSHAKE_MESSAGE_BYTES.map(allowed => allowed.at(-1)),
  )
  assert.deepEqual(pair[0].result().hybridKey, BOB_PQ.publicKey)
  assert.deepEqual(pair[1].result().hybridKey, ALICE_PQ.publicKey)

  const unknown = [side('dialler'), side('listener', { hybrid: BOB_PQ })] as const
  assert.equal(await talk(unknown), undefined)
  assert.deepEqual(unknown[0].result().hybridKey, BOB_PQ.publicKey, 'a key that nobody knew is told')
})

test('no secret comes twice', async () => {
  const secrets = new Set<string>()
  for (let round = 0; round < 20; round++) {
    const pair = [side('dialler'), side('listener')] as const
    assert.equal(await talk(pair), undefined)
    const { send, receive, resumptionSecret, transcript } = pair[0].result()
    for (const bytes of [send, receive, resumptionSecret, transcript]) secrets.add(toHex(bytes))
  }
  assert.equal(secrets.size, 80)
})

test('a key that signs by a promise does as well as one in the process', async () => {
  const sign = async (message: Uint8Array): Promise<Uint8Array> => ALICE.sign(message)
  const pair = [side('dialler', { identity: { publicKey: ALICE.publicKey, sign } }), side('listener')] as const
  assert.equal(await talk(pair), undefined)
})

test('a signer that fails ends the handshake with its error', async () => {
  const sign = async (): Promise<Uint8Array> => assert.fail('the token was pulled out')
  const listener = side('listener', { identity: { publicKey: BOB.publicKey, sign } })
  assert.equal(listener.read(await side('dialler').write()), undefined)
  await assert.rejects(listener.write(), /pulled out/)
  await assert.rejects(listener.write(), /once, in its turn/)
})

test('the identity behind the static key is checked by an implementation on other libraries', async () => {
  const aliceSecret = random.bytes(32)
  const alice = ed25519.getPublicKey(aliceSecret)
  const staticSecret = random.bytes(32)
  const dialler = referenceDialler(staticSecret)
  const listener = side('listener', { expected: { publicKey: alice } })
  const statement = (role: string, key: Uint8Array, h: Uint8Array): Uint8Array =>
    concatBytes([new TextEncoder().encode(`koinon/noise-static/1${role}`), key, h])
  assert.equal(listener.read(dialler.write1(NOTHING)), undefined)
  const { payload, h } = dialler.read2(await listener.write())
  // a2, "key", 32 bytes, "signature", 64 bytes: dag-cbor has no other way to say it.
  assert.equal(toHex(payload.slice(0, 7)), 'a2636b65795820')
  assert.deepEqual(payload.slice(7, 39), BOB.publicKey)
  assert.ok(ed25519.verify(payload.slice(51), statement('listener', dialler.rs, h), BOB.publicKey))
  const message = dialler.write3(hash => {
    const proof = statement('dialler', x25519Key(staticSecret).publicKey, hash)
    return encode({ key: alice, signature: ed25519.sign(proof, aliceSecret) })
  })
  assert.equal(listener.read(message), undefined)
  const { send, receive, resumptionSecret, transcript } = listener.result()
  assert.deepEqual([receive, send], dialler.split())
  assert.deepEqual(resumptionSecret, dialler.exported('koinon/resumption/1'))
  assert.deepEqual(transcript, dialler.h)
})

test('whatever bit of whatever message is flipped, the handshake does not come to an end', async t => {
  const seed = random.uint32() | 0
  t.diagnostic(`seed ${seed}`)
  const bit = fc.integer({ min: 0, max: 2 }).chain(index => {
    const bits = (HANDSHAKE_MESSAGE_BYTES[index]?.[0] ?? 0) * 8
    return fc.tuple(fc.constant(index), fc.integer({ min: 0, max: bits - 1 }))
  })
  await fc.assert(
    fc.asyncProperty(bit, async ([target, position]) => {
      const fault = await talk([side('dialler'), side('listener')], (message, index) => {
        if (index === target) flip(message, position)
        return message
      })
      assert.ok(fault !== undefined)
      assert.ok(['HANDSHAKE_UNAUTHENTIC', 'HANDSHAKE_KEY_INVALID'].includes(fault.code), fault.code)
    }),
    { seed, numRuns: 300 },
  )
})

test('the same where both sign with ML-DSA-65 too', async t => {
  const seed = random.uint32() | 0
  t.diagnostic(`seed ${seed}`)
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 2 }), fc.nat(), async (target, position) => {
      const fault = await talk(hybridPair(), (message, index) => {
        if (index === target) flip(message, position % (message.byteLength * 8))
        return message
      })
      assert.ok(fault?.code === 'HANDSHAKE_UNAUTHENTIC' || fault?.code === 'HANDSHAKE_KEY_INVALID', fault?.code)
    }),
    { seed, numRuns: 50 },
  )
})

test('a message that is cut, too long or foreign is a fault before anything is computed', async () => {
  for (const target of [0, 1, 2]) {
    for (const change of [
      (message: Uint8Array) => message.subarray(0, -1),
      (message: Uint8Array) => concatBytes([message, Uint8Array.of(0)]),
      (message: Uint8Array) => message.subarray(1),
      () => NOTHING,
      () => new Uint8Array(65_536),
    ]) {
      const fault = await talk([side('dialler'), side('listener')], (message, index) =>
        index === target ? change(message) : message,
      )
      assert.equal(fault?.code, 'HANDSHAKE_SIZE')
    }
  }
})

test('a KEM ciphertext of another length is a fault, whichever', async () => {
  for (const length of [0, 768, 1087, 1089, 1568]) {
    const fault = await talk([side('dialler'), side('listener')], (message, index) =>
      index === 1 ? concatBytes([message.subarray(0, 32), new Uint8Array(length), message.subarray(1120)]) : message,
    )
    assert.equal(fault?.code, 'HANDSHAKE_SIZE')
  }
})

test('whoever has another key than was announced is refused', async () => {
  const asMallory = { identity: MALLORY }
  const listens = await talk([side('dialler'), side('listener', asMallory)])
  assert.equal(listens?.code, 'HANDSHAKE_IDENTITY')
  const dials = await talk([side('dialler', asMallory), side('listener')])
  assert.equal(dials?.code, 'HANDSHAKE_IDENTITY')
})

test('whoever announces a key that it does not have is refused', async () => {
  const asBob = { identity: { publicKey: BOB.publicKey, sign: (message: Uint8Array) => MALLORY.sign(message) } }
  const listens = await talk([side('dialler'), side('listener', asBob)])
  assert.equal(listens?.code, 'HANDSHAKE_SIGNATURE')
  const asAlice = { identity: { publicKey: ALICE.publicKey, sign: () => new Uint8Array(64) } }
  const dials = await talk([side('dialler', asAlice), side('listener')])
  assert.equal(dials?.code, 'HANDSHAKE_SIGNATURE')
})

test('a second signature that is due cannot be stripped, swapped or forged', async () => {
  const expected = { publicKey: BOB.publicKey, hybridKey: BOB_PQ.publicKey }
  const stripped = await talk([side('dialler', { expected }), side('listener')])
  assert.equal(stripped?.code, 'HANDSHAKE_HYBRID_MISSING')
  const swapped = await talk([side('dialler', { expected }), side('listener', { hybrid: ALICE_PQ })])
  assert.equal(swapped?.code, 'HANDSHAKE_IDENTITY')
  const hybrid = { publicKey: BOB_PQ.publicKey, sign: (message: Uint8Array) => ALICE_PQ.sign(message) }
  const forged = await talk([side('dialler', { expected }), side('listener', { hybrid })])
  assert.equal(forged?.code, 'HANDSHAKE_SIGNATURE')
  const unasked = await talk([side('dialler'), side('listener', { hybrid })])
  assert.equal(unasked?.code, 'HANDSHAKE_SIGNATURE', 'one that nobody asked for must hold too')
})

test('a proof of another shape is a fault', async () => {
  const key = ALICE.publicKey
  const signature = new Uint8Array(64)
  // 115 bytes each, as a proof has.
  const malformed: readonly Uint8Array[] = [
    encode(new Uint8Array(113)),
    encode({ key: 'k'.repeat(32), signature }),
    encode({ kez: key, signature }),
    encode({ key: key.subarray(1), signature: new Uint8Array(65) }),
    new Uint8Array(115).fill(0xff),
  ]
  for (const payload of malformed) {
    assert.equal(payload.byteLength, 115)
    assert.equal((await dialWithPayload(payload))?.code, 'HANDSHAKE_MALFORMED')
  }
  assert.equal((await dialWithPayload(encode({ key, signature })))?.code, 'HANDSHAKE_SIGNATURE')
})

test('a version or suite that was changed in the HELLOs ends the handshake', async () => {
  const prologue = new TextEncoder().encode('HELLO of one side, HELLO of the other with fewer suites')
  const fault = await talk([side('dialler'), side('listener', { prologue })])
  assert.equal(fault?.code, 'HANDSHAKE_UNAUTHENTIC')
})

test('a message out of turn ends the handshake, and the first fault stays', async () => {
  const dialler = side('dialler')
  assert.equal(dialler.read(new Uint8Array(1315))?.code, 'HANDSHAKE_OUT_OF_TURN')
  assert.equal(dialler.turn, 'failed')
  await assert.rejects(dialler.write(), /in its turn/)

  const listener = side('listener')
  const first = await side('dialler').write()
  assert.equal(listener.read(first), undefined)
  const fault = listener.read(first)
  assert.equal(fault?.code, 'HANDSHAKE_OUT_OF_TURN')
  assert.equal(listener.read(new Uint8Array(3)), fault)

  const pair = [side('dialler'), side('listener')] as const
  assert.equal(await talk(pair), undefined)
  assert.equal(pair[1].read(first)?.code, 'HANDSHAKE_OUT_OF_TURN')
})

test('a message that comes while the key is signing does not bring the handshake back to life', async () => {
  const { promise, resolve } = Promise.withResolvers<Uint8Array>()
  const sign = (message: Uint8Array): Promise<Uint8Array> => promise.then(() => BOB.sign(message))
  const listener = side('listener', { identity: { publicKey: BOB.publicKey, sign } })
  const first = await side('dialler').write()
  assert.equal(listener.read(first), undefined)
  const writing = listener.write()
  await assert.rejects(listener.write(), /once, in its turn/)
  assert.equal(listener.read(first)?.code, 'HANDSHAKE_OUT_OF_TURN')
  resolve(NOTHING)
  await writing
  assert.equal(listener.turn, 'failed')
})

test('messages that were recorded are of no use in another handshake', async () => {
  const recorded: Uint8Array[] = []
  const record: Wire = message => {
    recorded.push(message.slice())
    return message
  }
  assert.equal(await talk([side('dialler'), side('listener')], record), undefined)
  const [first = NOTHING, second = NOTHING, third = NOTHING] = recorded

  // The first message holds nothing of the dialler's key, so it is answered; but nobody can go on from there.
  const listener = side('listener')
  assert.equal(listener.read(first), undefined)
  const answer = await listener.write()
  assert.notDeepEqual(answer, second)
  assert.equal(listener.read(third)?.code, 'HANDSHAKE_UNAUTHENTIC')

  const dialler = side('dialler')
  await dialler.write()
  assert.equal(dialler.read(second)?.code, 'HANDSHAKE_UNAUTHENTIC')
})

test('what a node says itself cannot be said back to it', async () => {
  // Somebody who reflects messages: both ends are Alice, who dials herself.
  const expected = { publicKey: ALICE.publicKey }
  const dialler = side('dialler', { expected })
  const first = await dialler.write()
  assert.equal(dialler.read(first)?.code, 'HANDSHAKE_SIZE')
  // The role is part of what is signed: a proof as a dialler is none as a listener.
  const sign = (message: Uint8Array): Uint8Array => {
    const text = Buffer.from(message).toString('latin1').replace('listener', 'dialler')
    return ALICE.sign(Buffer.from(text, 'latin1'))
  }
  const reflector = side('listener', { identity: { publicKey: ALICE.publicKey, sign } })
  assert.equal((await talk([side('dialler', { expected }), reflector]))?.code, 'HANDSHAKE_SIGNATURE')
})

test('keys that give no secret are faults of the message that brings them', async () => {
  const kem = mlKem768Key(random.bytes(64)).publicKey
  const share = x25519Key(random.bytes(32)).publicKey
  const small = side('listener').read(concatBytes([new Uint8Array(32), kem]))
  assert.equal(small?.code, 'HANDSHAKE_KEY_INVALID')
  const beyond = side('listener').read(concatBytes([share, new Uint8Array(1184).fill(0xff)]))
  assert.equal(beyond?.code, 'HANDSHAKE_KEY_INVALID')
  const dialler = side('dialler')
  await dialler.write()
  assert.equal(dialler.read(new Uint8Array(1315))?.code, 'HANDSHAKE_KEY_INVALID')
})

test('how long a handshake takes, both sides together', async t => {
  for (const [name, make] of [
    ['Ed25519', (): [Handshake, Handshake] => [side('dialler'), side('listener')]],
    ['Ed25519 and ML-DSA-65', hybridPair],
  ] as const) {
    const times: number[] = []
    for (let round = 0; round < 30; round++) {
      const from = performance.now()
      assert.equal(await talk(make()), undefined)
      times.push(performance.now() - from)
    }
    times.sort((a, b) => a - b)
    t.diagnostic(`${name}: median ${times[15]?.toFixed(2)} ms, worst ${times.at(-1)?.toFixed(2)} ms`)
  }
})

function flip(message: Uint8Array, bit: number): void {
  const view = new DataView(message.buffer, message.byteOffset)
  view.setUint8(bit >> 3, view.getUint8(bit >> 3) ^ (1 << (bit & 7)))
}

/** Alice dials with this payload in the third message. */
async function dialWithPayload(payload: Uint8Array): Promise<HandshakeFault | undefined> {
  const dialler = referenceDialler(random.bytes(32))
  const listener = side('listener')
  assert.equal(listener.read(dialler.write1(NOTHING)), undefined)
  dialler.read2(await listener.write())
  return listener.read(dialler.write3(payload))
}

/** A dialler made of other libraries. */
function referenceDialler(staticSecret: Uint8Array): ReferenceNoise {
  return new ReferenceNoise({
    name: 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
    isInitiator: true,
    prologue: PROLOGUE,
    staticSecret,
    ephemeralSecret: random.bytes(32),
    kem: random.bytes(64),
  })
}
