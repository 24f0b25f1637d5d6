import assert from 'node:assert/strict'
import { test } from 'node:test'
import { x25519 } from '@noble/curves/ed25519.js'
import { shake128 } from '@noble/hashes/sha3.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import * as fc from 'fast-check'
import { fromHex, toHex } from '#base'
import {
  ML_KEM_768_CIPHERTEXT_BYTES,
  ML_KEM_768_PUBLIC_BYTES,
  ML_KEM_768_SECRET_BYTES,
  mlKem768Encapsulate,
  mlKem768Key,
  x25519Key,
} from './agreement.ts'
import { sha256 } from './hash.ts'

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
const agree = (secret: string, theirs: string): string =>
  toHex(x25519Key(fromHex(secret)).agree(fromHex(theirs)) ?? assert.fail('no secret'))

test('X25519 agrees with RFC 7748, section 5.2', () => {
  const one = agree(
    'a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4',
    'e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c',
  )
  assert.equal(one, 'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552')
  const two = agree(
    '4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d',
    'e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493',
  )
  assert.equal(two, '95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957')
})

test('X25519 a thousand times agrees with RFC 7748, section 5.2', () => {
  let scalar = `09${'00'.repeat(31)}`
  let point = scalar
  for (let round = 1; round <= 1000; round++) {
    ;[scalar, point] = [agree(scalar, point), scalar]
    if (round === 1) assert.equal(scalar, '422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079')
  }
  assert.equal(scalar, '684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51')
})

test('X25519 agrees with RFC 7748, section 6.1', () => {
  const bob = '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'
  const publicKey = 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f'
  assert.equal(toHex(x25519Key(fromHex(bob)).publicKey), publicKey)
  const alice = '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a'
  assert.equal(agree(bob, alice), '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742')
})

test("two implementations of X25519 agree, each with the other one's key", () => {
  fc.assert(
    fc.property(bytes(32), bytes(32), (ours, theirs) => {
      const key = x25519Key(ours)
      assert.deepEqual(key.publicKey, x25519.getPublicKey(ours))
      const shared = key.agree(x25519.getPublicKey(theirs))
      assert.deepEqual(shared, x25519.getSharedSecret(theirs, key.publicKey))
    }),
  )
})

test('a point of small order, or bytes that are no point, give no secret', () => {
  const key = x25519Key(new Uint8Array(32).fill(7))
  const p = `ed${'ff'.repeat(30)}7f`
  const small = [
    '00'.repeat(32),
    `01${'00'.repeat(31)}`,
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    p.replace('ed', 'ec'),
    p,
    p.replace('ed', 'ee'),
  ]
  for (const point of small) assert.equal(key.agree(fromHex(point)), undefined, point)
  for (const length of [0, 31, 33]) assert.equal(key.agree(new Uint8Array(length)), undefined)
})

test('ML-KEM-768 agrees with the hundred accumulated runs of the Go standard library', () => {
  // SHAKE128 makes seeds, messages and wrong ciphertexts; what comes out goes into another one. Node has no
  // encapsulation of a given message: the ciphertexts come from the other implementation, and the vector says that they
  // are right; keys and secrets are ours.
  const input = shake128.create()
  const all = shake128.create()
  for (let index = 0; index < 100; index++) {
    const key = mlKem768Key(input.xof(64))
    const { cipherText } = ml_kem768.encapsulate(key.publicKey, input.xof(32))
    all.update(key.publicKey).update(cipherText)
    all.update(key.decapsulate(cipherText) ?? assert.fail())
    all.update(key.decapsulate(input.xof(ML_KEM_768_CIPHERTEXT_BYTES)) ?? assert.fail())
  }
  assert.equal(toHex(all.xof(32)), '1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415')
})

test('an ML-KEM-768 key agrees with Wycheproof, for the first of the official seeds of round 3', () => {
  const seed =
    '7c9935a0b07694aa0c6d10e4db6b1add2fd81a25ccb148032dcd739936737f2d8626ed79d451140800e03b59b956f8210e556067407d13dc90fa9e8b872bfb8f'
  const publicKey = mlKem768Key(fromHex(seed)).publicKey
  assert.equal(toHex(sha256(publicKey)), '86adbca81f4fee893e2fb58fb98aa2fe188f501fed268d7f4056f8c05c4e53c4')
})

test('what one implementation of ML-KEM-768 encapsulates the other one opens', () => {
  fc.assert(
    fc.property(bytes(64), bytes(32), (seed, m) => {
      const ours = mlKem768Key(seed)
      const theirs = ml_kem768.keygen(seed)
      assert.deepEqual(ours.publicKey, theirs.publicKey)
      const fromThem = ml_kem768.encapsulate(ours.publicKey, m)
      assert.deepEqual(ours.decapsulate(fromThem.cipherText), fromThem.sharedSecret)
      const fromUs = mlKem768Encapsulate(theirs.publicKey)
      assert.ok(fromUs)
      assert.equal(fromUs.ciphertext.byteLength, ML_KEM_768_CIPHERTEXT_BYTES)
      assert.equal(fromUs.secret.byteLength, ML_KEM_768_SECRET_BYTES)
      assert.deepEqual(ml_kem768.decapsulate(fromUs.ciphertext, theirs.secretKey), fromUs.secret)
    }),
    { numRuns: 30 },
  )
})

test('a ciphertext that was changed gives the same wrong secret in both implementations', () => {
  fc.assert(
    fc.property(bytes(64), bytes(ML_KEM_768_CIPHERTEXT_BYTES), (seed, ciphertext) => {
      const { secretKey } = ml_kem768.keygen(seed)
      assert.deepEqual(mlKem768Key(seed).decapsulate(ciphertext), ml_kem768.decapsulate(ciphertext, secretKey))
    }),
    { numRuns: 20 },
  )
})

test('bytes of another length, or a coefficient beyond the prime, are no ML-KEM-768 key or ciphertext', () => {
  const key = mlKem768Key(new Uint8Array(64))
  for (const change of [-1, 1]) {
    assert.equal(mlKem768Encapsulate(new Uint8Array(ML_KEM_768_PUBLIC_BYTES + change)), undefined)
    assert.equal(key.decapsulate(new Uint8Array(ML_KEM_768_CIPHERTEXT_BYTES + change)), undefined)
  }
  // The first of the twelve-bit coefficients of each of the three polynomials; 3329 is the prime.
  for (const at of [0, 384, 768]) {
    const beyond = key.publicKey.slice()
    beyond[at] = 3329 & 255
    beyond[at + 1] = ((beyond[at + 1] ?? 0) & 0xf0) | (3329 >> 8)
    assert.equal(mlKem768Encapsulate(beyond), undefined, `at ${at}`)
  }
})
