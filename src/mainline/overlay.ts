/**
 * Our place in the network of one family: a socket, an id, a routing table. Takes datagrams, answers queries, and asks
 * others. IPv4 and IPv6 are two networks (BEP 32), so a node has up to two of these over the same stores.
 */
import type { BencodeValue } from '#formats'
import { type Clock, type Logger, type Random, toHex } from '#base'
import { equalIds, fitsAddress, idOfAddress } from './node-id.ts'
import { familyOf, isReachableFrom, keyOf, scopeOf } from './address.ts'
import type { Counters } from './counters.ts'
import { ExternalAddress } from './external-address.ts'
import { decodeMessage, encodeQuery, encodeReply, type KrpcQuery, type KrpcResponse, type Reply } from './krpc.ts'
import { CANDIDATE_PINGS_MAX, CANDIDATES_WAITING_MAX } from './limits.ts'
import type { RateLimits } from './rate-limits.ts'
import { RoutingTable } from './routing-table.ts'
import type { Server } from './server.ts'
import { type Answer, Transactions } from './transactions.ts'
import type { Contact, DatagramSocket, Endpoint, Family, FamilyStatus, MainlineOptions } from './types.ts'

export type OverlayDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly socket: DatagramSocket
  readonly server: Server
  readonly rates: RateLimits
  readonly counters: Counters
  /** Our id is another now: those who are near it should hear of it. */
  readonly onMoved: (overlay: Overlay) => void
}

export type OutgoingQuery = {
  readonly method: QueryName
  /** Without our id, which is added. */
  readonly args: { readonly [key: string]: BencodeValue }
  /** Who must answer. @default whoever is there */
  readonly id?: Uint8Array
}

export type QueryName = 'ping' | 'find_node' | 'get_peers' | 'announce_peer' | 'get' | 'put'

export class Overlay {
  readonly family: Family
  readonly #deps: OverlayDeps
  readonly #options: MainlineOptions
  readonly #transactions: Transactions
  readonly #external = new ExternalAddress()
  /** Strangers to be pinged, in the order in which they came. */
  readonly #candidates = new Map<string, Endpoint>()
  #pinging = 0
  #id: Uint8Array
  #table: RoutingTable

  constructor(deps: OverlayDeps, id: Uint8Array, options: MainlineOptions) {
    this.family = familyOf(deps.socket.local)
    this.#deps = deps
    this.#options = options
    this.#transactions = new Transactions(deps)
    this.#id = id
    this.#table = new RoutingTable(deps, id, options)
    deps.socket.onMessage((bytes, from) => this.#receive(bytes, from))
  }

  get id(): Uint8Array {
    return this.#id
  }

  get table(): RoutingTable {
    return this.#table
  }

  get queriesInFlight(): number {
    return this.#transactions.size
  }

  status(): FamilyStatus {
    return {
      family: this.family,
      nodeId: toHex(this.#id),
      local: this.#deps.socket.local,
      externalHost: this.#external.host,
      contacts: this.#table.size,
      goodContacts: this.#table.goodContacts,
      replacements: this.#table.replacements,
    }
  }

  /** Asks, and keeps the table up to date with what comes of it. Never rejects. */
  async query(to: Endpoint, query: OutgoingQuery): Promise<Answer> {
    const { method, args, id } = query
    const answer = await this.#transactions.begin(to, transaction => {
      const isReadOnly = this.#options.isReadOnly ?? false
      const bytes = encodeQuery({ transaction, method, args: { ...args, id: this.#id }, isReadOnly })
      if (bytes === undefined) return // Longer than a datagram: nobody answers it.
      this.#deps.counters.countSent(method)
      this.#deps.socket.send(bytes, to)
    })
    if (answer.kind === 'unsent') return answer
    const checked: Answer =
      answer.kind === 'response' && id !== undefined && !equalIds(id, answer.response.id)
        ? { kind: 'unanswered' }
        : answer
    if (checked.kind === 'unanswered') {
      this.#deps.counters.unanswered++
      if (id !== undefined) this.#table.failed({ ...to, id })
    } else this.#deps.counters.answers++
    if (answer.kind === 'response') this.#hasAnswered(answer.response, to)
    return checked
  }

  /** Contacts that somebody told us of, those left out that are no use: of another family, ours, not to be reached. */
  usable(contacts: readonly Contact[], from: Endpoint): Contact[] {
    return contacts.filter(
      contact =>
        familyOf(contact) === this.family && !equalIds(contact.id, this.#id) && this.isReachable(contact, from),
    )
  }

  /** Nobody on a public address shall send us, or those who ask us, to machines of our own network. */
  isReachable(endpoint: Endpoint, from: Endpoint): boolean {
    return !this.#scopeFault(endpoint.host) && isReachableFrom(endpoint.host, from.host)
  }

  /** Whether a contact may be kept and be given things to store. */
  isTrusted(contact: Contact): boolean {
    return this.#options.isNodeIdEnforced !== true || fitsAddress(contact.id, contact.host)
  }

  /** Pings somebody, now or when it is its turn; who answers enters the table. */
  consider(endpoint: Endpoint): void {
    if (this.#candidates.size >= CANDIDATES_WAITING_MAX || familyOf(endpoint) !== this.family) return
    if (this.#scopeFault(endpoint.host)) return
    this.#candidates.set(keyOf(endpoint), endpoint)
    this.#pingNext()
  }

  async close(): Promise<void> {
    this.#candidates.clear()
    this.#transactions.close()
    await this.#deps.socket.close()
  }

  #receive(bytes: Uint8Array, from: Endpoint): void {
    const { counters, rates } = this.#deps
    const isAsked = this.#transactions.isAsked(from)
    // Whom we have asked is let through up to here, so that a flood under its address costs it no answer.
    if (!isAsked && !rates.take(from.host)) {
      counters.limited++
      return
    }
    const message = decodeMessage(bytes)
    const isQuery = message.kind === 'query' || (message.kind === 'wrong' && message.of === 'query')
    if (isQuery && isAsked && !rates.take(from.host)) {
      counters.limited++
      return
    }
    if (message.kind === 'query') this.#answer(message, from)
    else if (message.kind === 'response')
      this.#settle(from, message.transaction, { kind: 'response', response: message })
    else if (message.kind === 'error') this.#settle(from, message.transaction, { kind: 'error', code: message.code })
    else if (message.of === 'answer') this.#settle(from, message.transaction, { kind: 'unanswered' })
    else {
      counters.dropped++
      if (message.of !== 'query' || this.#options.isReadOnly === true) return
      this.#reply({ kind: 'error', code: message.code, text: message.text }, message.transaction, from)
    }
  }

  #settle(from: Endpoint, transaction: Uint8Array, answer: Answer): void {
    if (!this.#transactions.end(from, transaction, answer)) this.#deps.counters.dropped++
  }

  #answer(query: KrpcQuery, from: Endpoint): void {
    if (this.#options.isReadOnly === true) return
    this.#deps.counters.countAsked(query.body.method)
    const reply = this.#deps.server.answer(query.body, from)
    this.#reply(reply, query.transaction, from)
    const contact = { ...from, id: query.id }
    if (query.isReadOnly || equalIds(query.id, this.#id) || this.#table.heard(contact)) return
    const doubtful = this.#table.doubtfulFor(contact)
    if (doubtful !== undefined) this.#doubt(doubtful)
    else if (this.isTrusted(contact) && this.#table.wants(contact)) this.consider(from)
  }

  /** Asks a contact whether it is still there. Many may want its place: it is asked once for all of them. */
  #doubt(contact: Contact): void {
    if (!this.#transactions.isAsked(contact)) void this.query(contact, { method: 'ping', args: {}, id: contact.id })
  }

  #reply(reply: Reply, transaction: Uint8Array, to: Endpoint): void {
    if (reply.kind === 'error') this.#deps.counters.errors++
    const bytes = encodeReply(reply, { transaction, id: this.#id, to })
    if (bytes !== undefined) this.#deps.socket.send(bytes, to)
  }

  #hasAnswered(response: KrpcResponse, from: Endpoint): void {
    const contact = { ...from, id: response.id }
    if (equalIds(contact.id, this.#id)) return
    if (this.isTrusted(contact) && !this.#scopeFault(from.host)) {
      const doubtful = this.#table.answered(contact)
      if (doubtful !== undefined) this.#doubt(doubtful)
    }
    const { seenAs } = response
    if (seenAs === undefined || familyOf(seenAs) !== this.family) return
    if (this.#external.vote(seenAs.host, from.host)) this.#moveTo(seenAs.host)
  }

  /** Takes an id that fits our address, and sorts the contacts anew around it. */
  #moveTo(host: string): void {
    if (fitsAddress(this.#id, host)) return
    const contacts = this.#table.contacts()
    this.#id = idOfAddress(host, this.#deps.random.uint32() & 0xff, this.#deps.random)
    this.#table = new RoutingTable(this.#deps, this.#id, this.#options)
    for (const contact of contacts) this.#table.answered(contact)
    this.#deps.log.info('our address is known to others: our node id fits it now', { family: this.family })
    this.#deps.onMoved(this)
  }

  #pingNext(): void {
    for (const [key, endpoint] of this.#candidates) {
      if (this.#pinging >= CANDIDATE_PINGS_MAX) return
      this.#candidates.delete(key)
      void this.#ping(endpoint)
    }
  }

  async #ping(endpoint: Endpoint): Promise<void> {
    this.#pinging++
    await this.query(endpoint, { method: 'ping', args: {} })
    this.#pinging--
    this.#pingNext()
  }

  #scopeFault(host: string): boolean {
    const scope = scopeOf(host)
    return scope === 'unusable' || (scope === 'loopback' && this.#options.isLoopbackExempt !== true)
  }
}
