/** Messages of the peer wire protocol to bytes and back. Bodies are checked for what can be known without the torrent. */
import {
  decodeCore,
  decodeHandshake,
  decodeMetadata,
  decodeVotes,
  encodeChunk,
  encodeHandshake,
  encodeVotes,
} from './extended.ts'
import type { WireFault } from './errors.ts'
import { malformed } from './faults.ts'
import { HASH_LAYERS_MAX, HASHES_MAX } from './limits.ts'
import {
  EXTENSION_IDS,
  type ExtensionIds,
  HASH_BYTES,
  HASH_RANGE_BYTES,
  ID,
  PIECE_HEAD_BYTES,
  uncleCount,
} from './protocol.ts'
import type { Extension, HashRange, PeerMessage, ReceivedMessage } from './types.ts'

/** Length and id. */
const HEAD_BYTES = 5

const PLAIN_IDS = {
  choke: ID.choke,
  unchoke: ID.unchoke,
  interested: ID.interested,
  'not-interested': ID.notInterested,
  'have-all': ID.haveAll,
  'have-none': ID.haveNone,
} as const
const SPAN_IDS = { request: ID.request, cancel: ID.cancel, reject: ID.reject } as const
const HASH_IDS = { 'hash-request': ID.hashRequest, 'hash-reject': ID.hashReject } as const

const KEEP_ALIVE = new Uint8Array(4)

/**
 * The bytes of a message, in parts that are sent one after another: large ones are not copied. Nothing for an extension
 * that the other side has not offered.
 * @param ids what the other side calls its extensions @param offered this side's own, told in the handshake
 */
export function encodeMessage(
  message: PeerMessage,
  { ids, offered }: { readonly ids: ExtensionIds; readonly offered: readonly Extension[] },
): readonly Uint8Array[] {
  switch (message.kind) {
    case 'keep-alive':
      return [KEEP_ALIVE]
    case 'have':
      return [numbers(ID.have, [message.piece])]
    case 'bitfield':
      return [head(ID.bitfield, message.bytes.byteLength), message.bytes]
    case 'request':
    case 'cancel':
    case 'reject':
      return [numbers(SPAN_IDS[message.kind], [message.piece, message.offset, message.length])]
    case 'piece':
      return [pieceHead(message), message.bytes]
    case 'hash-request':
    case 'hash-reject':
      return [hashRange(HASH_IDS[message.kind], message, 0)]
    case 'hashes':
      return [hashRange(ID.hashes, message, message.hashes.byteLength), message.hashes]
    case 'extended-handshake':
      return extended(0, [encodeHandshake(message, offered)])
    case 'metadata':
      return ids.metadata === 0 ? [] : extended(ids.metadata, encodeChunk(message))
    case 'core':
      return ids.core === 0 ? [] : extended(ids.core, encodeChunk(message, message.document))
    case 'votes':
    case 'votes-request':
      return ids.votes === 0 ? [] : extended(ids.votes, [encodeVotes(message)])
    default:
      return [head(PLAIN_IDS[message.kind], 0)]
  }
}

/**
 * The message of a body whose length the reader has checked. Everything that is kept is copied.
 * @returns undefined for what is not known, or of no use here
 */
export function decodeBody(id: number, body: Uint8Array): ReceivedMessage | undefined | WireFault {
  switch (id) {
    case ID.choke:
      return { kind: 'choke' }
    case ID.unchoke:
      return { kind: 'unchoke' }
    case ID.interested:
      return { kind: 'interested' }
    case ID.notInterested:
      return { kind: 'not-interested' }
    case ID.haveAll:
      return { kind: 'have-all' }
    case ID.haveNone:
      return { kind: 'have-none' }
    case ID.have:
      return { kind: 'have', piece: uint32(body, 0) }
    case ID.bitfield:
      return { kind: 'bitfield', bytes: new Uint8Array(body) }
    case ID.request:
      return { kind: 'request', ...spanIn(body) }
    case ID.cancel:
      return { kind: 'cancel', ...spanIn(body) }
    case ID.reject:
      return { kind: 'reject', ...spanIn(body) }
    case ID.hashRequest:
      return hashMessage('hash-request', body)
    case ID.hashReject:
      return hashMessage('hash-reject', body)
    case ID.hashes:
      return decodeHashes(body)
    case ID.extended:
      return decodeExtended(body)
    default:
      return undefined // Of no use here: DHT port, suggestions, pieces that a choked peer may ask for.
  }
}

/** Big-endian. */
export function uint32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] ?? 0) * 0x1_00_00_00 +
    (((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0))
  )
}

function decodeExtended(body: Uint8Array): ReceivedMessage | undefined | WireFault {
  const rest = body.subarray(1)
  switch (body[0]) {
    case 0: {
      const found = decodeHandshake(rest)
      return 'code' in found ? found : { kind: 'extended-handshake', ...found.says }
    }
    case EXTENSION_IDS.metadata:
      return decodeMetadata(rest)
    case EXTENSION_IDS.core:
      return decodeCore(rest)
    case EXTENSION_IDS.votes:
      return decodeVotes(rest)
    default:
      return undefined
  }
}

function hashMessage(kind: 'hash-request' | 'hash-reject', body: Uint8Array): ReceivedMessage | WireFault {
  const range = hashRangeIn(body)
  return range === undefined ? malformed('a range of hashes that no tree has') : { kind, ...range }
}

function decodeHashes(body: Uint8Array): ReceivedMessage | WireFault {
  const range = hashRangeIn(body)
  if (range === undefined) return malformed('a range of hashes that no tree has')
  const hashes = new Uint8Array(body.subarray(HASH_RANGE_BYTES))
  const count = range.length + uncleCount(range)
  // An uncle is left out where the tree ends before the layers that were asked for.
  if (hashes.byteLength % HASH_BYTES !== 0 || hashes.byteLength > count * HASH_BYTES) {
    return malformed('another number of hashes than the message says')
  }
  if (hashes.byteLength < range.length * HASH_BYTES) return malformed('fewer hashes than the message says')
  return { kind: 'hashes', ...range, hashes }
}

function hashRangeIn(body: Uint8Array): HashRange | undefined {
  const [baseLayer = 0, index = 0, length = 0, proofLayers = 0] = [0, 4, 8, 12].map(at => uint32(body, HASH_BYTES + at))
  if (baseLayer > HASH_LAYERS_MAX || proofLayers > HASH_LAYERS_MAX) return undefined
  if (length < 1 || length > HASHES_MAX || (length & (length - 1)) !== 0 || index % length !== 0) return undefined
  return { root: new Uint8Array(body.subarray(0, HASH_BYTES)), baseLayer, index, length, proofLayers }
}

function spanIn(body: Uint8Array): { readonly piece: number; readonly offset: number; readonly length: number } {
  return { piece: uint32(body, 0), offset: uint32(body, 4), length: uint32(body, 8) }
}

function head(id: number, bodyBytes: number): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES)
  putUint32(bytes, 0, 1 + bodyBytes)
  bytes[4] = id
  return bytes
}

function numbers(id: number, values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + 4 * values.length)
  putUint32(bytes, 0, 1 + 4 * values.length)
  bytes[4] = id
  for (const [at, value] of values.entries()) putUint32(bytes, HEAD_BYTES + 4 * at, value)
  return bytes
}

function pieceHead(message: Extract<PeerMessage, { kind: 'piece' }>): Uint8Array {
  const bytes = new Uint8Array(PIECE_HEAD_BYTES)
  putUint32(bytes, 0, PIECE_HEAD_BYTES - 4 + message.bytes.byteLength)
  bytes[4] = ID.piece
  putUint32(bytes, 5, message.piece)
  putUint32(bytes, 9, message.offset)
  return bytes
}

function hashRange(id: number, range: HashRange, hashBytes: number): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + HASH_RANGE_BYTES)
  putUint32(bytes, 0, 1 + HASH_RANGE_BYTES + hashBytes)
  bytes[4] = id
  bytes.set(range.root, HEAD_BYTES)
  const fields = [range.baseLayer, range.index, range.length, range.proofLayers]
  for (const [at, value] of fields.entries()) putUint32(bytes, HEAD_BYTES + HASH_BYTES + 4 * at, value)
  return bytes
}

function extended(id: number, parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const bytes = new Uint8Array(HEAD_BYTES + 1)
  const bodyBytes = parts.reduce((sum, part) => sum + part.byteLength, 0)
  putUint32(bytes, 0, 2 + bodyBytes)
  bytes[4] = ID.extended
  bytes[5] = id
  return [bytes, ...parts]
}

function putUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}
