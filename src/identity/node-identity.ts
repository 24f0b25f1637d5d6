/**
 * A node's identity: one Ed25519 key and the peer id that others know it by. The key file is text, so that it can be
 * kept in a password manager:
 *
 *   koinon-node-key 1
 *   <base64 of libp2p's protobuf form of the private key>
 */
import type { Random } from '#base'
import { decodeNodeKey, encodeNodeKey, generateNodeKey, type NodePrivateKey, peerIdOf } from '#crypto'
import { IdentityError } from './errors.ts'

export type NodeIdentity = {
  /** Peer id, base58 text. */
  readonly peer: string
  /** For libp2p. Never logged, never sent. */
  readonly privateKey: NodePrivateKey
}

const HEADING = 'koinon-node-key'
const VERSION = '1'

/** Makes a new identity. */
export async function createNodeIdentity(random: Random): Promise<NodeIdentity> {
  return toIdentity(await generateNodeKey(random))
}

/** The text of the key file. It is a secret. */
export function encodeKeyFile(identity: NodeIdentity): string {
  const base64 = btoa(String.fromCharCode(...encodeNodeKey(identity.privateKey)))
  return `${HEADING} ${VERSION}\n${base64}\n`
}

/** @throws IdentityError */
export function parseKeyFile(text: string): NodeIdentity {
  const match = /^koinon-node-key (\S{1,16})\r?\n([A-Za-z0-9+/=]+)\r?\n?$/.exec(text)
  const version = match?.[1] ?? ''
  if (match !== null && version !== VERSION) {
    throw new IdentityError(
      { code: 'IDENTITY_KEY_VERSION', version },
      `the node key has version ${version}, but this program knows version ${VERSION}: update it`,
    )
  }
  const key = decodeNodeKey(decodeBase64(match?.[2] ?? ''))
  if (key === undefined) {
    throw new IdentityError(
      { code: 'IDENTITY_KEY_INVALID' },
      'the node key file is damaged: restore it from a copy, or move it away to start with a new identity',
    )
  }
  return toIdentity(key)
}

function toIdentity(privateKey: NodePrivateKey): NodeIdentity {
  return { peer: peerIdOf(privateKey), privateKey }
}

function decodeBase64(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), char => char.charCodeAt(0))
  } catch {
    return new Uint8Array(0) // Not base64: no key will be found in it, which is the error that the reader reports.
  }
}
