/** Frames that carry an Ed25519 signature (`#wire` frame.ts): everything but the sealed frames of streams. */
import type { Ed25519Verifier } from '#crypto'
import { encodeFrame, encodeFramePrefix, type Frame, type FrameContext, type FrameNonce, signedBytes } from '#wire'

/** What signs frames: a key in this process answers at once, a token or a service by a promise. */
export type FrameSigner = {
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}

export type SignedFrameParts = {
  /** Without the sealed bit. */
  readonly type: number
  readonly payload: Uint8Array
  readonly nonce: FrameNonce
  readonly context: FrameContext
  readonly signer: FrameSigner
}

/** The whole frame: at once where the signer answers at once. Rejects as the signer does. */
export function signFrame(parts: SignedFrameParts): Uint8Array | Promise<Uint8Array> {
  const { type, payload, nonce, context, signer } = parts
  const prefix = encodeFramePrefix({ type, isSealed: false, length: payload.byteLength, nonce })
  const signature = signer.sign(signedBytes(context, prefix, payload))
  if (signature instanceof Uint8Array) return encodeFrame(prefix, signature, payload)
  return signature.then(bytes => encodeFrame(prefix, bytes, payload))
}

/**
 * Whether the frame's signature is this sender's, for this recipient and session. A sealed frame has no signature, so it
 * is never verified: nobody gets past the session by setting that bit.
 */
export function verifyFrame(frame: Frame, context: FrameContext, verifier: Ed25519Verifier): boolean {
  return !frame.isSealed && verifier.verify(signedBytes(context, frame.prefix, frame.payload), frame.signature)
}
