import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { afterEach, test } from 'node:test'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { fromHex, type Random, seededRandom, systemRandom, toHex } from '#base'
import { Aead, mlKem768Encapsulate, mlKem768Key, x25519Key } from '#crypto'
import { ReferenceNoise } from '../../../test/support/noise-reference.ts'
import { CipherState } from './cipher-state.ts'
import { HandshakeState, type HandshakeStateOptions, type NoiseFault } from './handshake-state.ts'
import { type HandshakePattern, XX_HFS } from './pattern.ts'

/** All that this file draws comes from it, in the order of its tests: with the same number it comes again. */
const SEED = systemRandom.uint32()
const chance = seededRandom(SEED)

const NOTHING = new Uint8Array(0)
const PROLOGUE = Uint8Array.of(1, 2, 3)
const XX: HandshakePattern = {
  protocolName: 'Noise_XX_25519_AESGCM_SHA256',
  messages: [['e'], ['e', 'ee', 's', 'es'], ['s', 'se']],
}

const fixture = async (name: string): Promise<unknown> =>
  JSON.parse(await readFile(new URL(`../../../test/fixtures/noise/${name}`, import.meta.url), 'utf8'))

/** Gives these bytes, in this order, and no others. */
function scripted(...answers: Uint8Array[]): Random {
  return {
    uint32: () => assert.fail('nothing asks for numbers'),
    bytes: count => {
      const answer = answers.shift()
      assert.equal(answer?.byteLength, count)
      return new Uint8Array(answer ?? NOTHING)
    },
  }
}

function write(state: HandshakeState, payload: Uint8Array): Uint8Array {
  const tokens = state.writeTokens()
  assert.ok(typeof tokens !== 'string', typeof tokens === 'string' ? tokens : 'no fault')
  return new Uint8Array([...tokens, ...state.writePayload(payload)])
}

function read(state: HandshakeState, message: Uint8Array): Uint8Array {
  const result = state.readMessage(message)
  assert.ok(typeof result !== 'string', typeof result === 'string' ? result : 'no fault')
  return result.payload
}

function state(isInitiator: boolean, options: Partial<HandshakeStateOptions> = {}, random: Random = chance) {
  const s = x25519Key(chance.bytes(32))
  return new HandshakeState({ random }, { pattern: XX_HFS, isInitiator, prologue: PROLOGUE, s, ...options })
}

afterEach(t => {
  if ('passed' in t && !t.passed) t.diagnostic(`seed ${SEED} of all tests here`)
})

type Vector = {
  readonly protocol_name: string
  readonly init_prologue: string
  readonly init_static: string
  readonly init_ephemeral: string
  readonly resp_prologue: string
  readonly resp_static: string
  readonly resp_ephemeral: string
  readonly handshake_hash?: string
  readonly messages: ReadonlyArray<{ readonly payload: string; readonly ciphertext: string }>
}

test('the published vectors of Noise_XX_25519_AESGCM_SHA256 come out, handshake and transport', async () => {
  const { vectors } = (await fixture('xx.json')) as { readonly vectors: readonly Vector[] }
  assert.equal(vectors.length, 2)
  for (const vector of vectors) {
    assert.equal(vector.protocol_name, XX.protocolName)
    const initiator = state(
      true,
      { pattern: XX, prologue: fromHex(vector.init_prologue), s: x25519Key(fromHex(vector.init_static)) },
      scripted(fromHex(vector.init_ephemeral)),
    )
    const responder = state(
      false,
      { pattern: XX, prologue: fromHex(vector.resp_prologue), s: x25519Key(fromHex(vector.resp_static)) },
      scripted(fromHex(vector.resp_ephemeral)),
    )
    for (const [index, { payload, ciphertext }] of vector.messages.slice(0, 3).entries()) {
      const [writer, reader] = index === 1 ? [responder, initiator] : [initiator, responder]
      const message = write(writer, fromHex(payload))
      assert.equal(toHex(message), ciphertext, `message ${index + 1}`)
      assert.equal(toHex(read(reader, message)), payload)
    }
    if (vector.handshake_hash !== undefined) assert.equal(toHex(initiator.h), vector.handshake_hash)
    assert.deepEqual(responder.h, initiator.h)
    const [toResponder, toInitiator] = initiator.split()
    assert.deepEqual(responder.split(), [toResponder, toInitiator])
    const ciphers = [new CipherState(toInitiator), new CipherState(toResponder)]
    const openers = [new CipherState(toInitiator), new CipherState(toResponder)]
    for (const [index, { payload, ciphertext }] of vector.messages.slice(3).entries()) {
      const sealed = ciphers[index % 2]?.encryptWithAd(NOTHING, fromHex(payload)) ?? NOTHING
      assert.equal(toHex(sealed), ciphertext, `message ${index + 4}`)
      assert.equal(toHex(openers[index % 2]?.decryptWithAd(NOTHING, sealed) ?? NOTHING), payload)
    }
  }
})

type HfsVector = {
  readonly prologue: string
  readonly init_static: string
  readonly init_ephemeral: string
  readonly init_kem_seed: string
  readonly resp_static: string
  readonly resp_ephemeral: string
  readonly resp_kem_coins: string
  readonly messages: ReadonlyArray<{ readonly payload: string; readonly ciphertext: string }>
  readonly handshake_hash: string
  readonly key_to_responder: string
  readonly key_to_initiator: string
  readonly resumption_secret: string
}

test('the recorded vector of XXhfs comes out of both implementations', async () => {
  const vector = (await fixture('xxhfs.json')) as HfsVector
  const prologue = fromHex(vector.prologue)
  const initiator = state(
    true,
    { prologue, s: x25519Key(fromHex(vector.init_static)) },
    scripted(fromHex(vector.init_ephemeral), fromHex(vector.init_kem_seed)),
  )
  const responder = new HandshakeState(
    {
      random: scripted(fromHex(vector.resp_ephemeral)),
      encapsulate: publicKey => {
        const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey, fromHex(vector.resp_kem_coins))
        return { ciphertext: cipherText, secret: sharedSecret }
      },
    },
    { pattern: XX_HFS, isInitiator: false, prologue, s: x25519Key(fromHex(vector.resp_static)) },
  )
  const theirs = reference(true, {
    prologue,
    staticSecret: fromHex(vector.init_static),
    ephemeralSecret: fromHex(vector.init_ephemeral),
    kem: fromHex(vector.init_kem_seed),
  })
  const payloads = vector.messages.map(message => fromHex(message.payload))
  const [one = NOTHING, two = NOTHING, three = NOTHING] = payloads
  const messages = [write(initiator, one)]
  read(responder, messages[0] ?? NOTHING)
  messages.push(write(responder, two))
  read(initiator, messages[1] ?? NOTHING)
  messages.push(write(initiator, three))
  read(responder, messages[2] ?? NOTHING)
  assert.deepEqual(
    messages.map(toHex),
    vector.messages.map(message => message.ciphertext),
  )
  assert.deepEqual(
    messages.map(message => message.byteLength),
    [1216, 1200 + two.byteLength, 64 + three.byteLength],
  )
  assert.equal(toHex(initiator.h), vector.handshake_hash)
  assert.deepEqual(initiator.split().map(toHex), [vector.key_to_responder, vector.key_to_initiator])
  assert.deepEqual(responder.split().map(toHex), [vector.key_to_responder, vector.key_to_initiator])
  assert.equal(toHex(initiator.exportSecret(label('koinon/resumption/1'))), vector.resumption_secret)
  assert.equal(toHex(theirs.write1(one)), vector.messages[0]?.ciphertext)
  theirs.read2(messages[1] ?? NOTHING)
  assert.equal(toHex(theirs.write3(three)), vector.messages[2]?.ciphertext)
  assert.deepEqual(theirs.split().map(toHex), [vector.key_to_responder, vector.key_to_initiator])
})

test('an implementation on other libraries shakes hands with ours from either side', () => {
  for (let round = 0; round < 3; round++) {
    const [two, three] = [chance.bytes(round * 50), chance.bytes(round * 99)]
    const s = x25519Key(chance.bytes(32))

    const ours = state(true, { s })
    const listening = reference(false, { kem: chance.bytes(32) })
    listening.read1(write(ours, NOTHING))
    assert.deepEqual(read(ours, listening.write2(two)), two)
    assert.deepEqual(listening.read3(write(ours, three)).payload, three)
    assert.deepEqual(listening.rs, s.publicKey)
    assert.deepEqual([ours.h, ...ours.split()], [listening.h, ...listening.split()])

    const answering = state(false, { s })
    const dialling = reference(true, { kem: chance.bytes(64) })
    read(answering, dialling.write1(NOTHING))
    assert.deepEqual(dialling.read2(write(answering, two)).payload, two)
    assert.deepEqual(read(answering, dialling.write3(three)), three)
    assert.deepEqual([answering.h, ...answering.split()], [dialling.h, ...dialling.split()])
    assert.deepEqual(answering.exportSecret(label('a')), dialling.exported('a'))
    assert.notDeepEqual(answering.exportSecret(label('b')), answering.exportSecret(label('a')))
  }
})

test('points of small order are refused wherever they come', () => {
  // All u-coordinates of small order (RFC 7748, section 6.1, and their other encodings below 2^256).
  const points = [
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  ].map(fromHex)
  for (const point of points) {
    const asEphemeral1 = state(false)
    read(asEphemeral1, new Uint8Array([...point, ...mlKem768Key(chance.bytes(64)).publicKey]))
    assert.equal(asEphemeral1.writeTokens(), 'key')

    const asEphemeral2 = state(true)
    write(asEphemeral2, NOTHING)
    assert.equal(faultOf(asEphemeral2, new Uint8Array([...point, ...new Uint8Array(1168)])), 'key')

    const s = { publicKey: point, agree: () => new Uint8Array(32) }
    const honest = state(true)
    const asStatic = state(false, { s })
    read(asStatic, write(honest, NOTHING))
    assert.equal(faultOf(honest, write(asStatic, NOTHING)), 'key')
  }
})

test('an ML-KEM key with a coefficient beyond the modulus is refused', () => {
  const responder = state(false)
  const bad = mlKem768Key(chance.bytes(64)).publicKey.slice().fill(0xff, 0, 3)
  read(responder, new Uint8Array([...x25519Key(chance.bytes(32)).publicKey, ...bad]))
  assert.equal(responder.writeTokens(), 'key')
})

test('a ciphertext that another key made is found out at the next tag', () => {
  const initiator = state(true)
  const responder = new HandshakeState(
    { random: chance, encapsulate: () => mlKem768Encapsulate(mlKem768Key(chance.bytes(64)).publicKey) },
    { pattern: XX_HFS, isInitiator: false, prologue: PROLOGUE, s: x25519Key(chance.bytes(32)) },
  )
  read(responder, write(initiator, NOTHING))
  assert.equal(faultOf(initiator, write(responder, NOTHING)), 'unauthentic')
})

test('a message cut anywhere is a fault, and so is one beyond the length of Noise', () => {
  const initiator = state(true)
  const responder = state(false)
  const first = write(initiator, NOTHING)
  for (const length of [0, 31, 32, 1215]) assert.equal(faultOf(state(false), first.subarray(0, length)), 'size')
  assert.equal(faultOf(state(false), new Uint8Array(65_536)), 'size')
  read(responder, first)
  const second = write(responder, NOTHING)
  for (const length of [0, 31, 32, 1135, 1136, 1183, 1184, 1199]) {
    const another = state(true)
    write(another, NOTHING)
    // Another initiator has another key: it fails at the length, or at the first tag.
    assert.ok(['size', 'unauthentic'].includes(faultOf(another, second.subarray(0, length))), `${length} bytes`)
  }
  assert.equal(faultOf(initiator, second.subarray(0, 1199)), 'size')
})

test('a prologue that differs in one bit is a fault at the first tag', () => {
  const initiator = state(true)
  const responder = state(false, { prologue: Uint8Array.of(1, 2, 2) })
  read(responder, write(initiator, NOTHING))
  assert.equal(faultOf(initiator, write(responder, NOTHING)), 'unauthentic')
})

test('a cipher counts its messages big-endian behind four zeros, and never uses the last nonce', () => {
  const key = chance.bytes(32)
  const ad = Uint8Array.of(7)
  const high = new CipherState(key, 2n ** 64n - 2n)
  const sealed = high.encryptWithAd(ad, PROLOGUE)
  assert.throws(() => high.encryptWithAd(ad, PROLOGUE), /nonces left/)
  const opener = new CipherState(key, 2n ** 64n - 2n)
  assert.equal(
    opener.decryptWithAd(
      ad,
      sealed.map(byte => byte ^ 1),
    ),
    undefined,
  )
  assert.deepEqual(opener.decryptWithAd(ad, sealed)?.slice(), PROLOGUE, 'a message that failed uses up no nonce')
  assert.equal(opener.decryptWithAd(ad, NOTHING), undefined)
  const last = new Aead(key).seal(fromHex('00000000ffffffffffffffff'), ad, PROLOGUE)
  assert.equal(opener.decryptWithAd(ad, new Uint8Array([...last.ciphertext, ...last.tag])), undefined)
  const without = new CipherState()
  assert.deepEqual(without.decryptWithAd(ad, without.encryptWithAd(ad, PROLOGUE)), PROLOGUE)
})

test('writing or reading out of turn is a bug of the caller', () => {
  const initiator = state(true)
  assert.throws(() => initiator.readMessage(NOTHING), /in turn/)
  assert.throws(() => initiator.writePayload(NOTHING), /follows its tokens/)
  assert.throws(() => initiator.split(), /at its end/)
  initiator.writeTokens()
  assert.equal(initiator.turn, 'write')
  assert.throws(() => initiator.writeTokens(), /in turn/)
})

function faultOf(state: HandshakeState, message: Uint8Array): NoiseFault {
  const result = state.readMessage(message)
  assert.ok(typeof result === 'string', 'a fault')
  return result
}

function reference(
  isInitiator: boolean,
  options: Partial<ConstructorParameters<typeof ReferenceNoise>[0]>,
): ReferenceNoise {
  return new ReferenceNoise({
    name: XX_HFS.protocolName,
    isInitiator,
    prologue: PROLOGUE,
    staticSecret: chance.bytes(32),
    ephemeralSecret: chance.bytes(32),
    ...options,
  })
}

function label(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
