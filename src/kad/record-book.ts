/**
 * The records that this node holds for others, and the numbers of all that it has seen. A number never falls: neither a
 * peer that stores nor one that answers can bring an older record back (js-libp2p#3377, where the library lets both), and
 * not over a restart. Numbers are kept for as long as any older record can still be good.
 */
import type { Clock, KeyValueStore } from '#base'
import { compareDistance, pointOf } from './distance.ts'
import { KadError } from './errors.ts'
import { RECORD_LIFE_MS_MAX, RECORDS_HELD_MAX, SEQUENCES_KEPT_MAX } from './limits.ts'
import { decodeRecordKey, invalid, type SignedRecord, verifyKadRecord } from './record.ts'

const HELD = 'record'
const SEQUENCE = 'sequence'
const SEQUENCE_BYTES = 8

type Held = SignedRecord & { readonly point: Uint8Array }
type Seen = { readonly sequence: number; readonly until: number }

export type RecordBookDeps = {
  readonly clock: Clock
  readonly store: KeyValueStore
  /** Where this node lies. */
  readonly self: Uint8Array
  /** Kinds of records that are used here. */
  readonly kinds: ReadonlySet<string>
}

/** @default RECORDS_HELD_MAX, SEQUENCES_KEPT_MAX */
export type RecordBookOptions = { readonly heldMax?: number; readonly sequencesMax?: number }

export class RecordBook {
  readonly #deps: RecordBookDeps
  readonly #held = new Map<string, Held>()
  /** Least recently seen first. */
  readonly #seen = new Map<string, Seen>()

  readonly #heldMax: number
  readonly #sequencesMax: number

  constructor(deps: RecordBookDeps, options: RecordBookOptions = {}) {
    this.#deps = deps
    this.#heldMax = options.heldMax ?? RECORDS_HELD_MAX
    this.#sequencesMax = options.sequencesMax ?? SEQUENCES_KEPT_MAX
    for (const { key, value, expiresAt } of deps.store.list(`${SEQUENCE}/`, this.#sequencesMax).reverse()) {
      if (value.byteLength !== SEQUENCE_BYTES) continue
      const sequence = Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0))
      if (Number.isSafeInteger(sequence)) this.#seen.set(key.slice(SEQUENCE.length), { sequence, until: expiresAt })
    }
    for (const { key, value } of deps.store.list(`${HELD}/`, this.#heldMax)) {
      const signed = this.#check(value)
      if (signed instanceof KadError || key !== `${HELD}${signed.key}`) deps.store.delete(key)
      else this.#held.set(signed.key, { ...signed, point: pointOf(signed.key) })
    }
  }

  /** Records that are held now. */
  get count(): number {
    return this.#held.size
  }

  /** Checks a record by itself, and that its number has not fallen. Nothing is remembered. */
  inspect(bytes: Uint8Array): SignedRecord | KadError {
    return this.#check(bytes)
  }

  /**
   * Checks a record for a key, as one who asks or stores must: signature, key, kind, end, and that its number has not
   * fallen. A number that is higher is remembered.
   */
  check(key: string, bytes: Uint8Array): SignedRecord | KadError {
    const signed = this.#check(bytes)
    if (signed instanceof KadError) return signed
    if (signed.key !== key) return invalid('a record of another key')
    this.#remember(signed)
    return signed
  }

  /** Checks as `check` does, then holds the record. The same record again is no fault. */
  hold(key: string, bytes: Uint8Array): SignedRecord | KadError {
    const signed = this.check(key, bytes)
    if (signed instanceof KadError) return signed
    const held = this.#held.get(key)
    if (held?.record.sequence === signed.record.sequence) {
      return isSame(held.bytes, signed.bytes) ? signed : rollback(signed.record.sequence, held.record.sequence)
    }
    this.#held.set(key, { ...signed, point: held?.point ?? pointOf(key) })
    this.#deps.store.put({ key: `${HELD}${key}`, value: signed.bytes, expiresAt: signed.record.expiresAt })
    if (this.#held.size > this.#heldMax) this.#makeRoom()
    return signed
  }

  /** The record of a key; undefined where none is held that is still good. */
  find(key: string): SignedRecord | undefined {
    const held = this.#held.get(key)
    if (held === undefined || held.record.expiresAt > this.#deps.clock.now()) return held
    this.#drop(key)
    return undefined
  }

  /** What is held, with where it lies. */
  all(): Iterable<Held> {
    return this.#held.values()
  }

  /** Forgets what has expired. */
  sweep(): void {
    const now = this.#deps.clock.now()
    for (const [key, { record }] of this.#held) if (record.expiresAt <= now) this.#drop(key)
    for (const [key, { until }] of this.#seen) if (until <= now) this.#forget(key)
  }

  #check(bytes: Uint8Array): SignedRecord | KadError {
    const signed = verifyKadRecord(bytes, this.#deps.clock.now())
    if (signed instanceof KadError) return signed
    const { kind, sequence } = signed.record
    if (!this.#deps.kinds.has(kind)) return invalid('a kind that is not used here')
    if (decodeRecordKey(signed.key) === undefined) return invalid('a record whose key is none')
    const seen = this.#seen.get(signed.key)?.sequence ?? 0
    return sequence < seen ? rollback(sequence, seen) : signed
  }

  #remember({ key, record: { sequence } }: SignedRecord): void {
    const before = this.#seen.get(key)
    const until = this.#deps.clock.now() + RECORD_LIFE_MS_MAX
    // An hour more or less is not worth a write.
    if (before?.sequence === sequence && until - before.until < RECORD_LIFE_MS_MAX / 48) return
    this.#seen.delete(key)
    this.#seen.set(key, { sequence, until })
    const value = new Uint8Array(SEQUENCE_BYTES)
    new DataView(value.buffer).setBigUint64(0, BigInt(sequence))
    this.#deps.store.put({ key: `${SEQUENCE}${key}`, value, expiresAt: until })
    if (this.#seen.size <= this.#sequencesMax) return
    for (const oldest of this.#seen.keys()) {
      // What is held is asked for here: its number is needed for as long as it is.
      if (this.#held.has(oldest)) continue
      this.#forget(oldest)
      return
    }
  }

  #makeRoom(): void {
    let farthest: Held | undefined
    for (const held of this.#held.values()) {
      if (farthest === undefined || compareDistance(this.#deps.self, held.point, farthest.point) > 0) farthest = held
    }
    if (farthest !== undefined) this.#drop(farthest.key)
  }

  #drop(key: string): void {
    this.#held.delete(key)
    this.#deps.store.delete(`${HELD}${key}`)
  }

  #forget(key: string): void {
    this.#seen.delete(key)
    this.#deps.store.delete(`${SEQUENCE}${key}`)
  }
}

/** Which of several records of one key counts: the highest number; of one number the one whose bytes come first. */
export function latestOf(records: readonly SignedRecord[]): SignedRecord | undefined {
  return [...records].sort((a, b) => b.record.sequence - a.record.sequence || compareBytes(a.bytes, b.bytes))[0]
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.byteLength, b.byteLength); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference
  }
  return a.byteLength - b.byteLength
}

export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && compareBytes(a, b) === 0
}

function rollback(sequence: number, seen: number): KadError {
  return new KadError(
    { code: 'KAD_RECORD_ROLLBACK', sequence, seen },
    `a record with number ${sequence} came after one with ${seen}; give every new record a higher number`,
  )
}
