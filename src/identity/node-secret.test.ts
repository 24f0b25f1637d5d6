import assert from 'node:assert/strict'
import { hkdfSync } from 'node:crypto'
import { test } from 'node:test'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import * as fc from 'fast-check'
import { seededRandom, toHex } from '#base'
import { KEY_INDEX_MAX } from './limits.ts'
import { identityOfSecret } from './node-identity.ts'
import { mlDsaSeedOf, newSecret, nextSecret, secretOfPhrase, seedOf, seedPhraseOf } from './node-secret.ts'

const ROOT = Uint8Array.from({ length: 32 }, (_, index) => index)
const PHRASE =
  'abandon amount liar amount expire adjust cage candy arch gather drum bullet absurd math era live bid rhythm alien crouch range attend journey unaware'

test('words, keys and peer ids follow from the root: a vector, the root being 00 01 ... 1f', () => {
  assert.equal(seedPhraseOf({ kind: 'root', root: ROOT, index: 0 }), PHRASE)
  const rows = [0, 1, KEY_INDEX_MAX].map(index => {
    const secret = secretOfPhrase(PHRASE, index)
    return [toHex(seedOf(secret)), toHex(mlDsaSeedOf(secret)), identityOfSecret(secret, 'file').peer]
  })
  assert.deepEqual(rows, [
    [
      '12e992081ac9943a8a40b3bad5d2204b4c3307657da2df5c7654577c1022378a',
      'f7fe1aa236be5db913b67554735f0e9204d472cfaf430409434cd0c36d6ace91',
      '12D3KooWCa6dbE3ZPdPEVKn4bHr1kvMVmdcTNbPw8csHJPi1fe7d',
    ],
    [
      'e59d13e4a8bf4627f8f370790c6023b1dc4814bf6a27fc69a0323b7cacf154b7',
      '1ed4d10dd9ae0469b09d509a315c98bb0769bf0d0747eeeeb66c99fdcc1f4b9d',
      '12D3KooWMfgFC3VKPHXxwwBDeiyK2Xbri6QtcR5jv8ZuRjbGjowT',
    ],
    [
      '7ef87e27cf1254b5cfc291646f45bce022f1b12c701191c7712eb29c63a13b82',
      'fab4caa7a049157de54ea750a1e1fa1ac02c73de6771dcf4f5f634a5424ed483',
      '12D3KooWL7ecTV8J3w4aUkedZYFzyPtFBzYQrbC2RPiFrEqZf4Rj',
    ],
  ])
})

test('the derivation is HKDF-SHA256 of the root, by two implementations', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.integer({ min: 0, max: KEY_INDEX_MAX }),
      (root, i) => {
        const info = Buffer.concat([Buffer.from('koinon/node-key/1'), Buffer.from([0, 0, i >> 8, i & 255])])
        const seed = seedOf({ kind: 'root', root, index: i })
        assert.deepEqual(seed, hkdf(sha256, root, new Uint8Array(0), info, 32))
        assert.deepEqual(seed, new Uint8Array(hkdfSync('sha256', root, '', info, 32)))
        assert.deepEqual(
          mlDsaSeedOf({ kind: 'root', root, index: i }),
          hkdf(sha256, seed, new Uint8Array(0), Buffer.from('koinon/ml-dsa-65/1'), 32),
        )
      },
    ),
  )
})

test('words give back the root that they were made of, however they are typed', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.integer({ min: 0, max: KEY_INDEX_MAX }),
      (root, index) => {
        const secret = { kind: 'root', root, index } as const
        const words = seedPhraseOf(secret) ?? ''
        assert.deepEqual(secretOfPhrase(words, index), secret)
        assert.deepEqual(secretOfPhrase(`\n ${words.toUpperCase().replaceAll(' ', ' \t\r\n')} `, index), secret)
      },
    ),
  )
})

test('what is no seed phrase is refused with the reason, and the message repeats none of it', () => {
  const words = PHRASE.split(' ')
  const swapped = [words[1], words[0], ...words.slice(2)].join(' ')
  const cases = [
    ['', 'count', undefined],
    [words.slice(1).join(' '), 'count', undefined],
    [`${PHRASE} abandon`, 'count', undefined],
    [PHRASE.replace('candy', 'canday'), 'word', 8],
    [swapped, 'checksum', undefined],
    [PHRASE.replace('candy', 'cannon'), 'checksum', undefined],
  ] as const
  for (const [phrase, problem, position] of cases) {
    assert.throws(
      () => secretOfPhrase(phrase),
      (error: Error & { fault?: unknown }) => {
        const facts = position === undefined ? { problem } : { problem, position }
        assert.deepEqual(error.fault, { code: 'IDENTITY_PHRASE_INVALID', ...facts })
        assert.doesNotMatch(error.message, /canday|cannon|abandon|amount/)
        return true
      },
    )
  }
})

test('no text makes the reader of seed phrases throw anything else', () => {
  const word = fc.constantFrom(...PHRASE.split(' '), 'x', '', 'é', '#', '\u0000')
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(word, { maxLength: 30 }).map(words => words.join(' ')),
  )
  fc.assert(
    fc.property(texts, text => {
      try {
        secretOfPhrase(text)
      } catch (error) {
        assert.equal((error as { code?: unknown }).code, 'IDENTITY_PHRASE_INVALID')
      }
    }),
  )
})

test('a rotation takes the next key of the phrase, and a new phrase where there was none', () => {
  const random = seededRandom(1)
  const first = newSecret(random)
  const second = nextSecret(first, random)
  assert.equal(seedPhraseOf(second), seedPhraseOf(first))
  assert.notDeepEqual(seedOf(second), seedOf(first))
  const imported = { kind: 'seed', seed: random.bytes(32) } as const
  assert.equal(seedPhraseOf(imported), undefined)
  assert.equal(seedPhraseOf(nextSecret(imported, random))?.split(' ').length, 24)
  const last = { kind: 'root', root: ROOT, index: KEY_INDEX_MAX } as const
  assert.throws(() => nextSecret(last, random), { code: 'IDENTITY_KEYS_EXHAUSTED' })
})
