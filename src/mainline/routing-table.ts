/**
 * Contacts by distance from us (BEP 5): a bucket for each number of leading bits that a contact's id shares with ours.
 * That is BEP 5's tree with every split made beforehand, which holds the same contacts near us and more far away. Only
 * who has answered gets in. A full bucket keeps its good contacts, old ones first, as those who were here long stay long.
 */
import { type Clock, type Random, toHex } from '#base'
import { keyOf, prefixOf } from './address.ts'
import {
  BUCKET_CONTACTS_MAX,
  BUCKET_PREFIX_CONTACTS_MAX,
  CONTACT_FAILURES_MAX,
  CONTACT_GOOD_MS,
  TABLE_PREFIX_CONTACTS_MAX,
} from './limits.ts'
import { compareDistance, equalIds, ID_BITS, idSharing, sharedBits } from './node-id.ts'
import { PrefixCount } from './prefix-limit.ts'
import type { Contact, Endpoint } from './types.ts'

type Entry = {
  readonly contact: Contact
  answeredAtMs: number
  /** Of an answer or a query. */
  heardAtMs: number
  failures: number
}

type Bucket = {
  /** The longest unheard first. */
  entries: Entry[]
  /** Those who have answered and found no place, the newest last. */
  replacements: Contact[]
  readonly prefixes: PrefixCount
  changedAtMs: number
}

export type RoutingTableOptions = {
  readonly bucketPrefixContactsMax?: number | undefined
  readonly tablePrefixContactsMax?: number | undefined
  readonly isLoopbackExempt?: boolean | undefined
}

export class RoutingTable {
  readonly #clock: Clock
  readonly #ownId: Uint8Array
  readonly #buckets: readonly Bucket[]
  readonly #prefixes: PrefixCount
  /** No bucket from here on was ever filled. */
  #depth = 0
  /** The id under which an endpoint is in the table. */
  readonly #idByEndpoint = new Map<string, string>()

  constructor(deps: { readonly clock: Clock }, ownId: Uint8Array, options: RoutingTableOptions = {}) {
    const isLoopbackExempt = options.isLoopbackExempt ?? false
    const bucketMax = options.bucketPrefixContactsMax ?? BUCKET_PREFIX_CONTACTS_MAX
    const tableMax = options.tablePrefixContactsMax ?? TABLE_PREFIX_CONTACTS_MAX
    this.#clock = deps.clock
    this.#ownId = ownId
    this.#prefixes = new PrefixCount({ countMax: tableMax, isLoopbackExempt })
    this.#buckets = Array.from({ length: ID_BITS }, () => ({
      entries: [],
      replacements: [],
      prefixes: new PrefixCount({ countMax: bucketMax, isLoopbackExempt }),
      changedAtMs: deps.clock.monotonic(),
    }))
  }

  get size(): number {
    return this.#idByEndpoint.size
  }

  get replacements(): number {
    return this.#buckets.reduce((count, bucket) => count + bucket.replacements.length, 0)
  }

  /**
   * The contact has answered.
   * @returns a contact that should be asked whether it is still there, as its place is wanted
   */
  answered(contact: Contact): Contact | undefined {
    const bucket = this.#bucketOf(contact.id)
    if (bucket === undefined) return undefined
    const idBefore = this.#idByEndpoint.get(keyOf(contact))
    if (idBefore !== undefined && idBefore !== toHex(contact.id)) this.#removeEndpoint(contact)
    const entry = bucket.entries.find(({ contact: { id } }) => equalIds(id, contact.id))
    if (entry === undefined) return this.#add(bucket, contact)
    // The same id elsewhere: the one that was here first keeps it for as long as it answers.
    if (keyOf(entry.contact) !== keyOf(contact)) return this.#isGood(entry) ? undefined : entry.contact
    const now = this.#clock.monotonic()
    bucket.changedAtMs = now
    Object.assign(entry, { answeredAtMs: now, heardAtMs: now, failures: 0 })
    moveToEnd(bucket.entries, entry)
    return undefined
  }

  /** Whether there is a place for a stranger, were he to answer: else he need not be asked. */
  wants(contact: Contact): boolean {
    const bucket = this.#bucketOf(contact.id)
    if (bucket === undefined || !this.#hasRoom(bucket, contact.host)) return false
    return bucket.entries.length < BUCKET_CONTACTS_MAX || bucket.entries.some(entry => !this.#isGood(entry))
  }

  /**
   * A stranger has asked us who has answered before and waits for a place: he need not be asked again.
   * @returns a contact that should be asked, as its place is wanted
   */
  doubtfulFor(stranger: Contact): Contact | undefined {
    const bucket = this.#bucketOf(stranger.id)
    const isWaiting = bucket?.replacements.some(({ id, host }) => host === stranger.host && equalIds(id, stranger.id))
    return isWaiting === true ? bucket?.entries.find(entry => !this.#isGood(entry))?.contact : undefined
  }

  /** Somebody has asked us. @returns whether he is in the table */
  heard(contact: Contact): boolean {
    const entry = this.#find(contact)
    if (entry === undefined) return false
    entry.heardAtMs = this.#clock.monotonic()
    return true
  }

  /** The contact has not answered, or not as the one that it was. */
  failed(contact: Contact): void {
    const bucket = this.#bucketOf(contact.id)
    const entry = this.#find(contact)
    if (bucket === undefined || entry === undefined) return
    entry.failures++
    if (entry.failures < CONTACT_FAILURES_MAX) return
    // Without anybody for its place a bad contact may stay: our own network may be what fails.
    const index = bucket.replacements.findLastIndex(({ host }) => this.#hasRoom(bucket, host, entry.contact.host))
    const [replacement] = index < 0 ? [] : bucket.replacements.splice(index, 1)
    if (replacement === undefined) return
    this.#remove(bucket, entry)
    this.#insert(bucket, replacement)
  }

  /** Takes it out: somebody else is there now. */
  #removeEndpoint(endpoint: Endpoint): void {
    const key = keyOf(endpoint)
    for (const bucket of this.#buckets) {
      const entry = bucket.entries.find(({ contact }) => keyOf(contact) === key)
      if (entry !== undefined) this.#remove(bucket, entry)
    }
  }

  /** The nearest contacts that are not bad, nearest first. */
  closest(target: Uint8Array, count: number = BUCKET_CONTACTS_MAX): Contact[] {
    const nearest: Contact[] = []
    // Whoever shares more bits with the target is nearer, so that most buckets need not be looked at.
    const shared = sharedBits(this.#ownId, target)
    const deeper = this.#buckets.slice(shared + 1, this.#depth)
    takeNearest(nearest, this.#buckets.slice(shared, shared + 1), { target, count })
    takeNearest(nearest, deeper, { target, count })
    for (let bits = Math.min(shared, this.#depth) - 1; bits >= 0 && nearest.length < count; bits--) {
      takeNearest(nearest, this.#buckets.slice(bits, bits + 1), { target, count })
    }
    return nearest
  }

  /** Those that are bad, and stay until somebody takes their place. */
  bad(): Contact[] {
    return this.#entries()
      .filter(({ failures }) => failures >= CONTACT_FAILURES_MAX)
      .map(({ contact }) => contact)
  }

  /** All that have answered and not failed since, for a file. */
  contacts(): Contact[] {
    return this.#entries()
      .filter(({ failures }) => failures === 0)
      .map(({ contact }) => contact)
  }

  get goodContacts(): number {
    return this.#entries().filter(entry => this.#isGood(entry)).length
  }

  /**
   * Ids to look up, one for each bucket that nothing has changed in for 15 minutes. Those count as changed then. Each is
   * made when it is asked for: a look-up near us changes the deeper buckets too, which then need none of their own.
   */
  *refreshTargets(random: Random): Generator<Uint8Array, void, undefined> {
    const deepest = this.#buckets.findLastIndex(({ entries }) => entries.length > 0)
    for (let bits = 0; bits <= deepest; bits++) {
      const bucket = this.#buckets[bits]
      const now = this.#clock.monotonic()
      if (bucket === undefined || now - bucket.changedAtMs < CONTACT_GOOD_MS) continue
      bucket.changedAtMs = now
      yield idSharing(this.#ownId, bits, random)
    }
  }

  #add(bucket: Bucket, contact: Contact): Contact | undefined {
    const bad = bucket.entries.find(({ failures }) => failures >= CONTACT_FAILURES_MAX)
    const isFull = bucket.entries.length >= BUCKET_CONTACTS_MAX
    if (!isFull && this.#hasRoom(bucket, contact.host)) {
      this.#insert(bucket, contact)
      return undefined
    }
    if (bad !== undefined && this.#hasRoom(bucket, contact.host, bad.contact.host)) {
      this.#remove(bucket, bad)
      this.#insert(bucket, contact)
      return undefined
    }
    if (!this.#hasRoom(bucket, contact.host)) return undefined
    const others = bucket.replacements.filter(({ id }) => !equalIds(id, contact.id))
    const rivals = others.filter(({ host }) => prefixOf(host) === prefixOf(contact.host))
    const kept = rivals.length < BUCKET_PREFIX_CONTACTS_MAX ? others : others.filter(other => other !== rivals[0])
    bucket.replacements = [...kept, contact].slice(-BUCKET_CONTACTS_MAX)
    return bucket.entries.find(entry => !this.#isGood(entry))?.contact
  }

  /** @param leaving the host of a contact that makes its place free */
  #hasRoom(bucket: Bucket, host: string, leaving?: string): boolean {
    if (leaving === undefined) return bucket.prefixes.hasRoom(host) && this.#prefixes.hasRoom(host)
    bucket.prefixes.remove(leaving)
    this.#prefixes.remove(leaving)
    const hasRoom = this.#hasRoom(bucket, host)
    bucket.prefixes.add(leaving)
    this.#prefixes.add(leaving)
    return hasRoom
  }

  #insert(bucket: Bucket, contact: Contact): void {
    this.#depth = Math.max(this.#depth, sharedBits(this.#ownId, contact.id) + 1)
    const now = this.#clock.monotonic()
    bucket.entries.push({ contact, answeredAtMs: now, heardAtMs: now, failures: 0 })
    bucket.changedAtMs = now
    bucket.prefixes.add(contact.host)
    this.#prefixes.add(contact.host)
    this.#idByEndpoint.set(keyOf(contact), toHex(contact.id))
  }

  #remove(bucket: Bucket, entry: Entry): void {
    bucket.entries = bucket.entries.filter(other => other !== entry)
    bucket.prefixes.remove(entry.contact.host)
    this.#prefixes.remove(entry.contact.host)
    this.#idByEndpoint.delete(keyOf(entry.contact))
  }

  /** Good, as BEP 5 has it: it has answered lately, or it has answered once and asked us lately. */
  #isGood({ heardAtMs, failures }: Entry): boolean {
    return failures === 0 && this.#clock.monotonic() - heardAtMs < CONTACT_GOOD_MS
  }

  #find(contact: Contact): Entry | undefined {
    const entry = this.#bucketOf(contact.id)?.entries.find(({ contact: { id } }) => equalIds(id, contact.id))
    return entry !== undefined && keyOf(entry.contact) === keyOf(contact) ? entry : undefined
  }

  #entries(): Entry[] {
    return this.#buckets.slice(0, this.#depth).flatMap(({ entries }) => entries)
  }

  /** None for our own id. */
  #bucketOf(id: Uint8Array): Bucket | undefined {
    return this.#buckets[sharedBits(this.#ownId, id)]
  }
}

/** Adds those that are not bad, nearest first, until there are so many. All that is there already is nearer. */
function takeNearest(
  nearest: Contact[],
  buckets: readonly Bucket[],
  { target, count }: { readonly target: Uint8Array; readonly count: number },
): void {
  if (nearest.length >= count) return
  const contacts: Contact[] = []
  for (const { entries } of buckets) {
    for (const { contact, failures } of entries) if (failures < CONTACT_FAILURES_MAX) contacts.push(contact)
  }
  contacts.sort((a, b) => compareDistance(target, a.id, b.id))
  nearest.push(...contacts.slice(0, count - nearest.length))
}

function moveToEnd(entries: Entry[], entry: Entry): void {
  entries.splice(entries.indexOf(entry), 1)
  entries.push(entry)
}
