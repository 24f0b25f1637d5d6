/**
 * Finds the nodes nearest to a target (Kademlia, BEP 5): asks the nearest that are known, learns of nearer ones, and is
 * done when the k nearest have all answered. Only decisions, no I/O: whoever drives it sends the queries.
 *
 *      new ── next() ──► asked ── slow() ──► slow      both: answered() ──► answered, failed() ──► gone
 */
import { keyOf } from './address.ts'
import {
  BUCKET_CONTACTS_MAX,
  LOOKUP_CANDIDATES_MAX,
  LOOKUP_PARALLEL_MAX,
  LOOKUP_QUERIES_MAX,
  TABLE_PREFIX_CONTACTS_MAX,
} from './limits.ts'
import { compareDistance } from './node-id.ts'
import { PrefixCount } from './prefix-limit.ts'
import type { Contact } from './types.ts'

type Candidate = { readonly contact: Contact; state: 'new' | 'asked' | 'slow' | 'answered' }

export type LookupOptions = {
  readonly parallelMax?: number | undefined
  readonly prefixContactsMax?: number | undefined
  readonly isLoopbackExempt?: boolean | undefined
}

export class Lookup {
  readonly #target: Uint8Array
  readonly #parallelMax: number
  readonly #prefixes: PrefixCount
  /** Every endpoint that ever was a candidate: nobody is asked twice. */
  readonly #known = new Set<string>()
  /** Nearest first. */
  #candidates: Candidate[] = []
  #asking = 0
  #asked = 0

  constructor(target: Uint8Array, options: LookupOptions = {}) {
    this.#target = target
    this.#parallelMax = options.parallelMax ?? LOOKUP_PARALLEL_MAX
    this.#prefixes = new PrefixCount({
      countMax: options.prefixContactsMax ?? TABLE_PREFIX_CONTACTS_MAX,
      isLoopbackExempt: options.isLoopbackExempt ?? false,
    })
  }

  /** Takes contacts that are near enough to matter, and not too many of one prefix. */
  add(contacts: readonly Contact[]): void {
    for (const contact of contacts) {
      const key = keyOf(contact)
      if (this.#known.has(key) || !this.#prefixes.hasRoom(contact.host)) continue
      const index = this.#candidates.findIndex(other => compareDistance(this.#target, contact.id, other.contact.id) < 0)
      if (index < 0 && this.#candidates.length >= LOOKUP_CANDIDATES_MAX) continue
      this.#known.add(key)
      this.#prefixes.add(contact.host)
      this.#candidates.splice(index < 0 ? this.#candidates.length : index, 0, { contact, state: 'new' })
      this.#dropFarthest()
    }
  }

  /** Whom to ask now; undefined: nobody, until an answer or a failure. */
  next(): Contact | undefined {
    if (this.#asking >= this.#parallelMax || this.#asked >= LOOKUP_QUERIES_MAX) return undefined
    const candidate = this.#candidates.slice(0, BUCKET_CONTACTS_MAX).find(({ state }) => state === 'new')
    if (candidate === undefined) return undefined
    candidate.state = 'asked'
    this.#asking++
    this.#asked++
    return candidate.contact
  }

  answered(contact: Contact): void {
    const candidate = this.#take(contact)
    if (candidate !== undefined) candidate.state = 'answered'
  }

  failed(contact: Contact): void {
    const candidate = this.#take(contact)
    if (candidate === undefined) return
    this.#candidates = this.#candidates.filter(other => other !== candidate)
    this.#prefixes.remove(contact.host)
  }

  /** The answer is late: somebody else may be asked meanwhile. */
  slow(contact: Contact): void {
    const candidate = this.#candidates.find(other => other.contact === contact && other.state === 'asked')
    if (candidate === undefined) return
    candidate.state = 'slow'
    this.#asking--
  }

  /** The nearest have all answered, or nobody may be asked any more. */
  get isDone(): boolean {
    const nearest = this.#candidates.slice(0, BUCKET_CONTACTS_MAX)
    if (nearest.every(({ state }) => state === 'answered')) return true
    const isWaiting = this.#candidates.some(({ state }) => state === 'asked' || state === 'slow')
    return !isWaiting && this.#asked >= LOOKUP_QUERIES_MAX
  }

  /** The k nearest of those that have answered, nearest first. */
  closest(): Contact[] {
    return this.#candidates
      .filter(({ state }) => state === 'answered')
      .slice(0, BUCKET_CONTACTS_MAX)
      .map(({ contact }) => contact)
  }

  #take(contact: Contact): Candidate | undefined {
    const candidate = this.#candidates.find(other => other.contact === contact)
    if (candidate?.state === 'asked') this.#asking--
    return candidate?.state === 'asked' || candidate?.state === 'slow' ? candidate : undefined
  }

  #dropFarthest(): void {
    if (this.#candidates.length <= LOOKUP_CANDIDATES_MAX) return
    const index = this.#candidates.findLastIndex(({ state }) => state === 'new')
    const [dropped] = index < 0 ? [] : this.#candidates.splice(index, 1)
    if (dropped !== undefined) this.#prefixes.remove(dropped.contact.host)
  }
}
