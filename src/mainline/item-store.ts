/**
 * Values that others have put (BEP 44). Bounded in total, where what was put longest ago goes, and by the address that
 * put them first, which gets no more then: were its oldest dropped instead, it could put copies of another's values and
 * push those out. A number never falls while its item is here: what was replaced cannot come back.
 */
import type { BencodeValue } from '#formats'
import { type Clock, toHex } from '#base'
import { allowanceOf } from './address.ts'
import { KRPC_CAS_MISMATCH, KRPC_SEQ_TOO_OLD, KRPC_SERVER, KRPC_SIGNATURE_INVALID } from './codes.ts'
import { immutableTarget, isSignatureRight, mutableTarget } from './items.ts'
import { STORED_ITEM_MS, STORED_ITEMS_MAX, STORED_ITEMS_PER_ADDRESS_MAX } from './limits.ts'
import type { PutQuery, SignedPart } from './query.ts'

export type StoredItem = {
  readonly value: BencodeValue
  readonly valueBytes: Uint8Array
  readonly signed: Omit<SignedPart, 'cas'> | undefined
}

export type PutFault = { readonly code: number; readonly text: string }

type Entry = StoredItem & { readonly address: string; readonly atMs: number }

export class ItemStore {
  readonly #clock: Clock
  /** By target, what was put longest ago first. */
  readonly #items = new Map<string, Entry>()
  readonly #byAddress = new Map<string, Set<string>>()

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
  }

  get size(): number {
    return this.#items.size
  }

  find(target: Uint8Array): StoredItem | undefined {
    this.expire()
    return this.#items.get(toHex(target))
  }

  /** Stores, or says why not. What is cheap to check comes first, the signature last. */
  put(query: Pick<PutQuery, 'value' | 'valueBytes' | 'signed'>, fromHost: string): PutFault | undefined {
    this.expire()
    const { value, valueBytes, signed } = query
    const target = toHex(
      signed === undefined ? immutableTarget(valueBytes) : mutableTarget(signed.publicKey, signed.salt),
    )
    if (signed !== undefined) {
      const fault = orderFault(signed, valueBytes, this.#items.get(target))
      if (fault !== undefined) return fault
      if (!isSignatureRight({ ...signed, valueBytes })) {
        return { code: KRPC_SIGNATURE_INVALID, text: 'signature is wrong' }
      }
    }
    const address = this.#items.get(target)?.address ?? allowanceOf(fromHost)
    const isNew = !this.#items.has(target)
    if (isNew && (this.#byAddress.get(address)?.size ?? 0) >= STORED_ITEMS_PER_ADDRESS_MAX) {
      return { code: KRPC_SERVER, text: 'too many values of this address' }
    }
    this.#remove(target)
    if (this.#items.size >= STORED_ITEMS_MAX) this.#removeFirst()
    this.#items.set(target, { value, valueBytes, signed, address, atMs: this.#clock.monotonic() })
    const ofAddress = this.#byAddress.get(address)
    if (ofAddress === undefined) this.#byAddress.set(address, new Set([target]))
    else ofAddress.add(target)
    return undefined
  }

  /** Forgets what was put more than two hours ago. */
  expire(): void {
    const now = this.#clock.monotonic()
    for (const [target, { atMs }] of this.#items) {
      if (now - atMs < STORED_ITEM_MS) return
      this.#remove(target)
    }
  }

  #removeFirst(): void {
    const [oldest] = this.#items.keys()
    if (oldest !== undefined) this.#remove(oldest)
  }

  #remove(target: string): void {
    const entry = this.#items.get(target)
    if (entry === undefined) return
    this.#items.delete(target)
    const ofAddress = this.#byAddress.get(entry.address)
    ofAddress?.delete(target)
    if (ofAddress?.size === 0) this.#byAddress.delete(entry.address)
  }
}

function orderFault(signed: SignedPart, valueBytes: Uint8Array, stored: StoredItem | undefined): PutFault | undefined {
  if (stored?.signed === undefined) return undefined
  const { seq } = stored.signed
  if (signed.cas !== undefined && signed.cas !== seq)
    return { code: KRPC_CAS_MISMATCH, text: 'cas is not the stored seq' }
  const isSame = toHex(valueBytes) === toHex(stored.valueBytes)
  // The same value again only keeps it alive; another one under the same number would be a roll-back in disguise.
  if (signed.seq < seq || (signed.seq === seq && !isSame)) {
    return { code: KRPC_SEQ_TOO_OLD, text: 'seq is not newer than the stored one' }
  }
  return undefined
}
