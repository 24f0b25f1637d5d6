/** A node's Ed25519 key, in libp2p's form: what `net` gives to libp2p, and the peer id that follows from it. */
import {
  generateKeyPairFromSeed,
  privateKeyFromProtobuf,
  privateKeyToProtobuf,
  publicKeyFromRaw,
} from '@libp2p/crypto/keys'
import { peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import type { Random } from '#base'

/** Characters of any text form that such a peer id has: 52 in base58, 78 as a CID in hexadecimal. */
const PEER_TEXT_CHARS_MAX = 100

/** libp2p's key object; `createLibp2p({ privateKey })` takes it as it is. */
export type NodePrivateKey = Extract<ReturnType<typeof privateKeyFromProtobuf>, { readonly type: 'Ed25519' }>

/** Makes a key from 32 bytes of `random`, which must be unpredictable outside of tests. */
export function generateNodeKey(random: Random): Promise<NodePrivateKey> {
  return generateKeyPairFromSeed('Ed25519', random.bytes(32))
}

/** libp2p's key object with its private bytes, for software that signs by itself. @param seed 32 secret bytes */
export function nodeKeyOfSeed(seed: Uint8Array): Promise<NodePrivateKey> {
  return generateKeyPairFromSeed('Ed25519', seed)
}

/** libp2p's protobuf form of the private key. */
export function encodeNodeKey(key: NodePrivateKey): Uint8Array {
  return privateKeyToProtobuf(key)
}

/** Undefined where the bytes are anything but an Ed25519 private key in libp2p's protobuf form. */
export function decodeNodeKey(bytes: Uint8Array): NodePrivateKey | undefined {
  try {
    const key = privateKeyFromProtobuf(bytes)
    return key.type === 'Ed25519' ? key : undefined
  } catch {
    return undefined // The library throws errors of many kinds for bytes that are no key: all mean the same here.
  }
}

/** The peer id in its usual text form ("12D3KooW..."). */
export function peerIdOf(key: NodePrivateKey): string {
  return key.publicKey.toString()
}

/** The 32 secret bytes that make the key. */
export function seedOfNodeKey(key: NodePrivateKey): Uint8Array {
  return key.raw.subarray(0, 32)
}

/** libp2p's key object over a signer that may keep its private key elsewhere: a token, a service. */
export function nodeKeyOf(signer: {
  readonly publicKey: Uint8Array
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}): NodePrivateKey {
  const publicKey = publicKeyFromRaw(signer.publicKey)
  if (publicKey.type !== 'Ed25519') throw new TypeError('a node key is an Ed25519 key')
  return {
    type: 'Ed25519',
    publicKey,
    // Nothing of libp2p that runs here reads the private bytes; whoever does gets none.
    raw: new Uint8Array(0),
    equals: other =>
      typeof other === 'object' && other !== null && 'publicKey' in other && publicKey.equals(other.publicKey),
    sign: data => signer.sign(data instanceof Uint8Array ? data : data.subarray()),
  }
}

/** The peer id of an Ed25519 public key (32 bytes), as text. */
export function peerOfPublicKey(publicKey: Uint8Array): string {
  return peerIdFromPublicKey(publicKeyFromRaw(publicKey)).toString()
}

/** The Ed25519 public key (32 bytes) that a peer id holds; undefined: it holds none, or is no peer id. */
export function publicKeyOfPeer(peer: string): Uint8Array | undefined {
  // Reading base58 takes time that grows with the square of its length: 100 KB of it would take ten seconds.
  if (peer.length > PEER_TEXT_CHARS_MAX) return undefined
  try {
    const id = peerIdFromString(peer)
    return id.type === 'Ed25519' ? id.publicKey.raw : undefined
  } catch {
    return undefined // The library throws for text that is no peer id.
  }
}
