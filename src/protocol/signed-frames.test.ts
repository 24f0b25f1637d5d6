import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toHex } from '#base'
import { ed25519Signer, ed25519Verifier } from '#crypto'
import { type FrameContext, type FrameNonce } from '#wire'
import { frameOf, parseFrame } from '../../test/support/session-pair.ts'
import { signFrame, verifyFrame } from './signed-frames.ts'

const signer = ed25519Signer(new Uint8Array(32).fill(1))
const verifier = ed25519Verifier(signer.publicKey)
const context: FrameContext = {
  sender: signer.publicKey,
  recipient: new Uint8Array(32).fill(2),
  session: new Uint8Array(16).fill(3),
}
const nonce: FrameNonce = { timeMs: 1_800_000_000_000, epoch: 0x1_0002, sequence: 7, random: 9 }
const payload = new TextEncoder().encode('hello')

function signed(): Uint8Array {
  const frame = signFrame({ type: 1, payload, nonce, context, signer })
  assert.ok(frame instanceof Uint8Array)
  return frame
}

test('a signed frame carries what it was given and is verified', () => {
  const frame = frameOf(signed())
  assert.equal(frame.type, 1)
  assert.equal(frame.isSealed, false)
  assert.deepEqual(frame.nonce, nonce)
  assert.deepEqual(frame.payload, payload)
  assert.ok(verifyFrame(frame, context, verifier))
})

test('a signer elsewhere gives the same frame later', async () => {
  const frame = signFrame({
    type: 1,
    payload,
    nonce,
    context,
    signer: { sign: message => Promise.resolve(signer.sign(message)) },
  })
  assert.ok(frame instanceof Promise)
  assert.equal(toHex(await frame), toHex(signed()))
})

test('every bit of a frame is covered', () => {
  const bytes = signed()
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const changed = bytes.slice()
    changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
    const frame = parseFrame(changed)
    assert.ok('code' in frame || !verifyFrame(frame, context, verifier), `bit ${bit}`)
  }
})

test('a frame holds for one sender, one recipient and one session', () => {
  const frame = frameOf(signed())
  const other = new Uint8Array(32).fill(8)
  assert.ok(!verifyFrame(frame, { ...context, sender: other }, verifier))
  assert.ok(!verifyFrame(frame, { ...context, recipient: other }, verifier))
  assert.ok(!verifyFrame(frame, { ...context, session: other.subarray(0, 16) }, verifier))
  assert.ok(!verifyFrame(frame, context, ed25519Verifier(ed25519Signer(other).publicKey)))
})

test('a frame that says it is sealed is never verified, whatever its signature', () => {
  const frame = frameOf(signed())
  assert.ok(!verifyFrame({ ...frame, isSealed: true }, context, verifier))
})
