/**
 * Magnet links of BitTorrent v2 torrents (BEP 9, BEP 52), with addresses of peers that may have it (BEP 9, "x.pe"):
 *
 *   magnet:?xt=urn:btmh:1220<info-hash, 64 hexadecimal digits>&dn=<name>&x.pe=<host:port>...
 *
 * 1220 is the multihash prefix of SHA-256. Trackers and web seeds in a link are not read: whom this node talks to, its
 * owner decides.
 */
import { fromHex, toHex } from '#base'
import { caught, type DescriptionFault, refusal } from './errors.ts'
import { MAGNET_CHARS_MAX, MAGNET_NAME_CHARS_MAX, MAGNET_PEERS_MAX } from './limits.ts'
import { printable } from './printable.ts'
import type { Torrent } from './torrent.ts'

export type HostAndPort = {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string
  readonly port: number
}

export type Magnet = {
  /** SHA-256 of the info dictionary, 32 bytes. */
  readonly infoHash: Uint8Array
  /** A label. */
  readonly name: string | undefined
  readonly peers: readonly HostAndPort[]
}

const MULTIHASH = 'urn:btmh:1220'

/** @param name what people call the model; other clients show it until they know the torrent */
export function magnetOf(torrent: Pick<Torrent, 'infoHash'>, name: string, peers: readonly HostAndPort[] = []): string {
  const shown = printable(name.toWellFormed(), MAGNET_NAME_CHARS_MAX)
  const addresses = peers
    .slice(0, MAGNET_PEERS_MAX)
    .map(({ host, port }) => `&x.pe=${host.includes(':') ? `[${host}]` : host}:${port}`)
  return `magnet:?xt=${MULTIHASH}${toHex(torrent.infoHash)}&dn=${encodeURIComponent(shown)}${addresses.join('')}`
}

/** Reads a magnet link; a hybrid one by its v2 part. */
export function decodeMagnet(text: string): Magnet | DescriptionFault {
  return caught(() => parseMagnet(text))
}

/** As `decodeMagnet`. @throws FormatError FORMAT_MAGNET_… */
export function parseMagnet(text: string): Magnet {
  const fields = /^magnet:\?(.*)$/i.exec(text)?.[1]
  if (text.length > MAGNET_CHARS_MAX || fields === undefined) {
    throw refusal('FORMAT_MAGNET_MALFORMED', 'not a magnet link')
  }
  const parameters = new URLSearchParams(fields)
  const topics = parameters.getAll('xt').map(topic => topic.toLowerCase())
  const hashes = new Set(
    topics.filter(topic => topic.startsWith(MULTIHASH)).map(topic => topic.slice(MULTIHASH.length)),
  )
  const [hash] = hashes
  if (hash === undefined) {
    if (!topics.some(topic => topic.startsWith('urn:bt'))) {
      throw refusal('FORMAT_MAGNET_MALFORMED', 'a magnet link without the hash of a torrent')
    }
    const what = 'a magnet link without a BitTorrent v2 hash (urn:btmh:1220...): a v1 torrent cannot be fetched'
    throw refusal('FORMAT_MAGNET_VERSION', what)
  }
  if (hashes.size > 1 || !/^[0-9a-f]{64}$/.test(hash)) {
    throw refusal('FORMAT_MAGNET_MALFORMED', 'a magnet link with another hash than one of 64 hexadecimal digits')
  }
  const name = parameters.get('dn')
  return {
    infoHash: fromHex(hash),
    name: name === null ? undefined : printable(name, MAGNET_NAME_CHARS_MAX),
    peers: parameters
      .getAll('x.pe')
      .map(decodeHostAndPort)
      .filter(peer => peer !== undefined)
      .slice(0, MAGNET_PEERS_MAX),
  }
}

/** "host:port" or "[address]:port"; what is neither is left out. */
function decodeHostAndPort(text: string): HostAndPort | undefined {
  const match = /^(?:\[([0-9a-f:.]{2,45})\]|([0-9a-z](?:[0-9a-z.-]{0,252})))(?::(\d{1,5}))$/i.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host !== undefined && port >= 1 && port <= 65_535 ? { host: host.toLowerCase(), port } : undefined
}
