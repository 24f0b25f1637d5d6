import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from '@ipld/dag-cbor'
import * as fc from 'fast-check'
import { seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { signEnvelope } from './envelope.ts'
import { RECORD_ADDRESS_CHARS_MAX, RECORD_ADDRESSES_MAX, RECORD_LIFE_MS_MAX } from './limits.ts'
import { createPeerRecord, verifyPeerRecord } from './peer-record.ts'

const NOW = 1_790_000_000_000
const signer = ed25519Signer(seededRandom(1).bytes(32))
const peer = peerOfPublicKey(signer.publicKey)
const other = peerOfPublicKey(ed25519Signer(seededRandom(2).bytes(32)).publicKey)
const RECORD = { sequence: 3, addresses: ['/ip4/192.0.2.1/tcp/4001', '/dns/example.org/tcp/1'], expiresAt: NOW + 1000 }
/** What a peer may send is 6 KiB. */
const WIRE_BYTES_MAX = 6 * 1024

const codeOf = (result: object): unknown => ('code' in result ? result.code : undefined)

test('a record says where a peer is, in its own words', async () => {
  assert.deepEqual(verifyPeerRecord(await createPeerRecord(signer, RECORD), NOW), { peer, ...RECORD })
})

test('a record ends, and none is good for longer than a month', async () => {
  const bytes = await createPeerRecord(signer, RECORD)
  assert.equal(codeOf(verifyPeerRecord(bytes, NOW + 999)), undefined)
  assert.equal(codeOf(verifyPeerRecord(bytes, NOW + 1000)), 'PEER_RECORD_EXPIRED')
  const longest = await createPeerRecord(signer, { ...RECORD, expiresAt: NOW + RECORD_LIFE_MS_MAX })
  assert.equal(codeOf(verifyPeerRecord(longest, NOW)), undefined)
  assert.equal(codeOf(verifyPeerRecord(longest, NOW - 1)), 'PEER_RECORD_LIFE')
})

test('of too many or odd addresses those go into a record that others take', async () => {
  const long = `/dns/${'x'.repeat(RECORD_ADDRESS_CHARS_MAX)}`
  const many = Array.from({ length: RECORD_ADDRESSES_MAX + 4 }, (_, index) => `/dns/${'x'.repeat(280)}/tcp/${index}`)
  const bytes = await createPeerRecord(signer, { ...RECORD, addresses: [long, 'no address', '/dns/ö', ...many] })
  const record = verifyPeerRecord(bytes, NOW)
  assert.ok(!('code' in record))
  assert.deepEqual(record.addresses, many.slice(0, RECORD_ADDRESSES_MAX))
  assert.ok(bytes.byteLength <= WIRE_BYTES_MAX)
})

test('a record of another peer, or one that does not parse, is refused though its envelope holds', async () => {
  const sign = (record: object): Promise<Uint8Array> => signEnvelope(signer, 'koinon/peer-record/1', encode(record))
  const right = { ...RECORD, peer }
  assert.equal(codeOf(verifyPeerRecord(await sign(right), NOW)), undefined)
  assert.equal(codeOf(verifyPeerRecord(await sign({ ...right, peer: other }), NOW)), 'PEER_RECORD_SIGNER')
  const wrong = [
    { ...right, addresses: ['no address'] },
    { ...right, addresses: ['/ip4/192.0.2.1 /tcp/1'] },
    { ...right, addresses: Array.from({ length: RECORD_ADDRESSES_MAX + 1 }, () => '/ip4/192.0.2.1/tcp/1') },
    { ...right, addresses: [`/${'x'.repeat(RECORD_ADDRESS_CHARS_MAX)}`] },
    { ...right, sequence: -1 },
    { ...right, sequence: 0.5 },
    { ...right, expiresAt: 'tomorrow' },
    { ...right, more: 1 },
    [],
  ]
  for (const record of wrong) assert.equal(codeOf(verifyPeerRecord(await sign(record), NOW)), 'PEER_RECORD_MALFORMED')
  const elsewhere = await signEnvelope(signer, 'koinon/test/1', encode(right))
  assert.equal(codeOf(verifyPeerRecord(elsewhere, NOW)), 'ENVELOPE_DOMAIN')
})

test('no bytes make the reader throw, and none but the signed ones are a record', async () => {
  const whole = await createPeerRecord(signer, RECORD)
  for (let bit = 0; bit < 8 * whole.byteLength; bit++) {
    const changed = whole.slice()
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.ok('code' in verifyPeerRecord(changed, NOW), `bit ${bit}`)
  }
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async bytes => {
      assert.ok('code' in verifyPeerRecord(bytes, NOW))
      assert.ok('code' in verifyPeerRecord(await signEnvelope(signer, 'koinon/peer-record/1', bytes), NOW))
    }),
    { numRuns: 300 },
  )
})
