/** Names in the DHTs: the stable id of a peer, and the keys of topics and services. */
import { publicKeyOfPeer, sha1 } from '#crypto'
import type { ServiceQuery } from './types.ts'

/** Who meets whom without further settings. */
export const DEFAULT_TOPIC = 'koinon-mesh'

const utf8 = new TextEncoder()

/** SHA-1 of the public key: the target of BEP 44 without a salt, the same for the life of a key. */
export function stableIdOf(publicKey: Uint8Array): Uint8Array {
  return sha1(publicKey)
}

/** Undefined for what is no peer id with an Ed25519 key in it. */
export function stableIdOfPeer(peer: string): Uint8Array | undefined {
  const publicKey = publicKeyOfPeer(peer)
  return publicKey === undefined ? undefined : stableIdOf(publicKey)
}

/** Where nodes of one topic say that they are there: SHA-1 of its name (BEP 5). */
export function topicKey(topic: string): Uint8Array {
  return sha1(utf8.encode(topic))
}

/** Where those who have a service say so. @param model the whole id of a model */
export function serviceKey(topic: string, { service, model }: ServiceQuery): Uint8Array {
  return sha1(utf8.encode(`${topic}/service/${service}${model === undefined ? '' : `/${model}`}`))
}
