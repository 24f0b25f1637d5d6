/** Frames that no honest peer sends: others' keys, others' recipients, fields of a HELLO at will. */
import assert from 'node:assert/strict'
import { systemClock, systemRandom } from '#base'
import { publicKeyOfPeer } from '#crypto'
import type { KeyProvider } from '#identity'
import { Refusal, signFrame } from '#protocol'
import {
  CIPHER_SUITES,
  CONTROL_SCHEMAS,
  decodeBody,
  encodeBody,
  encodeFrame,
  FRAME_TYPES,
  type FrameContext,
  type Hello,
  PROTOCOL_VERSIONS,
  type RefusalReason,
  signedBytes,
} from '#wire'
import type { RawControl } from './raw-peer.ts'

type Signer = Pick<KeyProvider, 'publicKey' | 'sign'>

const PREFIX_BYTES = 32
const HEADER_BYTES = 96
export const NO_SESSION = new Uint8Array(16)

export function keyOf(peer: string): Uint8Array {
  const key = publicKeyOfPeer(peer)
  assert.ok(key !== undefined)
  return key
}

/** A signed HELLO. @param to peer id of the recipient */
export async function helloFrame(signer: Signer, to: string, fields: Partial<Hello> = {}): Promise<Uint8Array> {
  const hello: Hello = {
    versions: [...PROTOCOL_VERSIONS],
    preferred: 1,
    suites: [...CIPHER_SUITES],
    capabilities: [],
    agent: 'attacker',
    key: signer.publicKey,
    handovers: [],
    session: systemRandom.bytes(16),
    time: systemClock.now(),
    nonce: systemRandom.bytes(32),
    secret: false,
    ...fields,
  }
  return signFrame({
    type: FRAME_TYPES.hello,
    payload: encodeBody(hello),
    nonce: { timeMs: systemClock.now(), epoch: 0, sequence: 0, random: 1 },
    context: { sender: signer.publicKey, recipient: keyOf(to), session: NO_SESSION },
    signer,
  })
}

/** The same frame with the signature of this signer, in this context, and perhaps another payload. */
export async function signedAgain(
  frame: Uint8Array,
  context: FrameContext,
  { signer, payload = frame.subarray(HEADER_BYTES) }: { readonly signer: Signer; readonly payload?: Uint8Array },
): Promise<Uint8Array> {
  const prefix = frame.slice(0, PREFIX_BYTES)
  new DataView(prefix.buffer).setUint32(4, payload.byteLength)
  return encodeFrame(prefix, await signer.sign(signedBytes(context, prefix, payload)), payload)
}

/** What a HELLO says. */
export function helloIn(frame: Uint8Array): Hello {
  const decoded = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.hello], frame.subarray(HEADER_BYTES))
  assert.ok('body' in decoded)
  return decoded.body
}

/** A key that signs frames as it should, and the proof inside the handshake not. */
export function withBadProof(provider: KeyProvider): KeyProvider {
  return {
    ...provider,
    sign: message => {
      const isProof = new TextDecoder().decode(message.subarray(0, 12)) === 'koinon/noise'
      return isProof ? systemRandom.bytes(64) : provider.sign(message)
    },
  }
}

export function flipped(frame: Uint8Array, byte: number, bit: number): Uint8Array {
  return frame.with(byte, (frame[byte] ?? 0) ^ (1 << bit))
}

/** Waits until the link has ended by a refusal. */
export async function refusalOf(control: RawControl): Promise<{ reason: RefusalReason; by: 'us' | 'peer' }> {
  const error = await control.ended
  assert.ok(error instanceof Refusal, String(error))
  return { reason: error.fault.reason, by: error.fault.by }
}

export async function isRefused(control: RawControl, reason: RefusalReason, by: 'us' | 'peer' = 'peer'): Promise<void> {
  assert.deepEqual(await refusalOf(control), { reason, by })
}
