/** The node of the Mainline DHT: starts, stops and looks after the networks of both families. */
import type { BencodeValue } from '#formats'
import { type Clock, type Logger, type Random, repeat } from '#base'
import { ED25519_PUBLIC_BYTES } from '#crypto'
import { decodeEndpoint, familyOf, ID_BYTES } from './address.ts'
import { Counters } from './counters.ts'
import { MainlineError, stopped } from './errors.ts'
import { ItemStore } from './item-store.ts'
import { BOOTSTRAP_ADDRESSES_MAX, LOOKUPS_MAX, UPKEEP_MS } from './limits.ts'
import { announce, findPeers, getImmutable, getMutable, type Network, putImmutable, putMutable } from './operations.ts'
import { Overlay } from './overlay.ts'
import { PeerStore } from './peer-store.ts'
import { RateLimits } from './rate-limits.ts'
import { Server } from './server.ts'
import { Tokens } from './tokens.ts'
import { traverse } from './traverse.ts'
import type {
  AbortOptions,
  Contact,
  DatagramSocket,
  DatagramSockets,
  Endpoint,
  MainlineDeps,
  MainlineNode,
  MainlineOptions,
  MainlineStatus,
  MutableItem,
  PutMutable,
} from './types.ts'

/**
 * Makes a node of the Mainline DHT (BEP 5, 32, 42, 43, 44), which is still to be started.
 * @throws MainlineError `MAINLINE_KEY_INVALID` for a node id of another size than 20 bytes
 */
export function createMainlineNode(deps: MainlineDeps, options: MainlineOptions = {}): MainlineNode {
  if (options.nodeId !== undefined) requireSize(options.nodeId, ID_BYTES, 'a node id')
  return new Node(deps, options)
}

type Running = Network & { readonly ended: AbortController; upkeep: Promise<void> }
type NamedHost = { readonly host: string; readonly port: number }

class Node implements MainlineNode {
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Logger
  readonly #sockets: DatagramSockets
  readonly #options: MainlineOptions
  #counters = new Counters()
  #running: Running | undefined
  #starting: Promise<void> | undefined
  #lookups = 0
  /** Where to begin again, should all contacts be lost. */
  #known: readonly NamedHost[] = []

  constructor(deps: MainlineDeps, options: MainlineOptions) {
    this.#clock = deps.clock
    this.#random = deps.random
    this.#log = deps.log
    this.#sockets = deps.sockets
    this.#options = options
  }

  async start(): Promise<void> {
    if (this.#running !== undefined) return
    this.#starting ??= this.#open().finally(() => {
      this.#starting = undefined
    })
    await this.#starting
  }

  async #open(): Promise<void> {
    const running = this.#build(await this.#sockets.open())
    this.#running = running
    running.upkeep = repeat(this.#clock, () => this.#upkeep(running), {
      periodMs: UPKEEP_MS,
      signal: running.ended.signal,
    })
  }

  async stop(): Promise<void> {
    await this.#starting?.catch(() => undefined) // Whoever started it is told why it failed.
    const running = this.#running
    if (running === undefined) return
    this.#running = undefined
    running.ended.abort(stopped())
    await Promise.all(running.overlays.map(overlay => overlay.close()))
    await running.upkeep
  }

  async bootstrap(addresses: readonly string[], options: AbortOptions = {}): Promise<number> {
    const hosts = addresses.slice(0, BOOTSTRAP_ADDRESSES_MAX).map(parseAddress)
    return this.#lookUp(options, async (running, signal) => {
      this.#known = hosts
      await this.#join(running.overlays, signal)
      return running.overlays.reduce((count, { table }) => count + table.size, 0)
    })
  }

  async announce(infoHash: Uint8Array, port: number, options: AbortOptions = {}): Promise<number> {
    requireSize(infoHash, ID_BYTES, 'an info hash')
    requirePort(port)
    return this.#lookUp(options, (running, signal) => announce(running, { infoHash, port }, signal))
  }

  async *getPeers(infoHash: Uint8Array, options: AbortOptions = {}): AsyncGenerator<Endpoint, void, undefined> {
    requireSize(infoHash, ID_BYTES, 'an info hash')
    const { running, signal } = this.#begin(options)
    try {
      yield* findPeers(running, infoHash, signal)
    } finally {
      this.#lookups--
    }
  }

  async putMutable(item: PutMutable, options: AbortOptions = {}): Promise<number> {
    requireSize(item.signer.publicKey, ED25519_PUBLIC_BYTES, 'a public key')
    return this.#lookUp(options, (running, signal) => putMutable(running, item, signal))
  }

  async getMutable(
    publicKey: Uint8Array,
    salt: Uint8Array = new Uint8Array(),
    options: AbortOptions = {},
  ): Promise<MutableItem | undefined> {
    requireSize(publicKey, ED25519_PUBLIC_BYTES, 'a public key')
    return this.#lookUp(options, (running, signal) => getMutable(running, { publicKey, salt }, signal))
  }

  async putImmutable(
    value: BencodeValue,
    options: AbortOptions = {},
  ): Promise<{ readonly target: Uint8Array; readonly stored: number }> {
    return this.#lookUp(options, (running, signal) => putImmutable(running, value, signal))
  }

  async getImmutable(target: Uint8Array, options: AbortOptions = {}): Promise<BencodeValue | undefined> {
    requireSize(target, ID_BYTES, 'a target')
    return this.#lookUp(options, (running, signal) => getImmutable(running, target, signal))
  }

  contacts(): Contact[] {
    return this.#running?.overlays.flatMap(({ table }) => table.contacts()) ?? []
  }

  addContacts(contacts: readonly Contact[]): void {
    for (const { host, port } of contacts) {
      const endpoint = decodeEndpoint(host, port)
      if (endpoint === undefined) continue // A damaged line of a file: the others are as good as before.
      for (const overlay of this.#running?.overlays ?? []) overlay.consider(endpoint)
    }
  }

  status(): MainlineStatus {
    const running = this.#running
    const { asked, sent, answers, unanswered, limited, dropped, errors } = this.#counters
    return {
      isRunning: running !== undefined,
      families: running?.overlays.map(overlay => overlay.status()) ?? [],
      storedPeers: running?.peers.size ?? 0,
      storedItems: running?.items.size ?? 0,
      queriesInFlight: running?.overlays.reduce((count, { queriesInFlight }) => count + queriesInFlight, 0) ?? 0,
      lookups: this.#lookups,
      asked: { ...asked },
      sent: { ...sent },
      answers,
      unanswered,
      limited,
      dropped,
      errors,
    }
  }

  #build(sockets: readonly DatagramSocket[]): Running {
    const deps = { clock: this.#clock, random: this.#random }
    const options = this.#options
    this.#counters = new Counters()
    const peers = new PeerStore(deps)
    const items = new ItemStore(deps)
    const overlays: Overlay[] = []
    const server = new Server({
      peers,
      items,
      tokens: new Tokens(deps),
      closest: (family, target, count) => overlays.find(other => other.family === family)?.table.closest(target, count),
    })
    const ended = new AbortController()
    const onMoved = (overlay: Overlay): void =>
      void untilStopped(ended.signal, () => this.#refresh(overlay, overlay.id, ended.signal))
    const rates = new RateLimits(deps, options)
    const shared = { ...deps, log: this.#log, server, rates, counters: this.#counters, onMoved }
    for (const socket of sockets) {
      const id = options.nodeId ?? this.#random.bytes(ID_BYTES)
      overlays.push(new Overlay({ ...shared, socket }, id, options))
    }
    return { clock: this.#clock, overlays, peers, items, options, ended, upkeep: Promise.resolve() }
  }

  /** Asks the known addresses, then looks up our own id for neighbours, and another one for the rest of the table. */
  async #join(overlays: readonly Overlay[], signal: AbortSignal): Promise<void> {
    const resolved = await Promise.all(
      this.#known.map(async ({ host, port }) =>
        (await this.#sockets.resolve(host)).flatMap(address => decodeEndpoint(address, port) ?? []),
      ),
    )
    const endpoints = resolved.flat().slice(0, BOOTSTRAP_ADDRESSES_MAX)
    const join = async (overlay: Overlay): Promise<void> => {
      const own = endpoints.filter(endpoint => familyOf(endpoint) === overlay.family)
      const args = { target: overlay.id }
      const answers = await Promise.all(
        own.map(async to => ({ to, answer: await overlay.query(to, { method: 'find_node', args }) })),
      )
      const seeds = answers.flatMap(({ to, answer }) =>
        answer.kind === 'response' ? overlay.usable(answer.response.contacts, to) : [],
      )
      for (const target of [overlay.id, this.#random.bytes(ID_BYTES)]) {
        await traverse({ clock: this.#clock, overlay }, { target, method: 'find_node', signal, seeds }, this.#options)
      }
    }
    await Promise.all(overlays.map(join))
  }

  async #upkeep(running: Running): Promise<void> {
    running.peers.expire()
    running.items.expire()
    const { signal } = running.ended
    await untilStopped(signal, async () => {
      const lost = running.overlays.filter(({ id, table }) => table.closest(id, 1).length === 0)
      // All contacts are bad where it was our own network that failed: then they are asked again.
      for (const overlay of lost) overlay.table.bad().forEach(contact => overlay.consider(contact))
      if (this.#known.length > 0 && lost.length > 0) await this.#join(lost, signal)
      for (const overlay of running.overlays) {
        for (const target of overlay.table.refreshTargets(this.#random)) await this.#refresh(overlay, target, signal)
      }
    })
  }

  async #refresh(overlay: Overlay, target: Uint8Array, signal: AbortSignal): Promise<void> {
    await traverse({ clock: this.#clock, overlay }, { target, method: 'find_node', signal }, this.#options)
  }

  async #lookUp<T>(options: AbortOptions, work: (running: Running, signal: AbortSignal) => Promise<T>): Promise<T> {
    const { running, signal } = this.#begin(options)
    try {
      return await work(running, signal)
    } finally {
      this.#lookups--
    }
  }

  #begin({ signal }: AbortOptions): { readonly running: Running; readonly signal: AbortSignal } {
    const running = this.#running
    if (running === undefined) throw stopped()
    if (this.#lookups >= LOOKUPS_MAX) throw new MainlineError({ code: 'MAINLINE_BUSY' }, 'too many lookups at once')
    this.#lookups++
    const ended = running.ended.signal
    return { running, signal: signal === undefined ? ended : AbortSignal.any([ended, signal]) }
  }
}

/** Work of our own, which nobody waits for: that the node stops ends it, as it should. */
async function untilStopped(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

function parseAddress(text: string): NamedHost {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/i.exec(text) ?? []
  const host = bracketed ?? plain
  if (host === undefined) throw invalidAddress('an address is host:port or [host]:port')
  return { host, port: requirePort(Number(digits)) }
}

function requirePort(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 0xffff) throw invalidAddress('a port is a number from 1 to 65535')
  return port
}

function requireSize(bytes: Uint8Array, size: number, what: string): void {
  if (bytes.byteLength === size) return
  throw new MainlineError({ code: 'MAINLINE_KEY_INVALID' }, `${what} has ${size} bytes`)
}

function invalidAddress(text: string): MainlineError {
  return new MainlineError({ code: 'MAINLINE_ADDRESS_INVALID' }, text)
}
