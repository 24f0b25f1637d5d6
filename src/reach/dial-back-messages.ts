/**
 * The two messages of `/koinon/reach/1`, each a dag-cbor map behind its length, and the nonce of `/koinon/reach-back/1`.
 * `docs/reference/protocol.md` has the bytes.
 */
import { z } from 'zod'
import { type ByteStream, concatBytes, type Random } from '#base'
import { decodeBody, encodeBody, LengthPrefixReader, NONCE_BYTES, withLengthPrefix } from '#wire'
import { DIAL_BACK_ANSWER_BYTES_MAX, DIAL_BACK_REQUEST_BYTES_MAX, DIAL_BACK_REQUEST_BYTES_MIN } from './limits.ts'

const nonce = z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === NONCE_BYTES)

const request = z.object({
  /** One of the asker's own addresses: a multiaddr without a peer id. */
  address: z.string().max(100),
  /** Whether its data plane is there. */
  plane: z.boolean(),
  nonce,
})
export type DialBackRequest = z.infer<typeof request>

/** What became of it. `dialled`: the asker answered there and was given the nonce. */
const OUTCOMES = ['dialled', 'failed', 'malformed', 'address', 'rate', 'busy'] as const
const answer = z.object({ outcome: z.enum(OUTCOMES) })
export type DialBackOutcome = (typeof OUTCOMES)[number]

/** With random bytes that make it cost its sender more than the dial costs others. */
export function encodeRequest(random: Random, asked: DialBackRequest): Uint8Array {
  const padding = random.bytes(DIAL_BACK_REQUEST_BYTES_MIN)
  return withLengthPrefix(encodeBody({ ...asked, padding }))
}

/** Undefined where it is none, or too short to be worth a dial. */
export function decodeRequest(body: Uint8Array): DialBackRequest | undefined {
  if (body.byteLength < DIAL_BACK_REQUEST_BYTES_MIN) return undefined
  const decoded = decodeBody(request, body)
  return 'code' in decoded ? undefined : decoded.body
}

export function encodeAnswer(outcome: DialBackOutcome): Uint8Array {
  return withLengthPrefix(encodeBody({ outcome }))
}

export function decodeAnswer(body: Uint8Array): DialBackOutcome | undefined {
  const decoded = decodeBody(answer, body)
  return 'code' in decoded ? undefined : decoded.body.outcome
}

/** The first message of a stream; undefined where it ends before, or is longer than `bytesMax`. @throws StreamError */
async function readMessage(stream: ByteStream, bytesMax: number): Promise<Uint8Array | undefined> {
  const reader = new LengthPrefixReader(bytesMax)
  for await (const piece of stream.received) {
    const bodies = reader.push(piece)
    if ('code' in bodies) return undefined
    if (bodies[0] !== undefined) return bodies[0]
  }
  return undefined
}

export const readRequest = (stream: ByteStream) => readMessage(stream, DIAL_BACK_REQUEST_BYTES_MAX)
export const readAnswer = (stream: ByteStream) => readMessage(stream, DIAL_BACK_ANSWER_BYTES_MAX)

/** The first `NONCE_BYTES` bytes of a stream; undefined where there are fewer. @throws StreamError */
export async function readNonce(stream: ByteStream): Promise<Uint8Array | undefined> {
  let bytes = new Uint8Array(0)
  for await (const piece of stream.received) {
    bytes = concatBytes([bytes, piece.subarray(0, NONCE_BYTES)])
    if (bytes.byteLength >= NONCE_BYTES) return bytes.subarray(0, NONCE_BYTES)
  }
  return undefined
}
