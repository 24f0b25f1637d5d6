import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom, toHex } from '#base'
import { ed25519Signer, ed25519Verifier, mlDsa65Verify, publicKeyOfPeer, sha1 } from '#crypto'
import { createNodeIdentity, identityOfProvider, identityOfSecret } from './node-identity.ts'

const MESSAGE = new TextEncoder().encode('message')

test('peer id, stable id, provider and libp2p key of an identity are of one key', async () => {
  const { peer, stableId, provider, privateKey } = await createNodeIdentity(seededRandom(1))
  assert.match(peer, /^12D3KooW/)
  assert.deepEqual(publicKeyOfPeer(peer), provider.publicKey)
  assert.deepEqual(privateKey.publicKey.raw, provider.publicKey)
  assert.equal(privateKey.publicKey.toString(), peer)
  assert.equal(stableId.byteLength, 20)
  assert.deepEqual(stableId, sha1(provider.publicKey))
  const signature = await provider.sign(MESSAGE)
  assert.ok(ed25519Verifier(provider.publicKey).verify(MESSAGE, signature))
  assert.deepEqual(await privateKey.sign(MESSAGE), signature)
})

test('an identity whose secret is here also signs with ML-DSA-65', async () => {
  const { hybrid } = await createNodeIdentity(seededRandom(1))
  assert.ok(mlDsa65Verify(hybrid.publicKey, MESSAGE, await hybrid.sign(MESSAGE)))
})

test('the stable id is SHA-1 of the public key: a vector', () => {
  // The key of RFC 8032, section 7.1, test 1.
  const seed = Uint8Array.from(Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex'))
  const { stableId, provider } = identityOfSecret({ kind: 'seed', seed }, 'environment')
  assert.equal(provider.kind, 'environment')
  assert.equal(toHex(provider.publicKey), 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a')
  assert.equal(toHex(stableId), '5b27aa5589179770e47575b162a1ded97b8bfc6d')
})

test('an identity can sign with a key that answers by a promise, and holds no secret of it', async () => {
  const signer = ed25519Signer(seededRandom(1).bytes(32))
  const provider = {
    kind: 'pkcs11' as const,
    publicKey: signer.publicKey,
    sign: async (message: Uint8Array) => signer.sign(message),
    close: async () => undefined,
  }
  const identity = identityOfProvider(provider)
  assert.deepEqual(await identity.privateKey.sign(MESSAGE), signer.sign(MESSAGE))
  assert.equal('secret' in identity || 'hybrid' in identity, false)
})

test('the libp2p key of an identity holds no private bytes', async () => {
  assert.equal((await createNodeIdentity(seededRandom(1))).privateKey.raw.byteLength, 0)
})
