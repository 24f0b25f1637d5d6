import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toHex } from '#base'
import { equalInConstantTime, hmacSha256, sha256 } from './hash.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

test('SHA-256 agrees with FIPS 180-4', () => {
  const expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  assert.equal(toHex(sha256(utf8('abc'))), expected)
})

test('HMAC-SHA-256 agrees with RFC 4231, case 2, however the message is cut', () => {
  const expected = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'
  assert.equal(toHex(hmacSha256(utf8('Jefe'), utf8('what do ya want for nothing?'))), expected)
  assert.equal(toHex(hmacSha256(utf8('Jefe'), utf8('what do ya want '), utf8('for nothing?'))), expected)
})

test('secrets of different lengths or bytes are not equal', () => {
  assert.equal(equalInConstantTime(utf8('same'), utf8('same')), true)
  assert.equal(equalInConstantTime(utf8('same'), utf8('sama')), false)
  assert.equal(equalInConstantTime(utf8('same'), utf8('same!')), false)
})
