/**
 * Peer metadata: where a node can be reached and what it is, as a value of BEP 44 under the node's key. Bencoded, with
 * short keys, less than 1000 bytes:
 *
 *   a addresses (multiaddrs)   c capabilities   h public place   l private place   n 1: public, 0: behind NAT
 *   o protocols   r 1: relay   t Unix seconds   u relay in use {a address, k key, s session}   v 1
 *
 * and a place is {d data plane, h IP address as text, q QUIC, t TCP}, each port only where there is one. The sequence
 * number is BEP 44's own, and so is the signature.
 */
import { isIP } from 'node:net'
import { z } from 'zod'
import { peerOfPublicKey, publicKeyOfPeer } from '#crypto'
import { bytesOf } from '#identity'
import { type BencodeValue, decodeBencode, encodeBencode } from '#formats'
import type { PeerFault } from './errors.ts'
import {
  METADATA_ADDRESS_CHARS_MAX,
  METADATA_ADDRESSES_MAX,
  METADATA_BYTES_MAX,
  METADATA_WORD_CHARS_MAX,
  METADATA_WORDS_MAX,
} from './limits.ts'

/** An IP address and the ports there. */
export type Place = {
  /** IPv4 or IPv6, as text. */
  readonly host: string
  readonly tcp?: number
  /** UDP port of QUIC. */
  readonly quic?: number
  /** TCP port of the data plane. */
  readonly plane?: number
}

/** The relay by which a node behind NAT is reached. */
export type RelayInUse = {
  /** Peer id of the relay. */
  readonly peer: string
  /** The reservation, as the relay names it. */
  readonly session: string
  /** Multiaddr of the relay, without its peer id. */
  readonly address: string
}

/** What a node says about itself; the fields of the source's PeerMetadata, and multiaddrs for all else. */
export type PeerMetadata = {
  readonly version: 1
  /** Unix seconds of the last change. */
  readonly timestamp: number
  readonly nodeType: 'public' | 'private'
  /** Takes reservations. Only public nodes do. */
  readonly isRelay: boolean
  /** As the world sees it. Behind NAT: from where its packets come. */
  readonly publicPlace?: Place
  /** In its own network. */
  readonly privatePlace?: Place
  /** Multiaddrs beside those that follow from the places. */
  readonly addresses: readonly string[]
  readonly relay?: RelayInUse
  readonly protocols: readonly string[]
  readonly capabilities: readonly string[]
}

/** Metadata, and the number under which its node has signed it. */
export type VersionedMetadata = { readonly metadata: PeerMetadata; readonly sequence: number }

const ADDRESS = /^\/[\x21-\x7e]+$/
const WORD = /^[\x21-\x7e]+$/

/** Printable ASCII, so a byte is a character. */
const text = (charsMax: number, pattern: RegExp) =>
  z
    .custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength <= charsMax)
    .transform((bytes, context) => {
      const decoded = String.fromCharCode(...bytes)
      if (!pattern.test(decoded)) context.addIssue({ code: 'custom', message: 'unprintable' })
      return decoded
    })
const word = text(METADATA_WORD_CHARS_MAX, WORD)
const address = text(METADATA_ADDRESS_CHARS_MAX, ADDRESS)
const port = z.int().min(1).max(0xffff)
const flag = z.union([z.literal(0), z.literal(1)])
const place = z
  .object({
    h: text(45, /^[0-9a-f.:]+$/).refine(host => isIP(host) !== 0),
    t: port.exactOptional(),
    q: port.exactOptional(),
    d: port.exactOptional(),
  })
  .transform(({ h, t, q, d }): Place => ({ host: h, ...given({ tcp: t, quic: q, plane: d }) }))

const schema = z
  .object({
    a: z.array(address).max(METADATA_ADDRESSES_MAX),
    c: z.array(word).max(METADATA_WORDS_MAX),
    h: place.exactOptional(),
    l: place.exactOptional(),
    n: flag,
    o: z.array(word).max(METADATA_WORDS_MAX),
    r: flag,
    t: z.int().min(0),
    u: z.object({ a: address, k: bytesOf(32), s: word }).exactOptional(),
    v: z.literal(1),
  })
  .refine(({ n, r, u }) => (n === 1 ? u === undefined : r === 0), 'public nodes need no relay, and only they are one')

/** The value that is put; what does not fit is left out: first capabilities, then protocols, then addresses. */
export function encodePeerMetadata(metadata: PeerMetadata): {
  readonly value: BencodeValue
  readonly bytes: Uint8Array
} {
  const lists = {
    capabilities: metadata.capabilities.filter(item => isText(item, METADATA_WORD_CHARS_MAX, WORD)),
    protocols: metadata.protocols.filter(item => isText(item, METADATA_WORD_CHARS_MAX, WORD)),
    addresses: metadata.addresses.filter(item => isText(item, METADATA_ADDRESS_CHARS_MAX, ADDRESS)),
  }
  lists.capabilities.splice(METADATA_WORDS_MAX)
  lists.protocols.splice(METADATA_WORDS_MAX)
  lists.addresses.splice(METADATA_ADDRESSES_MAX)
  for (;;) {
    const value = toValue({ ...metadata, ...lists })
    const bytes = encodeBencode(value)
    if (bytes !== undefined && bytes.byteLength <= METADATA_BYTES_MAX) return { value, bytes }
    const longest = [lists.capabilities, lists.protocols, lists.addresses].find(list => list.length > 0)
    // Without its lists a value has 500 bytes at most: only a bug of ours gets here.
    if (longest === undefined) throw new TypeError('peer metadata that bencode cannot say')
    longest.pop()
  }
}

/** Reads a value that somebody has signed. Fields that are not known are left out: a later revision may have some. */
export function decodePeerMetadata(value: BencodeValue): PeerMetadata | PeerFault {
  const { data } = schema.safeParse(value)
  if (data === undefined) return malformed()
  const relay = data.u === undefined ? undefined : relayOf(data.u)
  if (relay === null) return malformed()
  return {
    version: 1,
    timestamp: data.t,
    nodeType: data.n === 1 ? 'public' : 'private',
    isRelay: data.r === 1,
    addresses: data.a,
    protocols: data.o,
    capabilities: data.c,
    ...given({ publicPlace: data.h, privatePlace: data.l, relay }),
  }
}

/** The same, of bytes. */
export function decodePeerMetadataBytes(bytes: Uint8Array): PeerMetadata | PeerFault {
  const value = bytes.byteLength > METADATA_BYTES_MAX ? undefined : decodeBencode(bytes)
  return value === undefined ? malformed() : decodePeerMetadata(value)
}

/** Multiaddrs of a place, each ending in the peer's id: QUIC and TCP. */
export function addressesOfPlace({ host, tcp, quic }: Place, peer: string): string[] {
  const ip = host.includes(':') ? `/ip6/${host}` : `/ip4/${host}`
  return [
    ...(quic === undefined ? [] : [`${ip}/udp/${quic}/quic-v1/p2p/${peer}`]),
    ...(tcp === undefined ? [] : [`${ip}/tcp/${tcp}/p2p/${peer}`]),
  ]
}

function toValue(metadata: PeerMetadata): BencodeValue {
  const { publicPlace, privatePlace, relay } = metadata
  const relayKey = relay === undefined ? undefined : publicKeyOfPeer(relay.peer)
  return {
    a: metadata.addresses.map(ascii),
    c: metadata.capabilities.map(ascii),
    n: metadata.nodeType === 'public' ? 1 : 0,
    o: metadata.protocols.map(ascii),
    r: metadata.isRelay ? 1 : 0,
    t: metadata.timestamp,
    v: metadata.version,
    ...(publicPlace === undefined ? {} : { h: valueOfPlace(publicPlace) }),
    ...(privatePlace === undefined ? {} : { l: valueOfPlace(privatePlace) }),
    ...(relay === undefined || relayKey === undefined
      ? {}
      : { u: { a: ascii(relay.address), k: relayKey, s: ascii(relay.session) } }),
  }
}

function valueOfPlace({ host, tcp, quic, plane }: Place): BencodeValue {
  return { h: ascii(host), ...given({ t: tcp, q: quic, d: plane }) }
}

function relayOf(relay: { readonly a: string; readonly k: Uint8Array; readonly s: string }): RelayInUse | null {
  try {
    return { peer: peerOfPublicKey(relay.k), session: relay.s, address: relay.a }
  } catch {
    return null // 32 bytes that are no key.
  }
}

function isText(value: string, charsMax: number, pattern: RegExp): boolean {
  return value.length <= charsMax && pattern.test(value)
}

function ascii(value: string): Uint8Array {
  return Uint8Array.from(value, char => char.charCodeAt(0))
}

/** Without what is undefined. */
function given<T extends Record<string, unknown>>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(kept) as { [K in keyof T]?: Exclude<T[K], undefined> }
}

function malformed(): PeerFault {
  return { code: 'DISCOVERY_METADATA_MALFORMED', what: 'peer metadata that does not parse' }
}
