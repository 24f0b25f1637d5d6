import assert from 'node:assert/strict'
import { test } from 'node:test'
import { argon2id as nobleArgon2id } from '@noble/hashes/argon2.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import * as fc from 'fast-check'
import { fromHex, toHex } from '#base'
import { argon2id, hkdfSha256 } from './derive.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const count = (first: number, length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => first + index)

test('HKDF-SHA256 agrees with RFC 5869, appendix A, cases 1 to 3', () => {
  const rows = [
    [
      new Uint8Array(22).fill(0x0b),
      count(0, 13),
      count(0xf0, 10),
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    ],
    [
      count(0, 80),
      count(0x60, 80),
      count(0xb0, 80),
      'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
    ],
    [
      new Uint8Array(22).fill(0x0b),
      new Uint8Array(0),
      new Uint8Array(0),
      '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    ],
  ] as const
  for (const [secret, salt, info, expected] of rows) {
    assert.equal(toHex(hkdfSha256(secret, salt, info, expected.length / 2)), expected)
  }
})

test('two implementations of HKDF-SHA256 derive the same bytes', () => {
  const any = fc.uint8Array({ maxLength: 100 })
  fc.assert(
    fc.property(any, any, fc.tuple(any, fc.integer({ min: 1, max: 8160 })), (secret, salt, [info, length]) => {
      assert.deepEqual(hkdfSha256(secret, salt, info, length), hkdf(sha256, secret, salt, info, length))
    }),
  )
})

test('Argon2id agrees with the vectors of its reference implementation', async () => {
  const rows = [
    [{ memoryKib: 2 ** 16, passes: 2, lanes: 1 }, '09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7'],
    [{ memoryKib: 2 ** 8, passes: 2, lanes: 1 }, '9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe'],
    [{ memoryKib: 2 ** 8, passes: 2, lanes: 2 }, '6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037'],
  ] as const
  for (const [cost, expected] of rows) {
    assert.equal(toHex(await argon2id(utf8('password'), utf8('somesalt'), cost)), expected)
  }
})

test('two implementations of Argon2id derive the same key, and the other one agrees with RFC 9106', async () => {
  // The RFC's vector has a secret and associated data, which ours has no use for.
  const fill = (byte: number, length: number): Uint8Array => new Uint8Array(length).fill(byte)
  const options = { t: 3, m: 32, p: 4, key: fill(3, 8), personalization: fill(4, 12) }
  const tag = '0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659'
  assert.deepEqual(nobleArgon2id(fill(1, 32), fill(2, 16), options), fromHex(tag))
  const cost = fc.record({
    lanes: fc.integer({ min: 1, max: 4 }),
    passes: fc.integer({ min: 1, max: 3 }),
    memoryKib: fc.integer({ min: 32, max: 256 }),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 60 }),
      fc.uint8Array({ minLength: 8, maxLength: 32 }),
      cost,
      async (passphrase, salt, { lanes, passes, memoryKib }) => {
        const theirs = nobleArgon2id(passphrase, salt, { t: passes, m: memoryKib, p: lanes })
        assert.deepEqual(await argon2id(passphrase, salt, { lanes, passes, memoryKib }), theirs)
      },
    ),
    { numRuns: 20 },
  )
})

test('a cost that Argon2id cannot have is an error, not a key', async () => {
  await assert.rejects(argon2id(utf8('password'), utf8('somesalt'), { memoryKib: 1, passes: 1, lanes: 1 }))
})
