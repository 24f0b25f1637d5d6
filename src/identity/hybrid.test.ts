import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ed25519 } from '@noble/curves/ed25519.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { ml_dsa65 } from '@noble/post-quantum/ml-dsa.js'
import * as fc from 'fast-check'
import { seededRandom } from '#base'
import { ed25519Signer, mlDsa65Signer } from '#crypto'
import { HYBRID_SIGNATURE_BYTES, type HybridKeys, signHybrid, verifyHybrid } from './hybrid.ts'
import { createNodeIdentity } from './node-identity.ts'

const random = seededRandom(1)
const signers = { ed25519: ed25519Signer(random.bytes(32)), mlDsa65: mlDsa65Signer(random.bytes(32)) }
const others = { ed25519: ed25519Signer(random.bytes(32)), mlDsa65: mlDsa65Signer(random.bytes(32)) }
const keysOf = ({ ed25519, mlDsa65 }: typeof signers): HybridKeys => ({
  ed25519: ed25519.publicKey,
  mlDsa65: mlDsa65.publicKey,
})
const keys = keysOf(signers)
const MESSAGE = new TextEncoder().encode('message')
const signature = await signHybrid(signers, MESSAGE)

test('a hybrid signature holds for its message and its two keys only', () => {
  assert.equal(signature.byteLength, HYBRID_SIGNATURE_BYTES)
  assert.equal(verifyHybrid(keys, MESSAGE, signature), true)
  assert.equal(verifyHybrid(keys, new TextEncoder().encode('another'), signature), false)
  assert.equal(verifyHybrid(keysOf(others), MESSAGE, signature), false)
  assert.equal(verifyHybrid({ ...keys, ed25519: others.ed25519.publicKey }, MESSAGE, signature), false)
  assert.equal(verifyHybrid({ ...keys, mlDsa65: others.mlDsa65.publicKey }, MESSAGE, signature), false)
})

test('both halves must hold', async () => {
  const forged = await signHybrid(others, MESSAGE)
  const halves = (a: Uint8Array, b: Uint8Array): Uint8Array => Buffer.concat([a.subarray(0, 64), b.subarray(64)])
  assert.equal(verifyHybrid(keys, MESSAGE, halves(signature, signature)), true)
  assert.equal(verifyHybrid(keys, MESSAGE, halves(forged, signature)), false)
  assert.equal(verifyHybrid(keys, MESSAGE, halves(signature, forged)), false)
})

test('a half is no signature of the message by itself, and cannot be moved to a pair with another key', async () => {
  assert.equal(ed25519.verify(signature.subarray(0, 64), MESSAGE, keys.ed25519), false)
  assert.equal(ml_dsa65.verify(signature.subarray(64), MESSAGE, keys.mlDsa65), false)
  const mixed = { ed25519: others.ed25519, mlDsa65: signers.mlDsa65 }
  const moved = Buffer.concat([(await signHybrid(mixed, MESSAGE)).subarray(0, 64), signature.subarray(64)])
  assert.equal(verifyHybrid(keysOf(mixed), MESSAGE, moved), false)
})

test('what is signed is as it is written down, by another implementation', () => {
  const bound = Buffer.concat([
    Buffer.from('koinon/hybrid/1\0'),
    sha256(Buffer.concat([keys.ed25519, keys.mlDsa65])),
    MESSAGE,
  ])
  assert.ok(ed25519.verify(signature.subarray(0, 64), bound, keys.ed25519))
  assert.ok(ml_dsa65.verify(signature.subarray(64), bound, keys.mlDsa65))
})

test('the keys of an identity sign together, for a seed that is its own', async () => {
  const { provider, hybrid } = await createNodeIdentity(seededRandom(1))
  const pair = { ed25519: provider.publicKey, mlDsa65: hybrid.publicKey }
  assert.ok(verifyHybrid(pair, MESSAGE, await signHybrid({ ed25519: provider, mlDsa65: hybrid }, MESSAGE)))
})

test('changed signatures and keys of any length do not hold, and nothing throws', () => {
  const bytes = fc.uint8Array({ maxLength: 4000 })
  fc.assert(
    fc.property(fc.nat(8 * HYBRID_SIGNATURE_BYTES - 1), bytes, (bit, any) => {
      const changed = signature.slice()
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      assert.equal(verifyHybrid(keys, MESSAGE, changed), false)
      assert.equal(verifyHybrid(keys, MESSAGE, any), false)
      assert.equal(verifyHybrid({ ...keys, mlDsa65: any }, MESSAGE, signature), false)
      assert.equal(verifyHybrid({ ...keys, ed25519: any.subarray(0, 32) }, MESSAGE, signature), false)
    }),
  )
})
