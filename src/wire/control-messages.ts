/**
 * Bodies of the messages of `/koinon/control/1`, one schema a frame type. A body is one dag-cbor map. Unknown fields
 * are ignored, so that a later revision can add some.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { messageOf } from '#base'
import { FRAME_TYPES } from './frame-types.ts'
import {
  CAPABILITIES_MAX,
  CAPABILITY_CHARS_MAX,
  HANDOVERS_MAX,
  HANDOVER_BYTES_MAX,
  HELLO_PEERS_MAX,
  PEER_RECORD_BYTES_MAX,
  SUITES_MAX,
  VERSIONS_MAX,
} from './limits.ts'
import { nodeOfferSchema } from './offer.ts'

/** Why a connection is refused, as the refused side is told. */
const REFUSAL_REASONS = [
  /** No common version of the protocol. */
  'version',
  /** No common cipher suite. */
  'suite',
  /** The clocks of the two nodes are too far apart. */
  'clock',
  /** A signature, a handshake message or a key that does not hold. */
  'authentication',
  /** The key has been replaced by another one. */
  'superseded',
  /** The peer is banned for a while. */
  'banned',
  /** Too many failed attempts: the peer has to wait. */
  'backoff',
  /** A frame that was seen before, or that is too old. */
  'replay',
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

const PUBLIC_KEY_BYTES = 32
export const NONCE_BYTES = 32
const MAC_BYTES = 32
const SESSION_BYTES = 16

/** Exactly that many bytes. */
export const bytesOf = (count: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === count, `expected ${count} bytes`)

/** At most that many bytes. */
export const bytesUpTo = (count: number) =>
  z.custom<Uint8Array>(
    value => value instanceof Uint8Array && value.byteLength <= count,
    `expected ${count} bytes at most`,
  )

const version = z.int().min(1).max(0xffff)
const timeMs = z.int().min(0).max(Number.MAX_SAFE_INTEGER)

const hello = z.object({
  versions: z.array(version).min(1).max(VERSIONS_MAX),
  preferred: version,
  suites: z.array(z.string().max(100)).min(1).max(SUITES_MAX),
  capabilities: z.array(z.string().max(CAPABILITY_CHARS_MAX)).max(CAPABILITIES_MAX),
  /** Name and version of the software. */
  agent: z.string().max(80),
  /** The sender's Ed25519 key: this frame and all that follow are signed with it. */
  key: bytesOf(PUBLIC_KEY_BYTES),
  /** How the key of the connection's peer id became `key`: hand-over statements, the oldest first. */
  handovers: z.array(bytesUpTo(HANDOVER_BYTES_MAX)).max(HANDOVERS_MAX),
  /** The session that the dialler proposes; the listener repeats it. */
  session: bytesOf(SESSION_BYTES),
  /** Sender's clock, Unix milliseconds. */
  time: timeMs,
  /** Fresh random bytes: they make every handshake's transcript its own. */
  nonce: bytesOf(NONCE_BYTES),
  /** Whether the sender holds a swarm secret. */
  secret: z.boolean(),
  /** Dialler: a session that could be resumed. Listener: the same, where it will be. */
  resume: z.object({ session: bytesOf(SESSION_BYTES), epoch: z.int().min(0).max(0xffff) }).optional(),
})
export type Hello = z.infer<typeof hello>

/** One side's part of a resumption: a fresh X25519 share, then a proof of the old session's secret. */
const resume = z.object({ share: bytesOf(32).optional(), mac: bytesOf(MAC_BYTES).optional() })
export type Resume = z.infer<typeof resume>

/** Peers that a peer knows: the record is signed by the peer that it is about (`identity`), so nobody's word is taken. */
const knownPeerSchema = z.object({ id: z.string().max(100), record: bytesUpTo(PEER_RECORD_BYTES_MAX) })
export type KnownPeer = z.infer<typeof knownPeerSchema>

const peers = z.array(knownPeerSchema).max(HELLO_PEERS_MAX)
/** The sender's own signed peer record. */
const record = bytesUpTo(PEER_RECORD_BYTES_MAX).optional()
const id32 = z.int().min(0).max(0xffff_ffff)

/** The schemas of the messages that sessions themselves exchange; commands bring their own. */
export const CONTROL_SCHEMAS = {
  [FRAME_TYPES.hello]: hello,
  [FRAME_TYPES.resume]: resume,
  [FRAME_TYPES.refuse]: z.object({
    reason: z.enum(REFUSAL_REASONS),
    /** With `version`: what the refusing side speaks. */
    versions: z.array(version).max(VERSIONS_MAX).optional(),
    /** With `backoff` and `banned`: when it is worth trying again. */
    retryAfterMs: z.int().min(0).max(0xffff_ffff).optional(),
  }),
  /** `mac`: the proof that the sender knows the swarm secret, bound to this very session. */
  [FRAME_TYPES.proof]: z.object({ mac: bytesOf(MAC_BYTES).optional() }),
  [FRAME_TYPES.info]: z.object({ offer: nodeOfferSchema, peers, record }),
  [FRAME_TYPES.offer]: z.object({ offer: nodeOfferSchema, record }),
  [FRAME_TYPES.peers]: z.object({ peers }),
  [FRAME_TYPES.ping]: z.object({ id: id32 }),
  [FRAME_TYPES.pong]: z.object({ id: id32, time: timeMs }),
  /** A hand-over statement: frames behind this one are signed with the new key. */
  [FRAME_TYPES.rotation]: z.object({ statement: bytesUpTo(HANDOVER_BYTES_MAX) }),
  /** `code`: why, as a number; 0x100: nobody used the connection for long. */
  [FRAME_TYPES.goodbye]: z.object({ code: z.int().min(0).max(0xffff).optional() }),
} as const

export type ControlType = keyof typeof CONTROL_SCHEMAS
export type ControlBody<T extends ControlType> = z.infer<(typeof CONTROL_SCHEMAS)[T]>

/** A body that cannot be used. */
export type BodyFault = { readonly code: 'WIRE_BODY_MALFORMED'; readonly problem: string }

/** Encodes a body deterministically. Fields that are undefined are left out: dag-cbor has no undefined. */
export function encodeBody(body: unknown): Uint8Array {
  return encode(withoutUndefined(body))
}

/** Decodes and checks a body. The schema bounds everything that the frame's length does not. */
export function decodeBody<T extends z.ZodType>(
  schema: T,
  bytes: Uint8Array,
): { readonly body: z.infer<T> } | BodyFault {
  let value: unknown
  try {
    value = decode(bytes)
  } catch (error) {
    return { code: 'WIRE_BODY_MALFORMED', problem: messageOf(error).slice(0, 200) }
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return { body: parsed.data }
  const issue = parsed.error.issues[0]
  return {
    code: 'WIRE_BODY_MALFORMED',
    problem: `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`.slice(0, 200),
  }
}

function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  const entries = Object.entries(value).filter(([, field]) => field !== undefined)
  return Object.fromEntries(entries.map(([key, field]) => [key, withoutUndefined(field)]))
}
