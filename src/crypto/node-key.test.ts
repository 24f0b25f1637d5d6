import assert from 'node:assert/strict'
import { test } from 'node:test'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { seededRandom } from '#base'
import { decodeNodeKey, encodeNodeKey, generateNodeKey, peerIdOf } from './node-key.ts'

test('a key survives its encoding and keeps its peer id', async () => {
  const key = await generateNodeKey(seededRandom(1))
  const again = decodeNodeKey(encodeNodeKey(key))
  assert.ok(again)
  assert.equal(peerIdOf(again), peerIdOf(key))
  assert.match(peerIdOf(key), /^12D3KooW/)
  assert.equal(peerIdOf(key), peerIdFromPrivateKey(key).toString())
})

test('different randomness makes different keys', async () => {
  const [a, b] = await Promise.all([generateNodeKey(seededRandom(1)), generateNodeKey(seededRandom(2))])
  assert.notEqual(peerIdOf(a), peerIdOf(b))
})

test('bytes that are no Ed25519 key decode to nothing', async () => {
  const bytes = encodeNodeKey(await generateNodeKey(seededRandom(1)))
  assert.equal(decodeNodeKey(new Uint8Array(0)), undefined)
  assert.equal(decodeNodeKey(bytes.subarray(0, 40)), undefined)
  // Field 1 of the protobuf is the kind of key: 2 is secp256k1.
  assert.equal(decodeNodeKey(Uint8Array.from(bytes, (byte, i) => (i === 1 ? 2 : byte))), undefined)
})
