/** Frames of version 1 and the HELLO, as `docs/reference/protocol.md` draws them. */
import { randomBytes } from 'node:crypto'
import { decode, encode } from '@ipld/dag-cbor'
import { ed25519 } from '@noble/curves/ed25519.js'
import { type Bytes, join, type Line, prefixed } from './dial.ts'

export const TYPE = {
  hello: 1,
  handshake: 2,
  refuse: 4,
  proof: 5,
  info: 6,
  response: 16,
  error: 18,
  capabilities: 32,
} as const
export const NO_SESSION: Bytes = new Uint8Array(16)

const text = new TextEncoder()

export type Frame = {
  readonly type: number
  readonly epoch: number
  readonly sequence: number
  readonly prefix: Bytes
  readonly signature: Bytes
  readonly payload: Bytes
}

export function prefixOf(type: number, sequence: number, length: number): Bytes {
  const prefix = new Uint8Array(32)
  const view = new DataView(prefix.buffer)
  view.setUint16(0, 0x5a45)
  view.setUint8(2, 1)
  view.setUint8(3, type)
  view.setUint32(4, length)
  view.setBigUint64(8, BigInt(Date.now()))
  view.setBigUint64(20, BigInt(sequence))
  prefix.set(randomBytes(4), 28)
  return prefix
}

/** What a signature covers. */
function signedParts(sender: Bytes, recipient: Bytes, session: Bytes): (prefix: Bytes, payload: Bytes) => Bytes {
  return (prefix, payload) => prefixed(text.encode('koinon/frame/1'), sender, recipient, session, prefix, payload)
}

export function sendFrame(line: Line, session: Bytes, { prefix, payload }: { prefix: Bytes; payload: Bytes }): void {
  const message = signedParts(line.publicKey, line.peerKey, session)(prefix, payload)
  line.send(join(prefix, ed25519.sign(message, line.secretKey), payload))
}

/** The node's next frame, its signature checked. */
export async function readFrame(line: Line, session: Bytes): Promise<Frame> {
  const prefix = await line.read(32)
  const view = new DataView(prefix.buffer)
  if (view.getUint16(0) !== 0x5a45 || view.getUint8(2) !== 1) throw new Error('that is no frame of version 1')
  const signature = await line.read(64)
  const payload = await line.read(view.getUint32(4))
  const frame = {
    type: view.getUint8(3),
    epoch: view.getUint32(16),
    sequence: Number(view.getBigUint64(20)),
    prefix,
    signature,
    payload,
  }
  // A refusal is addressed as HELLOs are.
  const context = frame.type === TYPE.refuse && frame.epoch === 0 && isClear(payload) ? NO_SESSION : session
  const message = signedParts(line.peerKey, line.publicKey, context)(prefix, payload)
  if (!ed25519.verify(signature, message, line.peerKey)) throw new Error('a signature does not hold')
  return frame
}

function isClear(payload: Bytes): boolean {
  try {
    return typeof decode<{ reason?: unknown }>(payload).reason === 'string'
  } catch {
    return false // It is encrypted.
  }
}

export const SUITE = 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256'

/** A HELLO as the dialler says it first. */
export function helloOf(
  line: Line,
  versions: readonly number[],
  fields: { readonly session: Bytes; readonly nonce: Bytes },
): Bytes {
  return encode({
    versions,
    preferred: Math.max(...versions),
    suites: [SUITE],
    capabilities: [],
    agent: 'another-implementation/1.0',
    key: line.publicKey,
    handovers: [],
    time: Date.now(),
    secret: (process.env['KOINON_SWARM_SECRET'] ?? '') !== '',
    ...fields,
  }) as Bytes
}
