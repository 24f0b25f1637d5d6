/**
 * The proof that a node knows the swarm secret: HMAC-SHA256 under the secret over `koinon-swarm/1`, the prover's role,
 * both peer ids (which the connection has authenticated) and both nonces. So a proof is worth nothing on another
 * connection, to another peer, at another time, or in the other direction. The dialler proves first: who only listens
 * learns nothing from a listener. A dialler's proof lets whoever it dialled test guesses, so a secret must be random
 * (32 bytes), not a pass phrase.
 */
import { concatBytes } from '#base'
import { hmacSha256 } from '#crypto'

const DOMAIN = 'koinon-swarm/1'

/** Whose proof it is. Both are in every proof, so that neither can be turned against the other. */
export type SwarmRole = 'dialler' | 'listener'

/** What a proof is bound to. */
export type ProofContext = {
  readonly role: SwarmRole
  /** Peer ids, as text. */
  readonly dialler: string
  readonly listener: string
  readonly diallerNonce: Uint8Array
  readonly listenerNonce: Uint8Array
}

/** The proof that `context.role` knows the secret: HMAC-SHA256 over the length-prefixed parts. */
export function swarmProof(secret: Uint8Array, context: ProofContext): Uint8Array {
  const text = new TextEncoder()
  const parts = [
    text.encode(DOMAIN),
    text.encode(context.role),
    text.encode(context.dialler),
    text.encode(context.listener),
    context.diallerNonce,
    context.listenerNonce,
  ]
  return hmacSha256(secret, concatBytes(parts.flatMap(part => [lengthPrefix(part), part])))
}

function lengthPrefix(part: Uint8Array): Uint8Array {
  const prefix = new Uint8Array(4)
  new DataView(prefix.buffer).setUint32(0, part.byteLength)
  return prefix
}
