/**
 * Messages of `/koinon/punch/1`, by which two nodes come from a relayed connection to a direct one, and by which a third
 * one tells them where their sockets are seen. Each is a dag-cbor map behind its length. Unknown fields are ignored.
 */
import { z } from 'zod'
import { type BodyFault, bytesOf, decodeBody, encodeBody } from './control-messages.ts'
import { PUNCH_CANDIDATES_MAX, PUNCH_MESSAGE_BYTES_MAX, PUNCH_ENDPOINTS_MAX, PUNCH_PORTS_MAX } from './limits.ts'

/** Bytes of the words by which the two ends of a punched socket know one another. */
export const PUNCH_TOKEN_BYTES = 16

/** Ways to a direct connection that both sides work on. */
const METHODS = ['tcp', 'ice'] as const
export type PunchMethod = (typeof METHODS)[number]

/** Kinds of NAT, as `docs/reference/nat.md` names them. */
const KINDS = ['none', 'full-cone', 'restricted', 'port-restricted', 'symmetric', 'blocked', 'unknown'] as const
export type PunchNatKind = (typeof KINDS)[number]

/** No NAT gives ports below 1024, and what listens there is a service of somebody else. */
const port = z.int().min(1_024).max(65_535)
const address = z.string().min(2).max(45)
const endpoint = z.object({ address, port })

const candidate = z.object({
  type: z.enum(['host', 'srflx', 'relay']),
  address,
  port: z.int().min(1).max(65_535),
  priority: z
    .int()
    .min(1)
    .max(2 ** 31 - 1),
  foundation: z.string().min(1).max(32),
})

/** An ICE description. What its texts may hold is the agent's business. */
const ice = z.object({
  ufrag: z.string().min(4).max(32),
  password: z.string().min(22).max(64),
  candidates: z.array(candidate).max(PUNCH_CANDIDATES_MAX),
})

/** Where a side's socket for one attempt by TCP is, as others and as it itself see it. */
const tcp = z.object({
  /** How outside ports follow from destinations: one for all, one that can be foreseen, or neither. */
  mapping: z.enum(['stable', 'foreseen', 'random', 'unknown']),
  /** Outside: the likeliest first. All have one address. */
  outside: z.array(endpoint).max(PUNCH_ENDPOINTS_MAX),
  /** At its own interfaces: for a peer in the same network. */
  inside: z.array(endpoint).max(PUNCH_ENDPOINTS_MAX),
  /** The word that the other side says on the socket. */
  token: bytesOf(PUNCH_TOKEN_BYTES),
})

const message = z.discriminatedUnion('type', [
  /** First, from both: what each can do. */
  z.object({
    type: z.literal('connect'),
    methods: z.array(z.enum(METHODS)).max(METHODS.length),
    nat: z.enum(KINDS),
    /** Whether a QUIC listener is there that a path by ICE can lead to. */
    listensQuic: z.boolean(),
  }),
  /** Before each attempt, from both: where to. */
  z.object({ type: z.literal('offer'), tcp: tcp.optional(), ice: ice.optional() }),
  z.object({ type: z.literal('ping') }),
  z.object({ type: z.literal('pong') }),
  /** From who started: dial now. Itself it dials half a round trip later. */
  z.object({ type: z.literal('sync') }),
  /** After each attempt, from both. */
  z.object({ type: z.literal('result'), isJoined: z.boolean() }),
  /** Instead of `connect`: tell me where you see connections to ports of yours come from. */
  z.object({ type: z.literal('observe') }),
  /** The ports, and what to say there first. */
  z.object({
    type: z.literal('observing'),
    ports: z.array(port).min(1).max(PUNCH_PORTS_MAX),
    token: bytesOf(PUNCH_TOKEN_BYTES),
  }),
  /** Somebody said it at `port`, and came from there. */
  z.object({ type: z.literal('observed'), port, from: z.object({ address, port: z.int().min(1).max(65_535) }) }),
])
export type PunchMessage = z.infer<typeof message>
export type PunchTcpOffer = z.infer<typeof tcp>
export type PunchIceOffer = z.infer<typeof ice>

export function encodePunchMessage(value: PunchMessage): Uint8Array {
  return encodeBody(value)
}

/** Reads a message, at most `PUNCH_MESSAGE_BYTES_MAX` bytes long. */
export function decodePunchMessage(bytes: Uint8Array): PunchMessage | BodyFault {
  if (bytes.byteLength > PUNCH_MESSAGE_BYTES_MAX) return { code: 'WIRE_BODY_MALFORMED', problem: 'too long' }
  const decoded = decodeBody(message, bytes)
  return 'code' in decoded ? decoded : decoded.body
}
