import assert from 'node:assert/strict'
import { after, beforeEach, test } from 'node:test'
import { ManualClock, systemClock } from '#base'
import { ed25519Verifier, peerOfPublicKey } from '#crypto'
import { freePort } from '../../test/support/free-port.ts'
import { KMS_KEY, KMS_REGION, sendFault, sendJson, startKmsServer } from '../../test/support/kms-server.ts'
import { KeyringError } from './errors.ts'
import type { KmsSource } from './key-source.ts'
import { KMS_ANSWER_MS_MAX, KMS_MESSAGE_BYTES_MAX, KMS_RUNNING_MAX, KMS_SIGN_MS_MAX, KMS_TRIES_MAX } from './limits.ts'
import { openKey } from './open-key.ts'

const server = await startKmsServer(after)
const source: KmsSource = { kind: 'kms', key: KMS_KEY, region: KMS_REGION, endpoint: server.endpoint }
const deps = { clock: systemClock, readFile: () => assert.fail('no file is read') }
const hello = new TextEncoder().encode('hello')

beforeEach(() => {
  server.fault = undefined
})

test('a key of the service signs as the node, by requests that AWS would take', async () => {
  const before = server.requests.length
  const identity = await openKey(deps, source)
  const { provider } = identity
  assert.deepEqual([provider.kind, identity.peer], ['kms', peerOfPublicKey(server.publicKey)])
  assert.equal('hybrid' in identity, false)
  assert.ok(ed25519Verifier(server.publicKey).verify(hello, await provider.sign(hello)))
  const asked = server.requests.slice(before)
  assert.deepEqual(
    asked.map(({ operation }) => operation),
    ['GetPublicKey', 'Sign', 'Sign'],
  )
  assert.equal(asked.at(-1)?.body['Message'], Buffer.from(hello).toString('base64'))
  await provider.close()
  await assert.rejects(Promise.resolve(provider.sign(hello)), { code: 'KEYRING_CLOSED' })
})

test('a message longer than the service signs is refused before it is asked', async t => {
  const { provider } = await openKey(deps, source)
  t.after(() => provider.close())
  const longest = new Uint8Array(KMS_MESSAGE_BYTES_MAX)
  assert.ok(ed25519Verifier(server.publicKey).verify(longest, await provider.sign(longest)))
  const before = server.requests.length
  await assert.rejects(Promise.resolve(provider.sign(new Uint8Array(KMS_MESSAGE_BYTES_MAX + 1))), {
    code: 'KEYRING_MESSAGE_SIZE',
  })
  assert.equal(server.requests.length, before)
})

const REFUSALS = [
  [400, 'AccessDeniedException', 'KEYRING_ACCESS'],
  [400, 'UnrecognizedClientException', 'KEYRING_ACCESS'],
  [400, 'ExpiredTokenException', 'KEYRING_ACCESS'],
  [400, 'NotFoundException', 'KEYRING_KEY_UNKNOWN'],
  [400, 'InvalidKeyUsageException', 'KEYRING_KEY_TYPE'],
  [400, 'UnsupportedOperationException', 'KEYRING_KEY_TYPE'],
  [400, 'DisabledException', 'KEYRING_SERVICE_FAILED'],
  [400, 'KMSInvalidStateException', 'KEYRING_SERVICE_FAILED'],
] as const

for (const [status, type, code] of REFUSALS) {
  test(`${type} of the service is ${code}, and its sentence about accounts stays out`, async () => {
    server.fault = (_request, response) => sendFault(response, status, type)
    await assert.rejects(openKey(deps, source), (error: unknown) => {
      assert.ok(error instanceof KeyringError)
      assert.equal(error.code, code)
      assert.doesNotMatch(error.message, /arn:aws:iam|somebody|secret/)
      return true
    })
  })
}

test('a service that throttles is tried again, and not for ever', async t => {
  const { provider } = await openKey(deps, source)
  t.after(() => provider.close())
  let left = 1
  server.fault = (_request, response) => left-- > 0 && sendFault(response, 400, 'ThrottlingException')
  assert.ok(ed25519Verifier(server.publicKey).verify(hello, await provider.sign(hello)))
  const before = server.requests.length
  server.fault = (_request, response) => sendFault(response, 400, 'ThrottlingException')
  await assert.rejects(Promise.resolve(provider.sign(hello)), { code: 'KEYRING_BUSY' })
  assert.equal(server.requests.length - before, KMS_TRIES_MAX)
})

test('a service that does not answer costs a bounded time', async t => {
  const clock = new ManualClock()
  const { provider } = await openKey({ ...deps, clock }, source)
  t.after(() => provider.close())
  const silent = Promise.withResolvers<void>()
  server.fault = () => {
    silent.resolve()
    return true
  }
  const signed = Promise.resolve(provider.sign(hello))
  const refused = assert.rejects(signed, { code: 'KEYRING_TIMEOUT' })
  await silent.promise
  clock.advance(KMS_SIGN_MS_MAX)
  await refused
  assert.ok(KMS_ANSWER_MS_MAX < KMS_SIGN_MS_MAX)
})

test('a service that is not there is a clear error', async () => {
  const endpoint = `http://127.0.0.1:${await freePort()}`
  await assert.rejects(openKey(deps, { ...source, endpoint }), {
    code: 'KEYRING_SERVICE_FAILED',
    message: /ECONNREFUSED/,
  })
})

test('a key of another type is refused', async () => {
  const spki = 'MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE='
  const answers = [
    { KeySpec: 'ECC_NIST_P256', PublicKey: spki },
    { KeySpec: 'ECC_NIST_EDWARDS25519', PublicKey: 'AAAA' },
    { KeySpec: 'ECC_NIST_EDWARDS25519' },
    { KeySpec: 'ECC_NIST_EDWARDS25519', PublicKey: `${spki.slice(0, 8)}AAAA${spki.slice(12)}` },
  ]
  for (const answer of answers) {
    server.fault = (_request, response) => {
      sendJson(response, 200, { KeyId: KMS_KEY, ...answer })
      return true
    }
    await assert.rejects(openKey(deps, source), { code: 'KEYRING_KEY_TYPE' })
  }
})

test('a signature that is not by the key is never handed on', async () => {
  for (const Signature of [Buffer.alloc(64).toString('base64'), 'AAAA', undefined]) {
    server.fault = ({ operation }, response) => {
      if (operation !== 'Sign') return false
      sendJson(response, 200, { KeyId: KMS_KEY, Signature })
      return true
    }
    await assert.rejects(openKey(deps, source), { code: 'KEYRING_SIGNATURE_INVALID' })
  }
})

test('a service that answers with something else fails, and says no more', async () => {
  server.fault = (_request, response) => {
    response.end('<html>')
    return true
  }
  await assert.rejects(openKey(deps, source), { code: 'KEYRING_SERVICE_FAILED' })
})

test('many signatures at once are asked for a few at a time', async t => {
  const { provider } = await openKey(deps, source)
  t.after(() => provider.close())
  const held: (() => void)[] = []
  const full = Promise.withResolvers<void>()
  server.fault = (_request, response) => {
    if (held.length >= KMS_RUNNING_MAX) return false
    held.push(() => sendFault(response, 400, 'DisabledException'))
    if (held.length === KMS_RUNNING_MAX) full.resolve()
    return true
  }
  const signatures = Promise.allSettled(Array.from({ length: KMS_RUNNING_MAX + 4 }, async () => provider.sign(hello)))
  await full.promise
  const before = server.requests.length
  for (const release of held) release()
  const results = await signatures
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 4)
  assert.equal(server.requests.length - before, 4)
})
