import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hmac } from '@noble/hashes/hmac.js'
import { sha1 as nobleSha1 } from '@noble/hashes/legacy.js'
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import * as fc from 'fast-check'
import { concatBytes, toHex } from '#base'
import { equalInConstantTime, hmacSha1, hmacSha256, Sha256, sha1, sha256 } from './hash.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

test('SHA-256 agrees with FIPS 180-4', () => {
  const expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  assert.equal(toHex(sha256(utf8('abc'))), expected)
})

test('SHA-1 agrees with FIPS 180-4', () => {
  assert.equal(toHex(sha1(utf8('abc'))), 'a9993e364706816aba3e25717850c26c9cd0d89d')
})

test('two implementations of the hashes and of HMAC agree, however the message is cut', () => {
  const any = fc.uint8Array({ maxLength: 300 })
  fc.assert(
    fc.property(any, any, any, (key, a, b) => {
      const whole = concatBytes([a, b])
      assert.deepEqual(sha1(whole), nobleSha1(whole))
      assert.deepEqual(sha256(whole), nobleSha256(whole))
      const pieces = new Sha256().update(a)
      assert.deepEqual(pieces.snapshot(), nobleSha256(a))
      assert.deepEqual(pieces.update(b).digest(), nobleSha256(whole))
      assert.deepEqual(hmacSha256(key, a, b), hmac(nobleSha256, key, whole))
      assert.deepEqual(hmacSha1(key, a, b), hmac(nobleSha1, key, whole))
    }),
  )
})

test('HMAC-SHA-256 agrees with RFC 4231, case 2, however the message is cut', () => {
  const expected = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'
  assert.equal(toHex(hmacSha256(utf8('Jefe'), utf8('what do ya want for nothing?'))), expected)
  assert.equal(toHex(hmacSha256(utf8('Jefe'), utf8('what do ya want '), utf8('for nothing?'))), expected)
})

test('HMAC-SHA-1 agrees with RFC 2202, case 2', () => {
  const expected = 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79'
  assert.equal(toHex(hmacSha1(utf8('Jefe'), utf8('what do ya want '), utf8('for nothing?'))), expected)
})

test('secrets of different lengths or bytes are not equal', () => {
  assert.equal(equalInConstantTime(utf8('same'), utf8('same')), true)
  assert.equal(equalInConstantTime(utf8('same'), utf8('sama')), false)
  assert.equal(equalInConstantTime(utf8('same'), utf8('same!')), false)
})
