import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey, sha1 } from '#crypto'
import { type BencodeValue, decodeBencode, encodeBencode } from '#formats'
import { isFault } from './errors.ts'
import { stableIdOf, stableIdOfPeer } from './keys.ts'
import { METADATA_BYTES_MAX } from './limits.ts'
import { addressesOfPlace, decodePeerMetadata, decodePeerMetadataBytes, encodePeerMetadata } from './peer-metadata.ts'
import type { PeerMetadata } from './peer-metadata.ts'

const random = seededRandom(3)
const peerId = (): string => peerOfPublicKey(ed25519Signer(random.bytes(32)).publicKey)

const natNode: PeerMetadata = {
  version: 1,
  timestamp: 1_700_000_000,
  nodeType: 'private',
  isRelay: false,
  publicPlace: { host: '203.0.113.9', quic: 30906 },
  privatePlace: { host: 'fd00::1', tcp: 4001, quic: 30906, plane: 4002 },
  addresses: ['/dns4/node.example/tcp/443/ws'],
  relay: { peer: peerId(), session: 'c0ffee', address: '/ip4/198.51.100.7/tcp/4001' },
  protocols: ['/koinon/control/1'],
  capabilities: ['stage'],
}

test('metadata survives encoding, in one form only', () => {
  const { value, bytes } = encodePeerMetadata(natNode)
  assert.deepEqual(decodePeerMetadata(value), natNode)
  assert.deepEqual(decodePeerMetadataBytes(bytes), natNode)
  assert.ok(bytes.byteLength < 420, `${bytes.byteLength} bytes`)
  assert.deepEqual(encodePeerMetadata(decodePeerMetadata(value) as PeerMetadata).bytes, bytes)
})

test('an item stays below 1000 bytes: what does not fit is left out', () => {
  const long = (n: number): string => `/dns4/${'x'.repeat(170)}${n}/tcp/1`
  const whole = { ...natNode, addresses: Array.from({ length: 20 }, (_, i) => long(i)) }
  const { bytes } = encodePeerMetadata({ ...whole, capabilities: Array.from({ length: 40 }, (_, i) => `c${i}`) })
  assert.ok(bytes.byteLength <= METADATA_BYTES_MAX)
  const decoded = decodePeerMetadataBytes(bytes)
  assert.ok(!isFault(decoded) && decoded.addresses.length >= 2, 'addresses go last')
})

test('every field of a wrong type, missing or out of range is a fault', () => {
  const { value } = encodePeerMetadata(natNode)
  const dict = value as Readonly<Record<string, BencodeValue>>
  const wrongs: BencodeValue[] = [-1, 70_000, new Uint8Array(0), new Uint8Array(300), [], [1], {}, { h: 1 }]
  for (const key of Object.keys(dict)) {
    for (const wrong of wrongs) {
      const decoded = decodePeerMetadata({ ...dict, [key]: wrong })
      const isEmptyList = Array.isArray(wrong) && wrong.length === 0 && 'aco'.includes(key)
      assert.equal(
        isFault(decoded),
        !(isEmptyList || (key === 't' && wrong === 70_000)),
        `${key}: ${JSON.stringify(wrong)}`,
      )
    }
  }
  assert.ok(isFault(decodePeerMetadata({ ...dict, r: 1 })), 'a relay behind NAT')
  assert.ok(isFault(decodePeerMetadata({ ...dict, n: 1 })), 'a public node with a relay')
  assert.ok(isFault(decodePeerMetadata([])))
  assert.ok(isFault(decodePeerMetadataBytes(new Uint8Array(2_000))))
})

test('no bytes make the decoder throw', () => {
  const { bytes } = encodePeerMetadata(natNode)
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(bytes.byteLength - 1), fc.nat(255)), { maxLength: 6 }), changes => {
      const mutated = bytes.slice()
      for (const [at, byte] of changes) mutated[at] = byte
      const decoded = decodePeerMetadataBytes(mutated)
      if (isFault(decoded)) return
      const again = encodePeerMetadata(decoded)
      assert.deepEqual(decodePeerMetadata(again.value), decoded)
      assert.notEqual(decodeBencode(encodeBencode(again.value) ?? new Uint8Array()), undefined)
    }),
    { numRuns: 500, seed: 7 },
  )
})

test('the stable id is SHA-1 of the key, and a place becomes addresses of both transports', () => {
  const { publicKey } = ed25519Signer(random.bytes(32))
  const peer = peerOfPublicKey(publicKey)
  assert.deepEqual(stableIdOf(publicKey), sha1(publicKey))
  assert.deepEqual(stableIdOfPeer(peer), sha1(publicKey))
  assert.equal(stableIdOfPeer('nobody'), undefined)
  assert.deepEqual(addressesOfPlace({ host: '2001:db8::1', tcp: 1, quic: 2 }, peer), [
    `/ip6/2001:db8::1/udp/2/quic-v1/p2p/${peer}`,
    `/ip6/2001:db8::1/tcp/1/p2p/${peer}`,
  ])
})
