import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gcm } from '@noble/ciphers/aes.js'
import * as fc from 'fast-check'
import { fromHex, toHex } from '#base'
import { Aead } from './aead.ts'

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
const message = fc.record({
  key: bytes(32),
  iv: bytes(12),
  associated: fc.uint8Array({ maxLength: 100 }),
  plaintext: fc.uint8Array({ maxLength: 5000 }),
})

test('AES-256-GCM agrees with the test cases 13, 14 and 16 that were submitted to NIST', () => {
  const long = {
    key: 'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
    iv: 'cafebabefacedbaddecaf888',
    associated: 'feedfacedeadbeeffeedfacedeadbeefabaddad2',
    plaintext:
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    ciphertext:
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662',
    tag: '76fc6ece0f4e1768cddf8853bb2d551b',
  }
  const zero = { key: '00'.repeat(32), iv: '00'.repeat(12), associated: '', plaintext: '', ciphertext: '' }
  const block = { plaintext: '00'.repeat(16), ciphertext: 'cea7403d4d606b6e074ec5d3baf39d18' }
  const cases = [
    { ...zero, tag: '530f8afbc74536b9a963b4f1c4cb738b' },
    { ...zero, ...block, tag: 'd0d1c8a799996bf0265b98b5d48ab919' },
    long,
  ]
  for (const { key, iv, associated, plaintext, ciphertext, tag } of cases) {
    const aead = new Aead(fromHex(key))
    const sealed = aead.seal(fromHex(iv), fromHex(associated), fromHex(plaintext))
    assert.equal(toHex(sealed.ciphertext), ciphertext)
    assert.equal(toHex(sealed.tag), tag)
    const opened = aead.open(fromHex(iv), fromHex(associated), fromHex(ciphertext), fromHex(tag))
    assert.deepEqual(opened, fromHex(plaintext))
  }
})

test('what one implementation seals the other one opens', () => {
  fc.assert(
    fc.property(message, ({ key, iv, associated, plaintext }) => {
      const aead = new Aead(key)
      const { ciphertext, tag } = aead.seal(iv, associated, plaintext)
      assert.deepEqual(gcm(key, iv, associated).decrypt(Buffer.concat([ciphertext, tag])), plaintext)
      const theirs = gcm(key, iv, associated).encrypt(plaintext)
      assert.deepEqual(aead.open(iv, associated, theirs.subarray(0, -16), theirs.subarray(-16)), plaintext)
    }),
  )
})

test('nothing opens with a bit changed in the key, the IV, the associated data, the ciphertext or the tag', () => {
  fc.assert(
    fc.property(message, fc.nat(), ({ key, iv, associated, plaintext }, at) => {
      const { ciphertext, tag } = new Aead(key).seal(iv, associated, plaintext)
      const flip = (part: Uint8Array): Uint8Array =>
        part.map((byte, index) => (index === (at >> 3) % part.byteLength ? byte ^ (1 << (at & 7)) : byte))
      assert.equal(new Aead(flip(key)).open(iv, associated, ciphertext, tag), undefined)
      assert.equal(new Aead(key).open(flip(iv), associated, ciphertext, tag), undefined)
      assert.equal(new Aead(key).open(iv, associated, ciphertext, flip(tag)), undefined)
      if (associated.length > 0) assert.equal(new Aead(key).open(iv, flip(associated), ciphertext, tag), undefined)
      if (ciphertext.length > 0) assert.equal(new Aead(key).open(iv, associated, flip(ciphertext), tag), undefined)
    }),
  )
})

test('a tag that is cut short opens nothing', () => {
  const aead = new Aead(new Uint8Array(32))
  const iv = new Uint8Array(12)
  const { ciphertext, tag } = aead.seal(iv, iv, iv)
  for (let length = 0; length < 16; length++) {
    assert.equal(aead.open(iv, iv, ciphertext, tag.subarray(0, length)), undefined)
  }
  assert.equal(aead.open(iv, iv, ciphertext, Buffer.concat([tag, iv])), undefined)
})

test('what comes back is a plain array', () => {
  const aead = new Aead(new Uint8Array(32))
  const iv = new Uint8Array(12)
  const { ciphertext, tag } = aead.seal(iv, iv, iv)
  const all = [ciphertext, tag, aead.open(iv, iv, ciphertext, tag)]
  assert.deepEqual(
    all.map(part => part?.constructor),
    [Uint8Array, Uint8Array, Uint8Array],
  )
})
