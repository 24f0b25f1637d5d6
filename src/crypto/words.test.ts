import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { sha256 } from './hash.ts'
import { entropyOfWords, wordsOfEntropy } from './words.ts'

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
const repeat = (word: string, count: number): string => Array.from({ length: count }, () => word).join(' ')

test('words agree with the test vectors of BIP 39', () => {
  const legal = 'legal winner thank year wave sausage worth useful '
  const letter = 'letter advice cage absurd amount doctor acoustic avoid '
  const rows = [
    [0x00, `${repeat('abandon', 23)} art`],
    [0x7f, `${legal}${legal}legal winner thank year wave sausage worth title`],
    [0x80, `${letter}${letter}letter advice cage absurd amount doctor acoustic bless`],
    [0xff, `${repeat('zoo', 23)} vote`],
  ] as const
  for (const [byte, words] of rows) {
    const entropy = new Uint8Array(32).fill(byte)
    assert.equal(wordsOfEntropy(entropy), words)
    assert.deepEqual(entropyOfWords(words), entropy)
  }
})

test('words are eleven bits each of the bytes and their checksum', () => {
  // The list in its own order, read out of the words for every value of the first eleven bits.
  const list = Array.from({ length: 2048 }, (_, index) => {
    const entropy = new Uint8Array(32)
    new DataView(entropy.buffer).setUint16(0, index << 5)
    return wordsOfEntropy(entropy).split(' ')[0] ?? ''
  })
  assert.deepEqual(list, [...list].sort(), 'the English list is in alphabetical order')
  assert.equal(new Set(list).size, 2048)
  fc.assert(
    fc.property(bytes32, entropy => {
      const bits = [...entropy, sha256(entropy)[0] ?? 0].map(byte => byte.toString(2).padStart(8, '0')).join('')
      const words = bits.match(/.{11}/g)?.map(part => list[Number.parseInt(part, 2)])
      assert.equal(wordsOfEntropy(entropy), words?.join(' '))
      assert.deepEqual(entropyOfWords(wordsOfEntropy(entropy)), entropy)
    }),
  )
})

test('the checksum finds a word that was changed for another one, and no text throws', () => {
  const words = wordsOfEntropy(new Uint8Array(32).fill(9)).split(' ')
  // One change in 256 happens to fit: none of these does.
  for (const at of words.keys()) {
    const word = words[at] === 'zoo' ? 'art' : 'zoo'
    assert.deepEqual(entropyOfWords(words.with(at, word).join(' ')), { problem: 'checksum' }, `word ${at + 1}`)
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      assert.ok(!(entropyOfWords(text) instanceof Uint8Array))
    }),
  )
})
