/**
 * Control messages of the stage protocol: what opens and ends a generation on a stage. Encoded as dag-cbor, checked on
 * arrival; rare, so clarity goes before speed here.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { fromHex, toHex } from '#base'
import {
  GENERATION_DEADLINE_MS_MAX,
  PEER_ADDRESSES_MAX,
  STAGE_CONTROL_BYTES_MAX,
  STAGE_POSITIONS_MAX,
  STAGE_SENTENCE_CHARS_MAX,
} from './limits.ts'

const generation = z
  .custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === 16)
  .transform(bytes => toHex(bytes))
const peer = z.string().min(1).max(100)
const code = z.string().regex(/^[A-Z][A-Z_]{0,59}$/)
const message = z.string().max(STAGE_SENTENCE_CHARS_MAX)
const layers = z
  .strictObject({ first: z.int().min(0).max(9_999), last: z.int().min(1).max(10_000) })
  .refine(range => range.first < range.last, 'first must be below last')

/** Entry to stage: take a slot for this generation. */
const open = z.strictObject({
  kind: z.literal('open'),
  /** 16 random bytes on the wire, 32 hexadecimal digits in memory. */
  generation,
  /** Model id, 64 hexadecimal digits. */
  model: z.string().regex(/^[0-9a-f]{64}$/),
  /** The numeric profile that the entry planned with; empty: any. */
  profile: z.string().max(200),
  /** Layers to compute: a part of what the stage has loaded, or all of it. */
  layers,
  /** The only peer whose steps the stage takes. The entry itself where `layers.first` is 0. */
  predecessor: peer,
  /** Who gets the rows: the next stage, or the entry where `layers.last` is the model's last layer. */
  successor: z.strictObject({ peer, addresses: z.array(z.string().max(300)).max(PEER_ADDRESSES_MAX) }),
  /** KV rows that the generation may come to use. */
  positionsMax: z.int().min(1).max(STAGE_POSITIONS_MAX),
  /** The stage frees the generation after this time, whatever happens. */
  deadlineMs: z.int().min(1).max(GENERATION_DEADLINE_MS_MAX),
})

/** Stage to entry: the slot is yours. */
const opened = z.strictObject({ kind: z.literal('opened'), generation })

/** Stage to entry: no. */
const refused = z.strictObject({
  kind: z.literal('refused'),
  generation,
  code,
  message,
  /** Set where asking again may help. */
  retryAfterMs: z.int().min(0).max(60_000).optional(),
})

/** Entry to stage: forget this generation, done or not. */
const cancel = z.strictObject({ kind: z.literal('cancel'), generation })

/** Stage to entry, the answer to `cancel`: its rows are gone. */
const closed = z.strictObject({ kind: z.literal('closed'), generation })

/** The generation ended here by an error. To the entry; and to the sender of a step that cannot be taken. */
const failed = z.strictObject({
  kind: z.literal('failed'),
  generation,
  code,
  message,
  /** Whom the error is about, where that is not the sender. */
  peer: peer.optional(),
})

const stageMessageSchema = z.discriminatedUnion('kind', [open, opened, refused, cancel, closed, failed])

export type StageMessage = z.infer<typeof stageMessageSchema>
export type StageOpen = Extract<StageMessage, { kind: 'open' }>
export type StageRefused = Extract<StageMessage, { kind: 'refused' }>
export type StageFailed = Extract<StageMessage, { kind: 'failed' }>

/** @throws TypeError where the message is too large: a bug of ours, what goes in is bounded before */
export function encodeStageMessage(message: StageMessage): Uint8Array {
  const fields = Object.entries(message).filter(([, value]) => value !== undefined)
  const bytes = encode({ ...Object.fromEntries(fields), generation: fromHex(message.generation) })
  if (bytes.byteLength > STAGE_CONTROL_BYTES_MAX) throw new TypeError('the control message is too large')
  return bytes
}

/** Undefined where the bytes are no such message. */
export function decodeStageMessage(bytes: Uint8Array): StageMessage | undefined {
  if (bytes.byteLength > STAGE_CONTROL_BYTES_MAX) return undefined
  let value: unknown
  try {
    value = decode(bytes)
  } catch {
    return undefined // Not dag-cbor; the caller decides what that costs the sender.
  }
  const result = stageMessageSchema.safeParse(value)
  return result.success ? result.data : undefined
}
