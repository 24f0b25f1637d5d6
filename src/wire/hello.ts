/**
 * `/koinon/hello/1`: the first stream on every connection. It admits the peer, exchanges offers, and then stays open
 * for updates and pings. The dialler opens it. Every message is a frame (`length-prefix.ts`) that holds one dag-cbor map:
 *
 * ```
 *   dialler                                    listener
 *   hello {version, nonce, secret} ─────────►            32 fresh random bytes; whether it holds a secret
 *          ◄───────── hello {version, nonce, secret}
 *   proof {mac} ────────────────────────────►            only where both hold a secret
 *          ◄──────────────────────────── proof {mac}     only once the dialler's proof was right
 *   info {offer, peers} ────────────────────►            only to an admitted peer
 *          ◄──────────────────── info {offer, peers}
 *   then, both ways and at any time: offer {offer}, peers {peers}, ping {id}, pong {id}
 *   instead of any message: refuse {reason}, after which the connection is closed
 * ```
 *
 * `mac` is HMAC-SHA256 under the swarm secret over `koinon-swarm/1`, the prover's role, both peer ids (which TLS or
 * Noise has authenticated) and both nonces. So a proof is worth nothing on another connection, to another peer, at
 * another time, or in the other direction. The dialler proves first: who only listens learns nothing from a listener.
 * A dialler's proof lets whoever it dialled test guesses, so a secret must be random (32 bytes), not a pass phrase.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { concatBytes, messageOf } from '#base'
import { hmacSha256 } from '#crypto'
import { HELLO_PEERS_MAX, PEER_ADDRESSES_MAX } from './limits.ts'
import { nodeOfferSchema } from './offer.ts'

/** Revision of the messages below; both sides must have the same. */
export const HELLO_VERSION = 1

export const NONCE_BYTES = 32
const MAC_BYTES = 32
const DOMAIN = 'koinon-swarm/1'

/** Why a connection is refused, as the refused side is told. */
const REFUSAL_REASONS = [
  /** The other revision of the protocol. */
  'version',
  /** This swarm asks for a secret and the peer has none. */
  'secret-needed',
  /** The peer has a secret and this swarm has none: they are not the same swarm. */
  'secret-unexpected',
  /** The proof does not fit: another secret. */
  'proof-wrong',
  /** As many peers as this node takes. */
  'full',
  /** Too many messages. */
  'flood',
  /** A message that does not parse, or that is out of turn. */
  'malformed',
  /** No admission in time. */
  'slow',
  /** The node is going away. */
  'stopping',
] as const
export type RefusalReason = (typeof REFUSAL_REASONS)[number]

const bytesOf = (count: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === count, `expected ${count} bytes`)

/** A peer that a peer knows: candidates to dial, nothing more. */
const knownPeerSchema = z.object({
  id: z.string().max(100),
  addresses: z.array(z.string().max(300)).max(PEER_ADDRESSES_MAX),
})
export type KnownPeer = z.infer<typeof knownPeerSchema>

const peers = z.array(knownPeerSchema).max(HELLO_PEERS_MAX)
const pingId = z.int().min(0).max(0xffff_ffff)

const helloMessageSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('hello'),
    version: z.literal(HELLO_VERSION),
    nonce: bytesOf(NONCE_BYTES),
    secret: z.boolean(),
  }),
  z.object({ kind: z.literal('proof'), mac: bytesOf(MAC_BYTES) }),
  z.object({ kind: z.literal('info'), offer: nodeOfferSchema, peers }),
  z.object({ kind: z.literal('offer'), offer: nodeOfferSchema }),
  z.object({ kind: z.literal('peers'), peers }),
  z.object({ kind: z.literal('ping'), id: pingId }),
  z.object({ kind: z.literal('pong'), id: pingId }),
  z.object({ kind: z.literal('refuse'), reason: z.enum(REFUSAL_REASONS) }),
])
export type HelloMessage = z.infer<typeof helloMessageSchema>

/** A message that cannot be used. `WIRE_HELLO_VERSION` is one in a revision that this software does not speak. */
export type HelloFault =
  | { readonly code: 'WIRE_HELLO_MALFORMED'; readonly problem: string }
  | { readonly code: 'WIRE_HELLO_VERSION' }

/** Encodes a message deterministically (without its frame). */
export function encodeHello(message: HelloMessage): Uint8Array {
  return encode(withoutUndefined(message))
}

/** Decodes and checks the body of a frame. */
export function decodeHello(body: Uint8Array): HelloMessage | HelloFault {
  let value: unknown
  try {
    value = decode(body)
  } catch (error) {
    return { code: 'WIRE_HELLO_MALFORMED', problem: messageOf(error).slice(0, 200) }
  }
  if (isForeignHello(value)) return { code: 'WIRE_HELLO_VERSION' }
  const parsed = helloMessageSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  return {
    code: 'WIRE_HELLO_MALFORMED',
    problem: `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`.slice(0, 200),
  }
}

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
  new DataView(prefix.buffer).setUint32(0, part.byteLength, true)
  return prefix
}

function isForeignHello(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { kind, version } = value as { readonly kind?: unknown; readonly version?: unknown }
  return kind === 'hello' && version !== HELLO_VERSION
}

/** dag-cbor has no undefined; an optional field that is undefined is left out. */
function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  const entries = Object.entries(value).filter(([, field]) => field !== undefined)
  return Object.fromEntries(entries.map(([key, field]) => [key, withoutUndefined(field)]))
}
