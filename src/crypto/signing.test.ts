import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { ed25519 } from '@noble/curves/ed25519.js'
import { shake128 } from '@noble/hashes/sha3.js'
import { ml_dsa65 } from '@noble/post-quantum/ml-dsa.js'
import * as fc from 'fast-check'
import { concatBytes, fromHex, toHex } from '#base'
import {
  ed25519Signer,
  ed25519Verifier,
  ML_DSA_65_PUBLIC_BYTES,
  ML_DSA_65_SIGNATURE_BYTES,
  mlDsa65Signer,
  mlDsa65Verify,
} from './signing.ts'

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
const message = fc.uint8Array({ maxLength: 500 })
const EMPTY = new Uint8Array(0)

test('Ed25519 agrees with RFC 8032, section 7.1, tests 1 to 3 and SHA(abc)', () => {
  const rows = [
    [
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    ],
    [
      '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      '72',
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    ],
    [
      'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
      'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
      'af82',
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
    ],
    [
      '833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42',
      'ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf',
      createHash('sha512').update('abc').digest('hex'),
      'dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704',
    ],
  ] as const
  for (const [seed, publicKey, text, signature] of rows) {
    const signer = ed25519Signer(fromHex(seed))
    assert.equal(toHex(signer.publicKey), publicKey)
    assert.equal(toHex(signer.sign(fromHex(text))), signature)
    assert.ok(ed25519Verifier(fromHex(publicKey)).verify(fromHex(text), fromHex(signature)))
  }
})

test("two implementations of Ed25519 make the same keys and signatures, and take each other's", () => {
  fc.assert(
    fc.property(bytes(32), message, (seed, text) => {
      const signer = ed25519Signer(seed)
      const signature = signer.sign(text)
      assert.deepEqual(signer.publicKey, ed25519.getPublicKey(seed))
      assert.deepEqual(signature, ed25519.sign(text, seed))
      assert.ok(ed25519.verify(signature, text, signer.publicKey))
      assert.ok(ed25519Verifier(signer.publicKey).verify(text, ed25519.sign(text, seed)))
    }),
  )
})

test('a changed signature, message or key does not hold', () => {
  fc.assert(
    fc.property(bytes(32), message, fc.nat(511), (seed, text, bit) => {
      const signer = ed25519Signer(seed)
      const { publicKey } = signer
      const signature = signer.sign(text)
      const flip = (part: Uint8Array): Uint8Array =>
        part.map((byte, index) => (index === (bit >> 3) % part.byteLength ? byte ^ (1 << (bit & 7)) : byte))
      const verifier = ed25519Verifier(publicKey)
      assert.equal(verifier.verify(text, flip(signature)), false)
      assert.equal(verifier.verify(concatBytes([text, Uint8Array.of(0)]), signature), false)
      assert.equal(ed25519Verifier(flip(publicKey)).verify(text, signature), false)
    }),
  )
})

test('a signature has one form: S is not taken beyond the order of the group', () => {
  const signer = ed25519Signer(new Uint8Array(32))
  const { publicKey } = signer
  const signature = signer.sign(EMPTY)
  const order = 2n ** 252n + 27742317777372353535851937790883648493n
  const s = BigInt(`0x${toHex(signature.slice(32).reverse())}`) + order
  const moved = concatBytes([signature.subarray(0, 32), fromHex(s.toString(16).padStart(64, '0')).reverse()])
  assert.equal(ed25519Verifier(publicKey).verify(EMPTY, signature), true)
  assert.equal(ed25519Verifier(publicKey).verify(EMPTY, moved), false)
})

test('a key of small order, for which anybody could sign, accepts nothing', () => {
  // The points of order 1, 2, 4 and 8, with both signs where there are two; S = 0 holds for them where R is one too.
  const points = [
    `01${'00'.repeat(31)}`,
    `ec${'ff'.repeat(30)}7f`,
    '00'.repeat(32),
    `${'00'.repeat(31)}80`,
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  ].map(fromHex)
  for (const key of points) {
    for (const r of points) {
      const signature = concatBytes([r, new Uint8Array(32)])
      for (const text of [EMPTY, ...points]) assert.equal(ed25519Verifier(key).verify(text, signature), false)
    }
  }
})

test('keys and signatures of another length hold for nothing, and nothing throws', () => {
  const signer = ed25519Signer(new Uint8Array(32))
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), any => {
      assert.equal(ed25519Verifier(any).verify(EMPTY, signer.sign(EMPTY)), false)
      assert.equal(ed25519Verifier(signer.publicKey).verify(EMPTY, any), false)
      assert.equal(mlDsa65Verify(any, EMPTY, new Uint8Array(ML_DSA_65_SIGNATURE_BYTES)), false)
      assert.equal(mlDsa65Verify(new Uint8Array(ML_DSA_65_PUBLIC_BYTES), EMPTY, any), false)
    }),
  )
})

test("ML-DSA-65 agrees with the hundred accumulated signatures of C2SP's CCTV", () => {
  // SHAKE128 makes the seeds; public keys and signatures go into another one. Node's signatures are hedged, so the
  // deterministic ones come from the other implementation: the vector is of both, keys and checks are ours.
  const seeds = shake128.create()
  const all = shake128.create()
  for (let index = 0; index < 100; index++) {
    const seed = seeds.xof(32)
    const { publicKey } = mlDsa65Signer(seed)
    const signature = ml_dsa65.sign(EMPTY, ml_dsa65.keygen(seed).secretKey, { extraEntropy: false })
    assert.ok(mlDsa65Verify(publicKey, EMPTY, signature))
    all.update(publicKey).update(signature)
  }
  assert.equal(toHex(all.xof(32)), '8358a1843220194417cadbc2651295cd8fc65125b5a5c1a239a16dc8b57ca199')
})

test("an ML-DSA-65 key agrees with Wycheproof's", () => {
  const { publicKey } = mlDsa65Signer(new Uint8Array(32).fill(0x2a))
  assert.equal(
    createHash('sha256').update(publicKey).digest('hex'),
    'b7acce2ddb11f8cc1aa46e2bafac6eacfa2b732ef192bd636ad8d3a56d649c66',
  )
})

test("two implementations of ML-DSA-65 make the same keys and take each other's signatures", () => {
  fc.assert(
    fc.property(bytes(32), message, fc.nat(), (seed, text, at) => {
      const ours = mlDsa65Signer(seed)
      const theirs = ml_dsa65.keygen(seed)
      assert.deepEqual(ours.publicKey, theirs.publicKey)
      const signature = ours.sign(text)
      assert.equal(signature.byteLength, ML_DSA_65_SIGNATURE_BYTES)
      assert.ok(ml_dsa65.verify(signature, text, ours.publicKey))
      assert.ok(mlDsa65Verify(theirs.publicKey, text, ml_dsa65.sign(text, theirs.secretKey)))
      const changed = signature.with(at % signature.byteLength, (signature[at % signature.byteLength] ?? 0) ^ 1)
      assert.equal(mlDsa65Verify(ours.publicKey, text, changed), false)
      assert.equal(mlDsa65Verify(ours.publicKey, concatBytes([text, Uint8Array.of(0)]), signature), false)
    }),
    { numRuns: 25 },
  )
})
