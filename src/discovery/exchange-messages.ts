/**
 * The two messages of `/koinon/exchange/1`, which both sides send, each behind its length (32 bits, big-endian):
 *
 *   hello   who I am, and a filter of whom I know        at most 5 KiB
 *   peers   up to 50 of those whom you do not know yet   at most 5 KiB
 *
 * Both are dag-cbor maps. Ids are sent and must follow from the key; unknown fields are left out.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { toHex } from '#base'
import { peerOfPublicKey } from '#crypto'
import { bytesOf } from '#identity'
import type { PeerFault } from './errors.ts'
import { stableIdOf } from './keys.ts'
import { FILTER_SALT_BYTES, type KnownFilter } from './known-filter.ts'
import {
  EXCHANGE_HELLO_BYTES_MAX,
  EXCHANGE_PEERS_BYTES_MAX,
  EXCHANGE_PEERS_MAX,
  FILTER_BYTES_MAX,
  RECORD_BYTES_MAX,
  TOPIC_CHARS_MAX,
} from './limits.ts'
import { openRecord, type VerifiedRecord } from './records.ts'

/** Who a node is, in its own words. */
export type ExchangeHello = {
  readonly publicKey: Uint8Array
  /** 20 bytes; undefined: it is not in the Mainline DHT. */
  readonly dhtNodeId?: Uint8Array
  readonly nodeType: 'public' | 'private'
  readonly isRelay: boolean
  readonly topic: string
  /** Whom it knows well enough. */
  readonly filter: KnownFilter
  /** Whether peers should come with their records: it cannot find them by any DHT. */
  readonly wantsRecords: boolean
  readonly record?: VerifiedRecord
}

/** Somebody that a node knows. */
export type ToldPeer = {
  readonly publicKey: Uint8Array
  readonly dhtNodeId?: Uint8Array
  readonly isRelay: boolean
  /** Milliseconds since somebody was last connected to it. */
  readonly ageMs: number
  readonly record?: VerifiedRecord
}

const upTo = (bytesMax: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength <= bytesMax)

const helloSchema = z.object({
  key: bytesOf(32),
  id: bytesOf(20),
  dht: bytesOf(20).exactOptional(),
  type: z.enum(['public', 'private']),
  relay: z.boolean(),
  topic: z.string().max(TOPIC_CHARS_MAX),
  salt: bytesOf(FILTER_SALT_BYTES),
  known: upTo(FILTER_BYTES_MAX).refine(bits => bits.byteLength > 0),
  records: z.boolean(),
  record: upTo(RECORD_BYTES_MAX).exactOptional(),
})

// Two letters a field: there are fifty of these in 5 KiB. The stable id follows from the key and is not sent.
const toldSchema = z.object({
  k: bytesOf(32),
  d: bytesOf(20).exactOptional(),
  r: z.boolean(),
  /** Seconds. */
  s: z.int().min(0).max(0xffff_ffff),
  p: upTo(RECORD_BYTES_MAX).exactOptional(),
})
const peersSchema = z.object({ peers: z.array(toldSchema).max(EXCHANGE_PEERS_MAX) })

/** @param hello.record our own record, as bytes */
export function encodeHello(hello: Omit<ExchangeHello, 'record'> & { readonly record?: Uint8Array }): Uint8Array {
  const { publicKey, dhtNodeId, nodeType, isRelay, topic, filter, wantsRecords, record } = hello
  const body = {
    key: publicKey,
    id: stableIdOf(publicKey),
    type: nodeType,
    relay: isRelay,
    topic,
    salt: filter.salt,
    known: filter.bits,
    records: wantsRecords,
    ...(dhtNodeId === undefined ? {} : { dht: dhtNodeId }),
  }
  const whole = record === undefined ? body : { ...body, record }
  const bytes = encode(whole)
  return bytes.byteLength <= EXCHANGE_HELLO_BYTES_MAX ? bytes : encode(body)
}

/** @param peer who is at the other end of the stream @param now Unix milliseconds */
export function decodeHello(bytes: Uint8Array, peer: string, now: number): ExchangeHello | PeerFault {
  const hello = parse(helloSchema, bytes, EXCHANGE_HELLO_BYTES_MAX)
  if (hello === undefined) return malformed('a hello')
  if (peerOf(hello.key) !== peer) return { code: 'DISCOVERY_IDENTITY', what: 'the key is not that of the peer' }
  if (toHex(stableIdOf(hello.key)) !== toHex(hello.id)) {
    return { code: 'DISCOVERY_IDENTITY', what: 'the stable id does not follow from the key' }
  }
  const record = recordIn(hello.record, peer, now)
  if (record !== undefined && 'what' in record) return record
  return {
    publicKey: hello.key,
    nodeType: hello.type,
    isRelay: hello.relay,
    topic: hello.topic,
    filter: { salt: hello.salt, bits: hello.known },
    wantsRecords: hello.records,
    ...(hello.dht === undefined ? {} : { dhtNodeId: hello.dht }),
    ...(record === undefined ? {} : { record }),
  }
}

/** As many of these as fit, in their order. @returns the message, and how many are in it */
export function encodePeers(
  peers: readonly ToldPeer[],
  countMax = EXCHANGE_PEERS_MAX,
): { readonly bytes: Uint8Array; readonly count: number } {
  const fitting: object[] = []
  let room = EXCHANGE_PEERS_BYTES_MAX - 16
  for (const { publicKey, dhtNodeId, isRelay, ageMs, record } of peers) {
    if (fitting.length >= Math.min(countMax, EXCHANGE_PEERS_MAX)) break
    const entry = {
      k: publicKey,
      r: isRelay,
      s: Math.min(Math.max(0, Math.round(ageMs / 1000)), 0xffff_ffff),
      ...(dhtNodeId === undefined ? {} : { d: dhtNodeId }),
      ...(record === undefined ? {} : { p: record.bytes }),
    }
    const { byteLength } = encode(entry)
    if (byteLength > room) continue
    room -= byteLength
    fitting.push(entry)
  }
  return { bytes: encode({ peers: fitting }), count: fitting.length }
}

/** @param now Unix milliseconds */
export function decodePeers(bytes: Uint8Array, now: number): readonly ToldPeer[] | PeerFault {
  const message = parse(peersSchema, bytes, EXCHANGE_PEERS_BYTES_MAX)
  if (message === undefined) return malformed('a list of peers')
  const told: ToldPeer[] = []
  for (const { k: publicKey, d: dhtNodeId, r: isRelay, s: seconds, p: bytesOfRecord } of message.peers) {
    const peer = peerOf(publicKey)
    if (peer === undefined) return { code: 'DISCOVERY_IDENTITY', what: 'a key that is none' }
    const record = recordIn(bytesOfRecord, peer, now)
    if (record !== undefined && 'what' in record) return record
    told.push({
      publicKey,
      isRelay,
      ageMs: seconds * 1000,
      ...(dhtNodeId === undefined ? {} : { dhtNodeId }),
      ...(record === undefined ? {} : { record }),
    })
  }
  return told
}

/** One that has expired on its way is nobody's fault, and none; all else that is wrong with it is the sender's. */
function recordIn(bytes: Uint8Array | undefined, peer: string, now: number): VerifiedRecord | PeerFault | undefined {
  if (bytes === undefined) return undefined
  const record = openRecord(bytes, peer, [now])
  if (!('code' in record)) return record
  if (record.code === 'PEER_RECORD_EXPIRED') return undefined
  return { code: 'DISCOVERY_RECORD', what: `a peer record that does not hold (${record.code})` }
}

function parse<T extends z.ZodType>(schema: T, bytes: Uint8Array, bytesMax: number): z.infer<T> | undefined {
  if (bytes.byteLength > bytesMax) return undefined
  try {
    return schema.safeParse(decode(bytes)).data
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}

function peerOf(publicKey: Uint8Array): string | undefined {
  try {
    return peerOfPublicKey(publicKey)
  } catch {
    return undefined // 32 bytes that are no point of the curve.
  }
}

function malformed(what: string): PeerFault {
  return { code: 'DISCOVERY_MALFORMED', what: `${what} that does not parse` }
}
