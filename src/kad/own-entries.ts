/** What this node announces for itself, kept over a restart: values that it has put, and keys that it provides. */
import { type Clock, type KeyValueStore, toHex } from '#base'
import { SHA256_BYTES } from '#crypto'
import { KadError } from './errors.ts'
import { OWN_ENTRIES_MAX, OWN_PROVIDED_LIFE_MS } from './limits.ts'
import { type SignedRecord, verifyKadRecord } from './record.ts'

const RECORD = 'own-record'
const PROVIDED = 'own-provided/'

export type OwnEntriesDeps = { readonly clock: Clock; readonly store: KeyValueStore }

export class OwnEntries {
  readonly #deps: OwnEntriesDeps
  readonly #records = new Map<string, SignedRecord>()
  readonly #provided = new Map<string, Uint8Array>()

  constructor(deps: OwnEntriesDeps) {
    this.#deps = deps
    for (const { key, value } of deps.store.list(`${RECORD}/`, OWN_ENTRIES_MAX)) {
      const signed = verifyKadRecord(value, deps.clock.now())
      if (signed instanceof KadError) deps.store.delete(key)
      else this.#records.set(signed.key, signed)
    }
    for (const { key, value } of deps.store.list(PROVIDED, OWN_ENTRIES_MAX)) {
      if (value.byteLength === SHA256_BYTES && key === `${PROVIDED}${toHex(value)}`) this.#provided.set(key, value)
      else deps.store.delete(key)
    }
  }

  get recordCount(): number {
    return this.#records.size
  }

  get providedCount(): number {
    return this.#provided.size
  }

  /** What is to be announced now; what has expired is forgotten. */
  records(): SignedRecord[] {
    for (const { key, record } of this.#records.values()) {
      if (record.expiresAt <= this.#deps.clock.now()) this.forget(key)
    }
    return [...this.#records.values()]
  }

  provided(): Uint8Array[] {
    return [...this.#provided.values()]
  }

  /** @throws KadError KAD_FULL */
  addRecord(signed: SignedRecord): void {
    if (!this.#records.has(signed.key)) assertRoom(this.#records.size)
    this.#records.set(signed.key, signed)
    this.#deps.store.put({
      key: `${RECORD}${signed.key}`,
      value: signed.bytes,
      expiresAt: signed.record.expiresAt,
    })
  }

  /** @throws KadError KAD_FULL */
  addProvided(key: Uint8Array): void {
    const name = `${PROVIDED}${toHex(key)}`
    if (!this.#provided.has(name)) assertRoom(this.#provided.size)
    this.#provided.set(name, key)
    this.#deps.store.put({ key: name, value: key, expiresAt: this.#deps.clock.now() + OWN_PROVIDED_LIFE_MS })
  }

  forget(key: string | Uint8Array): void {
    const name = typeof key === 'string' ? `${RECORD}${key}` : `${PROVIDED}${toHex(key)}`
    if (typeof key === 'string') this.#records.delete(key)
    else this.#provided.delete(name)
    this.#deps.store.delete(name)
  }
}

function assertRoom(count: number): void {
  if (count < OWN_ENTRIES_MAX) return
  throw new KadError({ code: 'KAD_FULL' }, 'as much is announced as may be; forget some of it')
}
