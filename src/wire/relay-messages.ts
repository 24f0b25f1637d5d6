/**
 * What crosses a stream of `/koinon/relay/1`: frames of `u32 big-endian head | body`. The head's top bit says what the body
 * is: a message (one dag-cbor map, bounded, joined before it is read) or bytes of a circuit (passed on as they come, never
 * joined). The other 31 bits are the body's length.
 */
import { z } from 'zod'
import { bytesOf, decodeBody, encodeBody } from './control-messages.ts'
import { PEER_ADDRESSES_MAX, RELAY_MESSAGE_BYTES_MAX } from './limits.ts'

/** Bytes of a frame's head. */
export const RELAY_HEAD_BYTES = 4

/** Bytes of the id of a reservation. */
export const RELAY_SESSION_BYTES = 16

const MESSAGE_BIT = 0x8000_0000

/** Why a relay, or the peer behind it, says no. */
const RELAY_REFUSALS = [
  /** All places are taken. */
  'full',
  /** The peer has as many circuits as it may have. */
  'per-peer',
  /** Others of the same network address have as many places as they may have. */
  'per-group',
  /** The target holds no reservation here. */
  'no-reservation',
  /** Asked too often. */
  'rate',
  /** The node does not relay. */
  'not-a-relay',
  /** The node would relay, and cannot be reached from outside itself. */
  'not-public',
  /** To itself, to the relay, or by way of another relay. */
  'loop',
  /** The target does not want the circuit. */
  'refused',
  /** The target does not answer. */
  'unreachable',
  /** A message that is not of the protocol, or out of turn. */
  'malformed',
  /** The node is going away. */
  'stopping',
] as const
export type RelayRefusal = (typeof RELAY_REFUSALS)[number]

/** Why a circuit ended before its ends wanted it to. */
const RELAY_CUTS = ['bytes', 'duration', 'lost', 'malformed', 'stopping'] as const
export type RelayCut = (typeof RELAY_CUTS)[number]

const peer = z.string().min(1).max(100)
const session = bytesOf(RELAY_SESSION_BYTES)
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
const id = z.int().min(0).max(0xffff_ffff)

const limits = z.object({
  /** Bytes of a circuit, both directions together, frame heads included. */
  bytes: count,
  /** Life of a circuit, milliseconds. */
  durationMs: count,
  /** Bytes a second of a circuit, both directions together. */
  bytesPerSecond: count,
})
/** What one circuit may carry. */
export type CircuitLimits = z.infer<typeof limits>

const relayMessageSchema = z.discriminatedUnion('type', [
  /** Asks for a place, or on the stream of a reservation for more time. */
  z.object({ type: z.literal('reserve') }),
  z.object({
    type: z.literal('reserved'),
    session,
    expiresInMs: count,
    /** Where the relay itself is reached: multiaddrs that end in its peer id. */
    addresses: z.array(z.string().max(300)).max(PEER_ADDRESSES_MAX),
    limits,
  }),
  z.object({ type: z.literal('refused'), reason: z.enum(RELAY_REFUSALS), retryAfterMs: id.optional() }),
  /** Holds a reservation; on a stream without one it measures the way. */
  z.object({ type: z.literal('keepalive'), id }),
  z.object({ type: z.literal('alive'), id }),
  /** Asks for a circuit to the holder of a reservation, by its peer id or by the reservation's session id. */
  z
    .object({ type: z.literal('connect'), peer: peer.optional(), session: session.optional() })
    .refine(message => (message.peer === undefined) !== (message.session === undefined), 'one of peer and session'),
  /** The relay to the holder: `peer` asks for a circuit. */
  z.object({ type: z.literal('incoming'), peer, session, limits }),
  z.object({ type: z.literal('accept') }),
  /** The circuit stands; `peer` is at its other end. */
  z.object({ type: z.literal('connected'), peer, limits }),
  /** The last message of a circuit. */
  z.object({ type: z.literal('cut'), reason: z.enum(RELAY_CUTS) }),
])
export type RelayMessage = z.infer<typeof relayMessageSchema>

export type RelayFrame =
  | { readonly kind: 'message'; readonly message: RelayMessage }
  | { readonly kind: 'data'; readonly bytes: Uint8Array }

/** Bytes that are not of the protocol. The stream is of no use after them. */
export type RelayFrameFault = { readonly code: 'WIRE_RELAY_FRAME'; readonly problem: string }

/** A message with its head. */
export function encodeRelayMessage(message: RelayMessage): Uint8Array {
  const body = encodeBody(message)
  const frame = new Uint8Array(RELAY_HEAD_BYTES + body.byteLength)
  new DataView(frame.buffer).setUint32(0, (MESSAGE_BIT | body.byteLength) >>> 0)
  frame.set(body, RELAY_HEAD_BYTES)
  return frame
}

/** The head of so many bytes of a circuit. */
export function relayDataHead(sizeBytes: number): Uint8Array {
  const head = new Uint8Array(RELAY_HEAD_BYTES)
  new DataView(head.buffer).setUint32(0, sizeBytes)
  return head
}

/** Cuts what a stream brings into messages and bytes of the circuit. Holds no more than one unfinished message. */
export class RelayFrameReader {
  readonly #head = new Uint8Array(RELAY_HEAD_BYTES)
  #headFilled = 0
  #left = 0
  #message: { readonly body: Uint8Array; filled: number } | undefined
  #fault: RelayFrameFault | undefined

  /** Bytes of circuits are views of `piece`. After a fault every call returns that fault. */
  push(piece: Uint8Array): readonly RelayFrame[] | RelayFrameFault {
    const frames: RelayFrame[] = []
    let rest = piece
    while (this.#fault === undefined && rest.byteLength > 0) {
      rest = this.#headFilled < RELAY_HEAD_BYTES ? this.#takeHead(rest) : this.#takeBody(rest, frames)
    }
    return this.#fault ?? frames
  }

  #takeHead(rest: Uint8Array): Uint8Array {
    const taken = rest.subarray(0, RELAY_HEAD_BYTES - this.#headFilled)
    this.#head.set(taken, this.#headFilled)
    this.#headFilled += taken.byteLength
    if (this.#headFilled < RELAY_HEAD_BYTES) return rest.subarray(taken.byteLength)
    const head = new DataView(this.#head.buffer).getUint32(0)
    const isMessage = head >= MESSAGE_BIT
    this.#left = isMessage ? head - MESSAGE_BIT : head
    // A frame of nothing would cost work and bring no byte to count.
    if (this.#left === 0) this.#fail('an empty frame')
    else if (isMessage && this.#left > RELAY_MESSAGE_BYTES_MAX) this.#fail(`a message of ${this.#left} bytes`)
    else this.#message = isMessage ? { body: new Uint8Array(this.#left), filled: 0 } : undefined
    return rest.subarray(taken.byteLength)
  }

  #takeBody(rest: Uint8Array, frames: RelayFrame[]): Uint8Array {
    const taken = rest.subarray(0, this.#left)
    this.#left -= taken.byteLength
    if (this.#left === 0) this.#headFilled = 0
    const message = this.#message
    if (message === undefined) {
      frames.push({ kind: 'data', bytes: taken })
    } else {
      message.body.set(taken, message.filled)
      message.filled += taken.byteLength
      if (this.#left === 0) this.#takeMessage(message.body, frames)
    }
    return rest.subarray(taken.byteLength)
  }

  #takeMessage(body: Uint8Array, frames: RelayFrame[]): void {
    this.#message = undefined
    const decoded = decodeBody(relayMessageSchema, body)
    if ('code' in decoded) this.#fail(decoded.problem)
    else frames.push({ kind: 'message', message: decoded.body })
  }

  #fail(problem: string): void {
    this.#fault = { code: 'WIRE_RELAY_FRAME', problem }
  }
}
