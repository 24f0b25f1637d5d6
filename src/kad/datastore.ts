/**
 * kad-dht's datastore. The library writes records and providers as bytes under names of its own; here they become entries
 * of the two books, which check them. A record that must not be stored makes `put` throw, and kad-dht's server then
 * resets the stream of whoever sent it.
 */
import { peerIdFromString } from '@libp2p/peer-id'
import { NotFoundError } from '@libp2p/interface'
import { BaseDatastore } from 'datastore-core'
import { Key, type Pair, type Query } from 'interface-datastore'
import { systemClock } from '#base'
import type { AddressBook } from './address-book.ts'
import { KadError } from './errors.ts'
import { decodeLibp2pRecord, encodeLibp2pRecord, varint } from './libp2p-record.ts'
import { invalid } from './record.ts'
import type { ProviderBook } from './provider-book.ts'
import type { RecordBook } from './record-book.ts'

/** What all names begin with. */
export const DATASTORE_PREFIX = '/dht'

const RECORD = /^\/dht\/record\/([a-z2-7]+)$/
const PROVIDER = /^\/dht\/provider\/([a-z2-7]+)\/([A-Za-z0-9]+)$/
const PROVIDERS_OF = /^\/dht\/provider\/([a-z2-7]+)$/
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

export type KadDatastoreDeps = {
  readonly records: RecordBook
  readonly providers: ProviderBook
  readonly addresses: Pick<AddressBook, 'addressesOf'>
}

export class KadDatastore extends BaseDatastore {
  readonly #deps: KadDatastoreDeps

  constructor(deps: KadDatastoreDeps) {
    super()
    this.#deps = deps
  }

  override put(key: Key, value: Uint8Array): Key {
    const name = key.toString()
    const [, provided, peer] = PROVIDER.exec(name) ?? []
    if (provided !== undefined && peer !== undefined) {
      if (!this.#deps.providers.add(provided, peer)) throw invalid('a peer that provides too many keys')
      return key
    }
    const record = RECORD.test(name) ? decodeLibp2pRecord(value) : undefined
    if (record === undefined) throw invalid('nothing that this node stores')
    const held = this.#deps.records.hold(new TextDecoder().decode(record.key), record.value)
    if (held instanceof KadError) throw held
    return key
  }

  override get(key: Key): Uint8Array {
    const [, encoded] = RECORD.exec(key.toString()) ?? []
    const bytes = encoded === undefined ? undefined : fromBase32(encoded)
    const held = bytes === undefined ? undefined : this.#deps.records.find(new TextDecoder().decode(bytes))
    if (bytes === undefined || held === undefined) throw new NotFoundError('no such record')
    // kad-dht deletes what it thinks older than 48 hours of the machine's clock. When a record ends is ours to say.
    return encodeLibp2pRecord({ key: bytes, value: held.bytes }, systemClock.now())
  }

  override has(key: Key): boolean {
    try {
      this.get(key)
      return true
    } catch {
      return false // As its name says.
    }
  }

  override delete(key: Key): void {
    const [, provided, peer] = PROVIDER.exec(key.toString()) ?? []
    if (provided !== undefined && peer !== undefined) this.#deps.providers.remove(provided, peer)
  }

  /** Of one key's providers: the one question that kad-dht asks. Its hourly sweep finds nothing: we sweep ourselves. */
  override async *query({ prefix = '' }: Query): AsyncGenerator<Pair> {
    const [, provided] = PROVIDERS_OF.exec(prefix) ?? []
    if (provided === undefined) return
    for (const peer of this.#deps.providers.find(provided)) {
      // kad-dht answers nothing at all where it has no address of one of them.
      const addresses = await this.#deps.addresses.addressesOf(peerIdFromString(peer))
      if (addresses.length === 0) continue
      yield { key: new Key(`${prefix}/${peer}`, false), value: Uint8Array.from(varint(systemClock.now())) }
    }
  }
}

/** RFC 4648 in lower case without padding, as kad-dht names keys. */
export function toBase32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let buffer = 0
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xfff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += BASE32[(buffer >> bits) & 31] ?? ''
    }
  }
  return bits === 0 ? text : text + (BASE32[(buffer << (5 - bits)) & 31] ?? '')
}

function fromBase32(text: string): Uint8Array {
  const bytes: number[] = []
  let bits = 0
  let buffer = 0
  for (const letter of text) {
    buffer = ((buffer << 5) | BASE32.indexOf(letter)) & 0xfff
    bits += 5
    if (bits < 8) continue
    bits -= 8
    bytes.push((buffer >> bits) & 0xff)
  }
  return Uint8Array.from(bytes)
}
