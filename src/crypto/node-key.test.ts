import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noise } from '@libp2p/noise'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import * as fc from 'fast-check'
import { seededRandom } from '#base'
import {
  decodeNodeKey,
  encodeNodeKey,
  generateNodeKey,
  nodeKeyOf,
  peerIdOf,
  peerOfPublicKey,
  publicKeyOfPeer,
  seedOfNodeKey,
} from './node-key.ts'
import { ed25519Signer } from './signing.ts'

const SEED = new Uint8Array(32).fill(7)

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

test('a key over a signer is the same key to libp2p as one that it holds itself', async () => {
  const signer = ed25519Signer(SEED)
  const held = await generateNodeKey({ uint32: () => 0, bytes: () => SEED.slice() })
  const message = new TextEncoder().encode('message')
  for (const sign of [(text: Uint8Array) => signer.sign(text), async (text: Uint8Array) => signer.sign(text)]) {
    const key = nodeKeyOf({ publicKey: signer.publicKey, sign })
    assert.equal(peerIdOf(key), peerIdOf(held))
    assert.equal(peerOfPublicKey(signer.publicKey), peerIdOf(held))
    assert.ok(peerIdFromPrivateKey(key).equals(peerIdFromPrivateKey(held)))
    assert.deepEqual(await key.sign(message), new Uint8Array(await held.sign(message)))
    assert.ok(await held.publicKey.verify(message, await key.sign(message)))
    assert.ok(key.equals(held) && key.equals(key))
    assert.equal(key.equals(await generateNodeKey(seededRandom(1))), false)
    assert.equal(key.equals(undefined), false)
  }
  assert.deepEqual(seedOfNodeKey(held), SEED)
})

test('what is no Ed25519 key makes no key over a signer', () => {
  assert.throws(() => nodeKeyOf({ publicKey: new Uint8Array(33).fill(2), sign: text => text }))
})

for (const [name, encrypter] of [
  ['TLS', tls],
  ['Noise', noise],
] as const) {
  test(`libp2p authenticates a key over a signer that answers late: ${name}`, async t => {
    const start = async (seed: number): Promise<Libp2p> => {
      const signer = ed25519Signer(new Uint8Array(32).fill(seed))
      const sign = (text: Uint8Array): Promise<Uint8Array> => Promise.resolve(signer.sign(text))
      const node = await createLibp2p({
        privateKey: nodeKeyOf({ publicKey: signer.publicKey, sign }),
        addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
        transports: [tcp()],
        connectionEncrypters: [encrypter()],
        streamMuxers: [yamux()],
        // Loopback is where this test runs; by default libp2p takes it for no address to dial.
        connectionGater: { denyDialMultiaddr: () => false },
      })
      t.after(() => node.stop())
      return node
    }
    const [a, b] = await Promise.all([start(1), start(2)])
    const accepted = Promise.withResolvers<string>()
    b.addEventListener('peer:connect', event => accepted.resolve(event.detail.toString()))
    const connection = await a.dial(b.getMultiaddrs())
    assert.equal(connection.remotePeer.toString(), peerOfPublicKey(ed25519Signer(new Uint8Array(32).fill(2)).publicKey))
    assert.equal(await accepted.promise, peerOfPublicKey(ed25519Signer(new Uint8Array(32).fill(1)).publicKey))
  })
}

test('a peer id holds its public key, and other text holds none', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.string({ unit: 'binary' }), (bytes, text) => {
      // Any 32 bytes, a point of the curve or not: who has signed nothing has no peer id that counts.
      assert.deepEqual(publicKeyOfPeer(peerOfPublicKey(bytes)), bytes)
      assert.equal(publicKeyOfPeer(text), undefined)
    }),
  )
  // A peer id with an RSA key holds the key's hash only.
  assert.equal(publicKeyOfPeer('QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N'), undefined)
})

test('text that is too long for a peer id is not even decoded', () => {
  const startedAt = performance.now()
  assert.equal(publicKeyOfPeer('1'.repeat(1_000_000)), undefined)
  assert.equal(publicKeyOfPeer('z'.repeat(1_000_000)), undefined)
  // Decoding it would take a thousand seconds.
  assert.ok(performance.now() - startedAt < 60_000)
})
