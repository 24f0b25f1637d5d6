/** Values of options as people type them. Each parser throws commander's error, which names the option in its sentence. */
import { resolve } from 'node:path'
import { InvalidArgumentError } from 'commander'
import { decodeLayers, type LayerRange, type LogLevel } from '#base'
import { publicKeyOfPeer } from '#crypto'
import type { LayerChoice } from '#node'
import { REGION_CHARS_MAX } from '#wire'
import type { StunName } from '#reach'

/** "127.0.0.1:11435", "[::1]:11435", "11435" (on 127.0.0.1), or "none" for undefined. Port 0 takes a free one. */
export function parseApiAddress(text: string): { readonly host: string; readonly port: number } | 'none' {
  if (text === 'none') return 'none'
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^\s:/[\]]+)):)?(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new InvalidArgumentError('Expected HOST:PORT, such as 127.0.0.1:11435, or "none".')
  }
  return { host: match[1] ?? match[2] ?? '127.0.0.1', port }
}

/** "A-B" meaning [A, B), "none", or "auto". */
export function parseLayers(text: string): LayerChoice {
  if (text === 'none') return { kind: 'none' }
  if (text === 'auto') return { kind: 'auto', nodes: 1 }
  const layers = decodeLayers(text)
  if (layers === undefined) {
    throw new InvalidArgumentError('Expected A-B with A < B (layers A up to, not including, B), "auto" or "none".')
  }
  return { kind: 'range', layers }
}

/** "A-B" meaning [A, B). */
export function parseLayerRange(text: string): LayerRange {
  const layers = decodeLayers(text)
  if (layers !== undefined) return layers
  throw new InvalidArgumentError('Expected A-B with A < B: layers A up to, not including, B.')
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
}

/** "500M", "1.5GB", "2GiB", "1048576": bytes, decimal units unless an i says otherwise. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?$/i.exec(text)
  const unit = SIZE_UNITS[(match?.[2] ?? '').toLowerCase()]
  const bytes = Math.round(Number(match?.[1]) * (unit ?? Number.NaN))
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new InvalidArgumentError('Expected a size, such as 500MB, 1.5GB or 2GiB.')
  }
  return bytes
}

/** "20MiB/s", "500KB": bytes a second, in the words of `parseSize`. */
export function parseRate(text: string): number {
  try {
    return parseSize(text.replace(/\/s$/, ''))
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error
    throw new InvalidArgumentError('Expected bytes a second, such as 5MB/s or 20MiB/s.')
  }
}

/** Makes a parser of whole numbers in [min, max]. */
export function integerIn(min: number, max: number): (text: string) => number {
  return text => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`)
    }
    return value
  }
}

/** Makes a parser of numbers in [min, max]. */
export function numberIn(min: number, max: number): (text: string) => number {
  return text => {
    const value = Number(text)
    if (text.trim() === '' || !(value >= min && value <= max)) {
      throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`)
    }
    return value
  }
}

/** A name for people, as long as an offer may hold. */
export function parseRegion(text: string): string {
  if (!/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u.test(text) || text.length > REGION_CHARS_MAX) {
    throw new InvalidArgumentError(
      `Expected a name of at most ${REGION_CHARS_MAX} letters and digits, such as eu-west.`,
    )
  }
  return text
}

/** What nodes look for one another by. */
export function parseTopic(text: string): string {
  if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(text)) {
    throw new InvalidArgumentError('Expected up to 64 lower-case letters, digits, dots and dashes, such as my-friends.')
  }
  return text
}

/** A multiaddr, or "none" for a node that takes no connections. */
export function parseListen(text: string): string {
  return text === 'none' ? text : parseMultiaddr(text)
}

/** A multiaddr is checked by the network module; here only that it looks like one, so that a typo fails at once. */
export function parseMultiaddr(text: string): string {
  if (!/^\/[a-z0-9]+\/\S+$/.test(text)) {
    throw new InvalidArgumentError('Expected a multiaddr, such as /ip4/192.168.1.7/tcp/4001.')
  }
  return text
}

/** A node's multiaddr, or "bt:HOST:PORT" of a BitTorrent client. */
export function parsePullPeer(text: string): string {
  if (text.startsWith('/')) return parseMultiaddr(text)
  const match = /^bt:(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):(\d{1,5})$/.exec(text)
  const port = Number(match?.[1])
  if (match !== null && port > 0 && port < 65_536) return text
  throw new InvalidArgumentError('Expected a multiaddr, such as /ip4/192.168.1.7/tcp/4001, or bt:HOST:PORT.')
}

/** A source by its name, a URL, or a path, which is made absolute: the node may run in another directory. */
export function parseSource(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text) || /^[a-z][a-z0-9+.-]*:\/\/[^\s/]\S*$/.test(text)) return text
  if (/[/\\]/.test(text) && !text.includes('://')) return resolve(text)
  throw new InvalidArgumentError('Expected the name of a source, a URL, or a path (./models).')
}

/** A TCP port, or no data plane. */
export function parsePlanePort(text: string): number | 'off' {
  if (text === 'off') return text
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port
  throw new InvalidArgumentError('Expected a port from 0 to 65535, or off.')
}

/** "stun.example.org:3478", "62.0.0.1" (port 3478). */
export function parseStun(text: string): StunName {
  const match = /^([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::(\d{1,5}))?$/.exec(text)
  const port = Number(match?.[2] ?? 3_478)
  if (match?.[1] !== undefined && port > 0 && port < 65_536) return { host: match[1], port }
  throw new InvalidArgumentError('Expected HOST:PORT, such as stun.example.org:3478.')
}

/** "on" or "off". */
export function parseSwitch(text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on'
  throw new InvalidArgumentError('Expected on or off.')
}

/** A peer id that holds an Ed25519 key, whole. */
export function parsePeerId(text: string): string {
  if (publicKeyOfPeer(text) === undefined) {
    throw new InvalidArgumentError('Expected a peer id, such as 12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo.')
  }
  return text
}

/** For options that may be given several times. */
export function collect<T>(
  parse: (text: string) => T,
): (text: string, before: readonly T[] | undefined) => readonly T[] {
  return (text, before) => [...(before ?? []), parse(text)]
}

export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']
