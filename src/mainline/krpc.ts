/**
 * KRPC messages (BEP 5, 32, 42, 43, 44): what a datagram says, and datagrams that say it. Everything is checked here, by
 * type and size, so that whoever handles a message can rely on it. What is wrong is a fault, which may be worth an answer.
 */
import { ED25519_PUBLIC_BYTES, ED25519_SIGNATURE_BYTES } from '#crypto'
import { compactContacts, compactEndpoint, decodeCompactContacts, decodeCompactEndpoint, ID_BYTES } from './address.ts'
import { type BencodeValue, decodeBencode, encodeBencode, isDict } from '#formats'
import { KRPC_PROTOCOL } from './codes.ts'
import { Fields } from './fields.ts'
import { PACKET_BYTES_MAX, TOKEN_BYTES_MAX, TRANSACTION_BYTES_MAX } from './limits.ts'
import { decodeQueryBody, type QueryBody } from './query.ts'
import type { Contact, Endpoint, Family } from './types.ts'

const ERROR_TEXT_BYTES_MAX = 256
const [TYPE_QUERY, TYPE_RESPONSE, TYPE_ERROR] = [ascii('q'), ascii('r'), ascii('e')]

export type KrpcQuery = {
  readonly kind: 'query'
  readonly transaction: Uint8Array
  readonly id: Uint8Array
  /** The sender answers nothing (BEP 43). */
  readonly isReadOnly: boolean
  readonly body: QueryBody
}

/** A value in an answer, unchecked: its signature or hash is the asker's business, who knows the target. */
export type AnsweredItem = {
  /** Bencoded. */
  readonly valueBytes: Uint8Array
  readonly value: BencodeValue
  readonly publicKey: Uint8Array | undefined
  readonly signature: Uint8Array | undefined
  readonly seq: number | undefined
}

export type KrpcResponse = {
  readonly kind: 'response'
  readonly transaction: Uint8Array
  readonly id: Uint8Array
  /** Our own address, as the answerer sees it (BEP 42). */
  readonly seenAs: Endpoint | undefined
  readonly contacts: readonly Contact[]
  readonly peers: readonly Endpoint[]
  readonly token: Uint8Array | undefined
  readonly item: AnsweredItem | undefined
}

export type KrpcError = {
  readonly kind: 'error'
  readonly transaction: Uint8Array
  readonly code: number
}

/** What a datagram is that is none of these. Only a query that can be answered gets an answer. */
export type KrpcWrong = {
  readonly kind: 'wrong'
  readonly of: 'query' | 'answer' | 'nothing'
  readonly transaction: Uint8Array
  readonly code: number
  readonly text: string
}

export type KrpcMessage = KrpcQuery | KrpcResponse | KrpcError | KrpcWrong

/** What we answer with. */
export type Reply =
  | { readonly kind: 'response'; readonly fields: ReplyFields }
  | { readonly kind: 'error'; readonly code: number; readonly text: string }

export type ReplyFields = {
  readonly contacts?: Partial<Readonly<Record<Family, readonly Contact[]>>>
  readonly peers?: readonly Endpoint[]
  readonly token?: Uint8Array
  readonly value?: BencodeValue
  readonly publicKey?: Uint8Array
  readonly signature?: Uint8Array
  readonly seq?: number
}

/** Understands a datagram, or says what is wrong with it. Never throws. */
export function decodeMessage(bytes: Uint8Array): KrpcMessage {
  const nothing: KrpcWrong = {
    kind: 'wrong',
    of: 'nothing',
    transaction: new Uint8Array(),
    code: KRPC_PROTOCOL,
    text: '',
  }
  if (bytes.byteLength > PACKET_BYTES_MAX) return nothing
  const root = decodeBencode(bytes)
  if (!isDict(root)) return nothing
  const fields = new Fields(root)
  const transaction = fields.bytes('t', { min: 1, max: TRANSACTION_BYTES_MAX })
  const type = asciiOf(fields.exactly('y', 1))
  if (fields.wrong !== undefined) return nothing
  switch (type) {
    case 'q':
      return decodeQuery(fields, transaction)
    case 'r':
      return decodeResponse(fields, transaction)
    case 'e':
      return decodeError(fields, transaction)
    default:
      return nothing
  }
}

export function encodeQuery(query: {
  readonly transaction: Uint8Array
  readonly method: string
  readonly args: { readonly [key: string]: BencodeValue }
  readonly isReadOnly: boolean
}): Uint8Array | undefined {
  const { transaction, method, args, isReadOnly } = query
  const message = { a: args, q: ascii(method), t: transaction, y: TYPE_QUERY }
  return fitting(isReadOnly ? { ...message, ro: 1 } : message)
}

/** @param to whom it goes to, who is told so (BEP 42) */
export function encodeReply(
  reply: Reply,
  head: { readonly transaction: Uint8Array; readonly id: Uint8Array; readonly to: Endpoint },
): Uint8Array | undefined {
  const { transaction, id, to } = head
  if (reply.kind === 'error') {
    return fitting({ e: [reply.code, ascii(reply.text)], ip: compactEndpoint(to), t: transaction, y: TYPE_ERROR })
  }
  const { contacts, peers, token, value, publicKey, signature, seq } = reply.fields
  const r: Record<string, BencodeValue> = { id }
  if (contacts?.[4] !== undefined) r['nodes'] = compactContacts(contacts[4])
  if (contacts?.[6] !== undefined) r['nodes6'] = compactContacts(contacts[6])
  if (peers !== undefined && peers.length > 0) r['values'] = peers.map(compactEndpoint)
  if (token !== undefined) r['token'] = token
  if (value !== undefined) r['v'] = value
  if (publicKey !== undefined) r['k'] = publicKey
  if (signature !== undefined) r['sig'] = signature
  if (seq !== undefined) r['seq'] = seq
  return fitting({ ip: compactEndpoint(to), r, t: transaction, y: TYPE_RESPONSE })
}

function decodeQuery(fields: Fields, transaction: Uint8Array): KrpcQuery | KrpcWrong {
  const wrong = (code: number, text: string): KrpcWrong => ({ kind: 'wrong', of: 'query', transaction, code, text })
  const method = asciiOf(fields.bytes('q', { min: 1, max: 32 }))
  const isReadOnly = fields.has('ro') && fields.integer('ro', { min: 0, max: 1 }) === 1
  const args = fields.dict('a')
  const id = args.exactly('id', ID_BYTES)
  const first = fields.wrong ?? args.wrong
  if (first !== undefined) return wrong(KRPC_PROTOCOL, `wrong: ${first}`)
  const body = decodeQueryBody(method, args)
  if ('code' in body) return wrong(body.code, body.text)
  return { kind: 'query', transaction, id, isReadOnly, body }
}

function decodeResponse(fields: Fields, transaction: Uint8Array): KrpcResponse | KrpcWrong {
  const r = fields.dict('r')
  const id = r.exactly('id', ID_BYTES)
  const anySize = { min: 0, max: PACKET_BYTES_MAX }
  // Some answer with four bytes, without the port: no use, and no harm.
  const seenAs = fields.has('ip') ? decodeCompactEndpoint(fields.bytes('ip', anySize)) : undefined
  const contacts = [...decodeContacts(r, 'nodes', 4), ...decodeContacts(r, 'nodes6', 6)]
  const peers = r.has('values') ? decodePeers(r) : []
  const token = r.has('token') ? r.bytes('token', { min: 0, max: TOKEN_BYTES_MAX }) : undefined
  const item = decodeItem(r)
  const first = fields.wrong ?? r.wrong
  if (first !== undefined) {
    return { kind: 'wrong', of: 'answer', transaction, code: KRPC_PROTOCOL, text: `wrong: ${first}` }
  }
  return { kind: 'response', transaction, id, seenAs, contacts, peers, token, item }
}

function decodeContacts(r: Fields, name: string, family: Family): readonly Contact[] {
  if (!r.has(name)) return []
  const contacts = decodeCompactContacts(r.bytes(name, { min: 0, max: PACKET_BYTES_MAX }), family)
  if (contacts === undefined) r.refuse(name)
  return contacts ?? []
}

function decodePeers(r: Fields): Endpoint[] {
  const peers: Endpoint[] = []
  for (const compact of r.list('values')) {
    if (!(compact instanceof Uint8Array)) {
      r.refuse('values')
      return []
    }
    const peer = decodeCompactEndpoint(compact)
    if (peer !== undefined) peers.push(peer)
  }
  return peers
}

function decodeItem(r: Fields): AnsweredItem | undefined {
  const publicKey = r.has('k') ? r.exactly('k', ED25519_PUBLIC_BYTES) : undefined
  const signature = r.has('sig') ? r.exactly('sig', ED25519_SIGNATURE_BYTES) : undefined
  const seq = r.has('seq') ? r.integer('seq', { min: 0, max: Number.MAX_SAFE_INTEGER }) : undefined
  if (!r.has('v')) return undefined
  const value = r.value('v')
  // What came as anything but its canonical form has another hash now, and is refused for that.
  return { value, valueBytes: encodeBencode(value) ?? new Uint8Array(), publicKey, signature, seq }
}

function decodeError(fields: Fields, transaction: Uint8Array): KrpcError | KrpcWrong {
  const [code, text] = fields.list('e')
  const isRight = typeof code === 'number' && text instanceof Uint8Array && text.byteLength <= ERROR_TEXT_BYTES_MAX
  if (!isRight) return { kind: 'wrong', of: 'answer', transaction, code: KRPC_PROTOCOL, text: 'wrong: e' }
  return { kind: 'error', transaction, code }
}

function fitting(message: BencodeValue): Uint8Array | undefined {
  const bytes = encodeBencode(message)
  return bytes !== undefined && bytes.byteLength <= PACKET_BYTES_MAX ? bytes : undefined
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, char => char.charCodeAt(0) & 0x7f)
}

function asciiOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes)
}
