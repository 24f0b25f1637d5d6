import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode } from '@ipld/dag-cbor'
import { ed25519 } from '@noble/curves/ed25519.js'
import * as fc from 'fast-check'
import { seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { openEnvelope, signEnvelope } from './envelope.ts'
import { ENVELOPE_BYTES_MAX } from './limits.ts'

const DOMAIN = 'koinon/test/1'
const signer = ed25519Signer(seededRandom(1).bytes(32))
const codeOf = (result: object): unknown => ('code' in result ? result.code : undefined)

test('an envelope gives back its payload and who signed it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 1000 }), async payload => {
      const bytes = await signEnvelope(signer, DOMAIN, payload)
      const peer = peerOfPublicKey(signer.publicKey)
      assert.deepEqual(openEnvelope(DOMAIN, bytes), { peer, publicKey: signer.publicKey, payload })
      const { signature } = decode<{ signature: Uint8Array }>(bytes)
      const message = Buffer.concat([Buffer.from(`${DOMAIN}\0`), payload])
      assert.ok(ed25519.verify(signature, message, signer.publicKey), 'by another implementation')
    }),
  )
})

test('an envelope counts for its own purpose only, whatever name it is given', async () => {
  const bytes = await signEnvelope(signer, DOMAIN, new Uint8Array(4))
  assert.equal(codeOf(openEnvelope('koinon/test/2', bytes)), 'ENVELOPE_DOMAIN')
  const renamed = encode({ ...decode<object>(bytes), domain: 'koinon/test/2' })
  assert.equal(codeOf(openEnvelope('koinon/test/2', renamed)), 'ENVELOPE_SIGNATURE')
})

test('an envelope with any bit changed is refused', async () => {
  const bytes = await signEnvelope(signer, DOMAIN, new TextEncoder().encode('payload'))
  for (let bit = 0; bit < 8 * bytes.byteLength; bit++) {
    const changed = bytes.slice()
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.ok('code' in openEnvelope(DOMAIN, changed), `bit ${bit}`)
  }
})

test('what is no envelope is refused', async () => {
  const bytes = await signEnvelope(signer, DOMAIN, new Uint8Array(4))
  const fields = decode<object>(bytes)
  const cases = [
    encode({ ...fields, more: 1 }),
    encode({ ...fields, key: new Uint8Array(31) }),
    encode({ ...fields, payload: 'text' }),
    encode({ ...fields, domain: 1 }),
    encode([]),
    Buffer.concat([bytes, new Uint8Array(1)]),
    new Uint8Array(ENVELOPE_BYTES_MAX + 1),
    // Arrays in arrays, as deep as there is room for.
    new Uint8Array(ENVELOPE_BYTES_MAX).fill(0x81),
  ]
  for (const wrong of cases) assert.equal(codeOf(openEnvelope(DOMAIN, wrong)), 'ENVELOPE_MALFORMED')
})

test('no bytes make the reader throw', async () => {
  const whole = await signEnvelope(signer, DOMAIN, new Uint8Array(10))
  const cut = fc
    .tuple(fc.nat(whole.byteLength), fc.nat(whole.byteLength), fc.uint8Array({ maxLength: 20 }))
    .map(([from, to, middle]) => Buffer.concat([whole.subarray(0, from), middle, whole.subarray(to)]))
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), cut), bytes => {
      assert.ok('code' in openEnvelope(DOMAIN, bytes) || Buffer.compare(bytes, whole) === 0)
    }),
    { numRuns: 1000 },
  )
})

test('a payload that others would not take is a bug of ours', async () => {
  await assert.rejects(signEnvelope(signer, DOMAIN, new Uint8Array(ENVELOPE_BYTES_MAX)), TypeError)
})
