/** A node's Ed25519 key, in libp2p's form: what `net` gives to libp2p, and the peer id that follows from it. */
import { generateKeyPairFromSeed, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Random } from '#base'

/** libp2p's key object; `createLibp2p({ privateKey })` takes it as it is. */
export type NodePrivateKey = Extract<ReturnType<typeof privateKeyFromProtobuf>, { readonly type: 'Ed25519' }>

/** Makes a key from 32 bytes of `random`, which must be unpredictable outside of tests. */
export function generateNodeKey(random: Random): Promise<NodePrivateKey> {
  return generateKeyPairFromSeed('Ed25519', random.bytes(32))
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
