import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { KeyringError } from './errors.ts'
import { parseKeyUri } from './key-uri.ts'

test('the data directory and the environment are one word each', () => {
  assert.deepEqual(parseKeyUri('file'), { kind: 'file' })
  assert.deepEqual(parseKeyUri('env'), { kind: 'environment' })
})

test('a PKCS #11 URI names a token, a key, a module and where the PIN is', () => {
  assert.deepEqual(
    parseKeyUri('pkcs11:token=My%20token;object=node;type=private?module-path=/usr/lib/p11.so&pin-source=/run/pin'),
    { kind: 'pkcs11', module: '/usr/lib/p11.so', token: 'My token', label: 'node', pinFile: '/run/pin' },
  )
  assert.deepEqual(parseKeyUri('pkcs11:serial=ab12;id=%01%ff;token=T?module-path=m.so&pin-source=file:///run/p'), {
    kind: 'pkcs11',
    module: 'm.so',
    token: 'T',
    serial: 'ab12',
    id: '01ff',
    pinFile: '/run/p',
  })
})

test('a KMS key is named by its id, its ARN or an alias', () => {
  assert.deepEqual(parseKeyUri('kms:alias/koinon'), { kind: 'kms', key: 'alias/koinon' })
  assert.deepEqual(parseKeyUri('kms:1234abcd-12ab?region=eu-central-1&endpoint=http://127.0.0.1:8080'), {
    kind: 'kms',
    key: '1234abcd-12ab',
    region: 'eu-central-1',
    endpoint: 'http://127.0.0.1:8080',
  })
  const arn = 'arn:aws:kms:us-east-2:111122223333:key/1234abcd'
  assert.deepEqual(parseKeyUri(`kms:${arn}`), { kind: 'kms', key: arn, region: 'us-east-2' })
  assert.deepEqual(parseKeyUri(`kms:${arn}?region=eu-west-1`), { kind: 'kms', key: arn, region: 'eu-west-1' })
})

const REFUSED = [
  ['', /expected file, env/],
  ['files', /expected file, env/],
  ['PKCS11:token=T', /expected file, env/],
  ['pkcs11:object=k?module-path=m', /no token/],
  ['pkcs11:token=T;object=k', /no module/],
  ['pkcs11:token=T?module-path=m', /no key/],
  ['pkcs11:token=T;object=k;type=public?module-path=m', /type=private/],
  ['pkcs11:token=T;object=k?module-path=m&pin-value=123', /use pin-source/],
  ['pkcs11:token=T;object=k?module-path=m&pin-source=|cat', /no file/],
  ['pkcs11:token=T;token=U;object=k?module-path=m', /twice/],
  ['pkcs11:token=T;slot-id=1;object=k?module-path=m', /"slot-id" is not one of/],
  ['pkcs11:token=%ff;object=k?module-path=m', /no text/],
  ['pkcs11:token=100%;object=k?module-path=m', /%/],
  ['kms:', /names no key/],
  ['kms:a b', /names no key/],
  ['kms:k?region=EU WEST', /region/],
  ['kms:k?endpoint=ftp://x', /endpoint/],
  ['kms:k?profile=x', /"profile" is not one of/],
  [`kms:${'k'.repeat(3000)}`, /too long/],
] as const

for (const [text, why] of REFUSED) {
  test(`"${text.slice(0, 60)}" is refused with a reason`, () => {
    assert.throws(() => parseKeyUri(text), { code: 'KEYRING_SOURCE_INVALID', message: why })
  })
}

test('whatever is typed is read or refused, never anything else', () => {
  const scheme = fc.constantFrom('pkcs11:', 'kms:', 'file', 'env', '')
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom('token=', 'object=', ';', '?', '&', '%', '%00', 'module-path=', '='),
  )
  fc.assert(
    fc.property(scheme, fc.array(piece, { maxLength: 12 }), (head, pieces) => {
      try {
        parseKeyUri(head + pieces.join(''))
      } catch (error) {
        assert.ok(error instanceof KeyringError, String(error))
      }
    }),
    { numRuns: 2000 },
  )
})
