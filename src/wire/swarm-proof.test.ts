import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toHex } from '#base'
import { type ProofContext, swarmProof } from './swarm-proof.ts'

const secret = new TextEncoder().encode('the secret')
const context: ProofContext = {
  role: 'dialler',
  dialler: '12D3KooWA',
  listener: '12D3KooWB',
  diallerNonce: new Uint8Array(32).fill(1),
  listenerNonce: new Uint8Array(32).fill(2),
}

test('a proof is bound to the secret, the role, both peers and both nonces', () => {
  const proof = toHex(swarmProof(secret, context))
  const others = [
    swarmProof(new TextEncoder().encode('another'), context),
    swarmProof(secret, { ...context, role: 'listener' }),
    swarmProof(secret, { ...context, dialler: '12D3KooWC' }),
    swarmProof(secret, { ...context, listener: '12D3KooWC' }),
    swarmProof(secret, { ...context, diallerNonce: new Uint8Array(32) }),
    swarmProof(secret, { ...context, listenerNonce: new Uint8Array(32) }),
    // The same bytes, cut elsewhere.
    swarmProof(secret, { ...context, dialler: '12D3KooWA1', listener: '2D3KooWB' }),
  ]
  for (const other of others) assert.notEqual(toHex(other), proof)
  // Python: hmac.new(b'the secret', b''.join(struct.pack('>I', len(p)) + p for p in parts), 'sha256').hexdigest()
  assert.equal(proof, 'ae61f33760b76d8aa3932851e607725219d78d47c3a86b4edef47c7bb99116e2')
})
