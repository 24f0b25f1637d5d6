import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { toHex } from '#base'
import { parseEnvironmentKey } from './environment-key.ts'
import { identityOfSecret } from './node-identity.ts'
import { secretOfPhrase, seedPhraseOf } from './node-secret.ts'

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })

test('a key from the environment may be hexadecimal or base64, with space around it', () => {
  fc.assert(
    fc.property(bytes32, seed => {
      const { peer } = identityOfSecret({ kind: 'seed', seed }, 'environment')
      const base64 = Buffer.from(seed).toString('base64')
      for (const text of [toHex(seed), toHex(seed).toUpperCase(), base64, ` ${base64}\n`]) {
        assert.equal(parseEnvironmentKey(text).peer, peer)
      }
    }),
    { numRuns: 30 },
  )
})

test('a key from the environment may be a seed phrase and the number of its key', () => {
  fc.assert(
    fc.property(bytes32, fc.integer({ min: 0, max: 0xffff }), (root, index) => {
      const words = seedPhraseOf({ kind: 'root', root, index: 0 }) ?? ''
      const first = parseEnvironmentKey(words)
      assert.equal(first.provider.kind, 'environment')
      assert.deepEqual(first.secret, secretOfPhrase(words))
      assert.deepEqual(parseEnvironmentKey(`${words} #${index}`).secret, secretOfPhrase(words, index))
    }),
    { numRuns: 30 },
  )
})

test('what is no key is refused, and the message repeats none of it', () => {
  const words = seedPhraseOf({ kind: 'root', root: new Uint8Array(32), index: 0 }) ?? ''
  const hex = 'ab'.repeat(32)
  const invalid = ['', ' ', 'secret', hex.slice(1), `${hex}ab`, Buffer.alloc(31).toString('base64'), `${words} #65536`]
  for (const text of [...invalid, 'x'.repeat(1_000_000)]) {
    assert.throws(
      () => parseEnvironmentKey(text),
      (error: Error & { code?: unknown }) => {
        assert.equal(error.code, 'IDENTITY_KEY_INVALID')
        assert.ok(text.trim() === '' || !error.message.includes(text))
        return true
      },
    )
  }
  for (const text of [`${words} zoo`, `${words}#`, words.replace('art', 'zoo'), `${words} #1 #2`, `${words} #-1`]) {
    assert.throws(() => parseEnvironmentKey(text), { code: 'IDENTITY_PHRASE_INVALID' }, text)
  }
})

test('no text makes the reader throw anything else', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.base64String(),
        fc.string({ unit: fc.constantFrom('a', '#', ' ', '1') }),
      ),
      text => {
        try {
          parseEnvironmentKey(text)
        } catch (error) {
          assert.match(String((error as { code?: unknown }).code), /^IDENTITY_(?:KEY|PHRASE)_INVALID$/)
        }
      },
    ),
  )
})
