/** The arguments of each query that we answer (BEP 5, 32, 44), checked. */
import { ED25519_PUBLIC_BYTES, ED25519_SIGNATURE_BYTES } from '#crypto'
import { ID_BYTES } from './address.ts'
import { type BencodeValue, encodeBencode } from '#formats'
import { KRPC_METHOD_UNKNOWN, KRPC_PROTOCOL, KRPC_SALT_TOO_BIG, KRPC_VALUE_TOO_BIG } from './codes.ts'
import type { Fields } from './fields.ts'
import { ITEM_SALT_BYTES_MAX, ITEM_VALUE_BYTES_MAX, PACKET_BYTES_MAX, TOKEN_BYTES_MAX } from './limits.ts'
import type { Family } from './types.ts'

/** Which contacts the asker wants (BEP 32); none: those of the family that it asks by. */
export type Want = readonly Family[]

export type QueryBody =
  | { readonly method: 'ping' }
  | { readonly method: 'find_node'; readonly target: Uint8Array; readonly want: Want }
  | { readonly method: 'get_peers'; readonly infoHash: Uint8Array; readonly want: Want }
  | AnnounceQuery
  | { readonly method: 'get'; readonly target: Uint8Array; readonly seq: number | undefined; readonly want: Want }
  | PutQuery

export type AnnounceQuery = {
  readonly method: 'announce_peer'
  readonly infoHash: Uint8Array
  /** Undefined: the port that the query came from. */
  readonly port: number | undefined
  readonly token: Uint8Array
}

export type PutQuery = {
  readonly method: 'put'
  readonly token: Uint8Array
  readonly value: BencodeValue
  readonly valueBytes: Uint8Array
  /** Undefined: an immutable value. */
  readonly signed: SignedPart | undefined
}

export type SignedPart = {
  readonly publicKey: Uint8Array
  readonly signature: Uint8Array
  readonly salt: Uint8Array
  readonly seq: number
  readonly cas: number | undefined
}

type QueryFault = { readonly code: number; readonly text: string }

const SEQ_RANGE = { min: 0, max: Number.MAX_SAFE_INTEGER }

/** @param args whose `id` has been read */
export function decodeQueryBody(method: string, args: Fields): QueryBody | QueryFault {
  const body = readBody(method, args)
  if (body === undefined) return { code: KRPC_METHOD_UNKNOWN, text: 'method unknown' }
  if (args.wrong !== undefined) return { code: KRPC_PROTOCOL, text: `wrong: ${args.wrong}` }
  if (body.method !== 'put') return body
  if (body.valueBytes.byteLength > ITEM_VALUE_BYTES_MAX) return { code: KRPC_VALUE_TOO_BIG, text: 'v is too big' }
  if ((body.signed?.salt.byteLength ?? 0) > ITEM_SALT_BYTES_MAX)
    return { code: KRPC_SALT_TOO_BIG, text: 'salt is too big' }
  return body
}

function readBody(method: string, args: Fields): QueryBody | undefined {
  switch (method) {
    case 'ping':
      return { method }
    case 'find_node':
      return { method, target: args.exactly('target', ID_BYTES), want: readWant(args) }
    case 'get_peers':
      return { method, infoHash: args.exactly('info_hash', ID_BYTES), want: readWant(args) }
    case 'announce_peer':
      return readAnnounce(args)
    case 'get': {
      const seq = args.has('seq') ? args.integer('seq', SEQ_RANGE) : undefined
      return { method, target: args.exactly('target', ID_BYTES), seq, want: readWant(args) }
    }
    case 'put':
      return readPut(args)
    default:
      return undefined
  }
}

function readWant(args: Fields): Want {
  if (!args.has('want')) return []
  const wanted = new Set<Family>()
  for (const item of args.list('want')) {
    if (!(item instanceof Uint8Array)) {
      args.refuse('want')
      return []
    }
    const name = item.byteLength === 2 ? String.fromCharCode(...item) : ''
    if (name === 'n4') wanted.add(4)
    if (name === 'n6') wanted.add(6)
  }
  return [...wanted]
}

function readAnnounce(args: Fields): AnnounceQuery {
  const infoHash = args.exactly('info_hash', ID_BYTES)
  const token = args.bytes('token', { min: 0, max: TOKEN_BYTES_MAX })
  const isImplied = args.has('implied_port') && args.integer('implied_port', SEQ_RANGE) !== 0
  // With an implied port the other is ignored, and many send 0; but a number it must be.
  const port = isImplied && !args.has('port') ? 0 : args.integer('port', { min: isImplied ? 0 : 1, max: 0xffff })
  return { method: 'announce_peer', infoHash, port: isImplied ? undefined : port, token }
}

function readPut(args: Fields): PutQuery {
  const token = args.bytes('token', { min: 0, max: TOKEN_BYTES_MAX })
  const value = args.value('v')
  const valueBytes = encodeBencode(value) ?? new Uint8Array()
  if (valueBytes.byteLength === 0) args.refuse('v')
  const isSigned = ['k', 'sig', 'seq', 'salt', 'cas'].some(name => args.has(name))
  if (!isSigned) return { method: 'put', token, value, valueBytes, signed: undefined }
  const signed: SignedPart = {
    publicKey: args.exactly('k', ED25519_PUBLIC_BYTES),
    signature: args.exactly('sig', ED25519_SIGNATURE_BYTES),
    seq: args.integer('seq', SEQ_RANGE),
    salt: args.has('salt') ? args.bytes('salt', { min: 0, max: PACKET_BYTES_MAX }) : new Uint8Array(),
    cas: args.has('cas') ? args.integer('cas', SEQ_RANGE) : undefined,
  }
  return { method: 'put', token, value, valueBytes, signed }
}
