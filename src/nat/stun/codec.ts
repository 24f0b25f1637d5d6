/**
 * STUN messages (RFC 8489) with the attributes of RFC 5780, as bytes and as values. Pure.
 *
 *      0                   1                   2                   3
 *     |0 0| class and method (14)     |  bytes after the header (16)  |
 *     |                   magic cookie 0x2112a442                     |
 *     |                     transaction id (96)                       |
 *     |  type (16)  |  length (16)  |  value, filled up to 4 bytes    |  any number of times
 *
 * Of attributes that come twice the first counts; what follows MESSAGE-INTEGRITY counts only if it is FINGERPRINT, and
 * nothing may follow that one. Attributes that nobody knows are listed where their type says that they must be understood.
 */
import { crc32 } from 'node:zlib'
import { concatBytes } from '#base'
import { equalInConstantTime, hmacSha1 } from '#crypto'
import { addressOfBytes, bytesOfAddress } from '../ip.ts'
import { STUN_ATTRIBUTES_MAX, STUN_MESSAGE_BYTES_MAX, STUN_TEXT_BYTES_MAX } from '../limits.ts'
import type { Endpoint } from '../types.ts'

/** The method of every STUN message here: it asks where its sender is seen. */
export const STUN_BINDING = 1

const STUN_HEADER_BYTES = 20
export const STUN_TRANSACTION_BYTES = 12

const COOKIE = 0x2112a442
const FINGERPRINT_MASK = 0x5354554e
const INTEGRITY_BYTES = 20

const TYPE = {
  mapped: 0x0001,
  changeRequest: 0x0003,
  username: 0x0006,
  integrity: 0x0008,
  errorCode: 0x0009,
  unknownAttributes: 0x000a,
  xorMapped: 0x0020,
  priority: 0x0024,
  useCandidate: 0x0025,
  fingerprint: 0x8028,
  iceControlled: 0x8029,
  iceControlling: 0x802a,
  responseOrigin: 0x802b,
  otherAddress: 0x802c,
} as const

const KNOWN: ReadonlySet<number> = new Set(Object.values(TYPE))

export type StunClass = 'request' | 'indication' | 'success' | 'error'
const CLASSES: readonly StunClass[] = ['request', 'indication', 'success', 'error']

/** What a message says. `mapped` comes from XOR-MAPPED-ADDRESS, or from MAPPED-ADDRESS where an old server has no other. */
export type StunAttributes = {
  readonly mapped?: Endpoint
  readonly otherAddress?: Endpoint
  readonly responseOrigin?: Endpoint
  readonly changeRequest?: { readonly address: boolean; readonly port: boolean }
  readonly username?: string
  readonly error?: { readonly code: number; readonly reason: string }
  readonly unknown?: readonly number[]
}

export type StunMessage = {
  readonly class: StunClass
  readonly method: number
  /** 12 bytes. */
  readonly transactionId: Uint8Array
  readonly attributes: StunAttributes
  /** Types that must be understood (RFC 8489, 14) and are not. */
  readonly notUnderstood: readonly number[]
  /** Whether there is a FINGERPRINT. A wrong one makes the whole message a fault. */
  readonly hasFingerprint: boolean
  /** Where MESSAGE-INTEGRITY begins; undefined where there is none. It is checked by `isAuthentic`. */
  readonly integrityAt: number | undefined
}

export type StunFault = {
  readonly code: 'STUN_INVALID'
  readonly reason: 'size' | 'header' | 'attribute' | 'fingerprint'
}

/** Reads one datagram. What is not a well-formed STUN message is a fault; nothing is thrown. */
export function decodeStun(bytes: Uint8Array): StunMessage | StunFault {
  const size = bytes.byteLength
  if (size < STUN_HEADER_BYTES || size > STUN_MESSAGE_BYTES_MAX || size % 4 !== 0) return invalid('size')
  const view = new DataView(bytes.buffer, bytes.byteOffset, size)
  const type = view.getUint16(0)
  if (type >= 0x4000 || view.getUint32(4) !== COOKIE || view.getUint16(2) !== size - STUN_HEADER_BYTES) {
    return invalid('header')
  }
  const parts = partsOf(view)
  if (parts === undefined) return invalid('attribute')
  const transactionId = copyOf(bytes.subarray(8, STUN_HEADER_BYTES))
  const found = new Map<number, Uint8Array>()
  let integrityAt: number | undefined
  let hasFingerprint = false
  for (const part of parts) {
    if (hasFingerprint) return invalid('attribute')
    if (part.type === TYPE.fingerprint) {
      if (part.size !== 4 || view.getUint32(part.at + 4) !== fingerprintOf(bytes.subarray(0, part.at))) {
        return invalid('fingerprint')
      }
      hasFingerprint = true
    } else if (integrityAt === undefined && !found.has(part.type)) {
      if (part.type === TYPE.integrity && part.size !== INTEGRITY_BYTES) return invalid('attribute')
      if (part.type === TYPE.integrity) integrityAt = part.at
      found.set(part.type, bytes.subarray(part.at + 4, part.at + 4 + part.size))
    }
  }
  const attributes = attributesOf(found, transactionId)
  if (attributes === undefined) return invalid('attribute')
  return {
    class: CLASSES[((type >> 7) & 2) | ((type >> 4) & 1)] ?? 'request',
    method: (type & 0xf) | ((type >> 1) & 0x70) | ((type >> 2) & 0xf80),
    transactionId,
    attributes,
    notUnderstood: [...found.keys()].filter(known => known < 0x8000 && !KNOWN.has(known)),
    hasFingerprint,
    integrityAt,
  }
}

/** Whether MESSAGE-INTEGRITY was made with this key. `bytes` is what `message` was read from. */
export function isAuthentic(bytes: Uint8Array, message: StunMessage, key: Uint8Array): boolean {
  const at = message.integrityAt
  if (at === undefined) return false
  const told = bytes.subarray(at + 4, at + 4 + INTEGRITY_BYTES)
  return equalInConstantTime(told, integrityOf(bytes.subarray(0, at), key))
}

export type StunEncoding = {
  readonly class: StunClass
  /** @default STUN_BINDING */
  readonly method?: number
  readonly transactionId: Uint8Array
  /** Written in the order of the object's fields. */
  readonly attributes?: StunAttributes
  /** Adds MESSAGE-INTEGRITY. */
  readonly integrityKey?: Uint8Array
  readonly hasFingerprint?: boolean
}

/** Writes a message. The caller keeps it within `STUN_MESSAGE_BYTES_MAX`. */
export function encodeStun(message: StunEncoding): Uint8Array<ArrayBuffer> {
  const method = message.method ?? STUN_BINDING
  const kind = CLASSES.indexOf(message.class)
  const header = new Uint8Array(STUN_HEADER_BYTES)
  const view = new DataView(header.buffer)
  const methodBits = (method & 0xf) | ((method & 0x70) << 1) | ((method & 0xf80) << 2)
  view.setUint16(0, methodBits | ((kind & 2) << 7) | ((kind & 1) << 4))
  view.setUint32(4, COOKIE)
  header.set(message.transactionId, 8)
  const parts: Uint8Array[] = [header, ...encodeAttributes(message.attributes ?? {}, message.transactionId)]
  if (message.integrityKey !== undefined) {
    parts.push(attribute(TYPE.integrity, integrityOf(concatBytes(parts), message.integrityKey)))
  }
  const body = concatBytes(parts)
  new DataView(body.buffer).setUint16(
    2,
    body.byteLength - STUN_HEADER_BYTES + (message.hasFingerprint === true ? 8 : 0),
  )
  if (message.hasFingerprint !== true) return body
  const crc = new Uint8Array(4)
  new DataView(crc.buffer).setUint32(0, fingerprintOf(body))
  return concatBytes([body, attribute(TYPE.fingerprint, crc)])
}

/** Whether a datagram can be STUN at all: what shares a socket with it begins otherwise (RFC 7983). */
export function looksLikeStun(bytes: Uint8Array): boolean {
  if (bytes.byteLength < STUN_HEADER_BYTES || (bytes[0] ?? 0xff) >= 0x40) return false
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getUint32(4) === COOKIE
}

type Part = { readonly type: number; readonly at: number; readonly size: number }

function partsOf(view: DataView): Part[] | undefined {
  const parts: Part[] = []
  let at = STUN_HEADER_BYTES
  while (at < view.byteLength) {
    if (parts.length >= STUN_ATTRIBUTES_MAX) return undefined
    const size = view.getUint16(at + 2)
    const next = at + 4 + Math.ceil(size / 4) * 4
    if (next > view.byteLength) return undefined
    parts.push({ type: view.getUint16(at), at, size })
    at = next
  }
  return parts
}

function attributesOf(found: ReadonlyMap<number, Uint8Array>, transactionId: Uint8Array): StunAttributes | undefined {
  const result: { -readonly [Key in keyof StunAttributes]: StunAttributes[Key] } = {}
  const endpoints = [
    [TYPE.mapped, 'mapped'],
    [TYPE.xorMapped, 'mapped'],
    [TYPE.otherAddress, 'otherAddress'],
    [TYPE.responseOrigin, 'responseOrigin'],
  ] as const
  for (const [type, name] of endpoints) {
    const value = found.get(type)
    if (value === undefined) continue
    const endpoint = decodeEndpoint(value, type === TYPE.xorMapped ? transactionId : undefined)
    if (endpoint === undefined) return undefined
    result[name] = endpoint
  }
  const change = found.get(TYPE.changeRequest)
  if (change !== undefined) {
    if (change.byteLength !== 4) return undefined
    const flags = change[3] ?? 0
    result.changeRequest = { address: (flags & 4) !== 0, port: (flags & 2) !== 0 }
  }
  const username = found.get(TYPE.username)
  if (username !== undefined) {
    if (username.byteLength > STUN_TEXT_BYTES_MAX) return undefined
    result.username = new TextDecoder().decode(username)
  }
  const error = found.get(TYPE.errorCode)
  if (error !== undefined) {
    if (error.byteLength < 4 || error.byteLength > 4 + STUN_TEXT_BYTES_MAX) return undefined
    const code = ((error[2] ?? 0) & 7) * 100 + (error[3] ?? 0)
    result.error = { code, reason: new TextDecoder().decode(error.subarray(4)) }
  }
  return result
}

function* encodeAttributes(attributes: StunAttributes, transactionId: Uint8Array): Generator<Uint8Array> {
  const { changeRequest, username, error } = attributes
  if (attributes.mapped !== undefined) yield encodeEndpoint(TYPE.xorMapped, attributes.mapped, transactionId)
  if (attributes.otherAddress !== undefined) yield encodeEndpoint(TYPE.otherAddress, attributes.otherAddress)
  if (attributes.responseOrigin !== undefined) yield encodeEndpoint(TYPE.responseOrigin, attributes.responseOrigin)
  if (changeRequest !== undefined) {
    const flags = (changeRequest.address ? 4 : 0) | (changeRequest.port ? 2 : 0)
    yield attribute(TYPE.changeRequest, Uint8Array.of(0, 0, 0, flags))
  }
  if (username !== undefined) yield attribute(TYPE.username, new TextEncoder().encode(username))
  if (error !== undefined) {
    const head = Uint8Array.of(0, 0, Math.floor(error.code / 100), error.code % 100)
    yield attribute(TYPE.errorCode, concatBytes([head, new TextEncoder().encode(error.reason)]))
  }
  if (attributes.unknown !== undefined) {
    const types = Uint8Array.from(attributes.unknown.flatMap(type => [type >> 8, type & 0xff]))
    yield attribute(TYPE.unknownAttributes, types)
  }
}

function attribute(type: number, value: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 + Math.ceil(value.byteLength / 4) * 4)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, type)
  view.setUint16(2, value.byteLength)
  bytes.set(value, 4)
  return bytes
}

/** `|0 (8)| family (8): 1 or 2 | port (16) | address (32 or 128)|`, both masked where there is a transaction id. */
function decodeEndpoint(value: Uint8Array, transactionId?: Uint8Array): Endpoint | undefined {
  const family = value[1]
  if (value.byteLength !== (family === 1 ? 8 : 20) || (family !== 1 && family !== 2)) return undefined
  const mask = transactionId === undefined ? undefined : maskOf(transactionId)
  const plain = Uint8Array.from(value.subarray(2), (byte, index) => byte ^ (mask?.[index] ?? 0))
  return { port: ((plain[0] ?? 0) << 8) | (plain[1] ?? 0), address: addressOfBytes(plain.subarray(2)) }
}

function encodeEndpoint(type: number, endpoint: Endpoint, transactionId?: Uint8Array): Uint8Array {
  const address = bytesOfAddress(endpoint.address) ?? new Uint8Array(4)
  const plain = concatBytes([Uint8Array.of(endpoint.port >> 8, endpoint.port & 0xff), address])
  const mask = transactionId === undefined ? undefined : maskOf(transactionId)
  const masked = plain.map((byte, index) => byte ^ (mask?.[index] ?? 0))
  return attribute(type, concatBytes([Uint8Array.of(0, address.byteLength === 4 ? 1 : 2), masked]))
}

/** The port is masked with the first half of the cookie, the address with the cookie and the transaction id. */
function maskOf(transactionId: Uint8Array): Uint8Array {
  const cookie = Uint8Array.of(0x21, 0x12, 0xa4, 0x42)
  return concatBytes([cookie.subarray(0, 2), cookie, transactionId])
}

/** The header's length counts MESSAGE-INTEGRITY, and nothing after it, while its code is made. */
function integrityOf(before: Uint8Array, key: Uint8Array): Uint8Array {
  const header = copyOf(before.subarray(0, STUN_HEADER_BYTES))
  new DataView(header.buffer).setUint16(2, before.byteLength - STUN_HEADER_BYTES + 4 + INTEGRITY_BYTES)
  return hmacSha1(key, header, before.subarray(STUN_HEADER_BYTES))
}

/** `slice` of a Node `Buffer`, which datagrams come in, copies nothing. */
function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}

function fingerprintOf(before: Uint8Array): number {
  return (crc32(before) ^ FINGERPRINT_MASK) >>> 0
}

function invalid(reason: StunFault['reason']): StunFault {
  return { code: 'STUN_INVALID', reason }
}
