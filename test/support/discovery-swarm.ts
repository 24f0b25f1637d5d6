/**
 * Hosts in memory for discovery: nodes that reach one another by address, over in-memory streams, on a clock that the
 * test drives. What a host can do here, the network's host does with sockets.
 */
import { type ByteStream, createStreamPair, type Random, seededRandom, silentLogger } from '#base'
import {
  createDiscovery,
  type Discovery,
  type DiscoveryDeps,
  type DiscoveryHost,
  type DiscoveryOptions,
} from '#discovery'
import { identityOfSecret, type NodeIdentity } from '#identity'
import type { ProtocolId } from '#wire'
import { CountingClock } from './counting-clock.ts'

type PeerListener = Parameters<DiscoveryHost['onPeer']>[0]
type Handler = (stream: ByteStream) => void | Promise<void>

/** As many as the network's host takes. */
const PEERS_MAX = 64

export class MemoryHost implements DiscoveryHost {
  readonly id: string
  readonly address: string
  /** Streams of this protocol that were opened from here. */
  readonly opened: string[] = []
  isDown = false
  readonly #world: Map<string, MemoryHost>
  readonly #peers = new Map<string, MemoryHost>()
  readonly #handlers = new Map<string, Handler>()
  readonly #listeners: PeerListener[] = []

  constructor(id: string, address: string, world: Map<string, MemoryHost>) {
    this.id = id
    this.address = `${address}/p2p/${id}`
    this.#world = world
    world.set(address, this)
  }

  peers = () => [...this.#peers.values()].map(({ id, address }) => ({ id, addresses: [address] }))
  addresses = (): readonly string[] => [this.address]
  onPeer = (listener: PeerListener): void => void this.#listeners.push(listener)
  handle = (protocol: ProtocolId, handler: Handler): void => void this.#handlers.set(protocol, handler)

  async connect(address: string): Promise<string> {
    const there = this.#world.get(address.replace(/\/p2p\/[^/]+$/, ''))
    await Promise.resolve()
    if (there === undefined || there.isDown || this.isDown || there === this) throw new Error('nobody is there')
    const wanted = /\/p2p\/([^/]+)$/.exec(address)?.[1]
    if (wanted !== undefined && wanted !== there.id) throw new Error('somebody else is there')
    if (this.#peers.has(there.id)) return there.id
    if (this.#peers.size >= PEERS_MAX || there.#peers.size >= PEERS_MAX) throw new Error('full')
    this.#join(there)
    there.#join(this)
    return there.id
  }

  async open(peer: string, protocol: ProtocolId): Promise<ByteStream> {
    await Promise.resolve()
    const there = this.#peers.get(peer)
    const handler = there === undefined ? undefined : there.#handlers.get(protocol)
    if (there === undefined || handler === undefined) throw new Error('no such peer, or protocol')
    this.opened.push(protocol)
    const [ours, theirs] = createStreamPair(protocol, { a: this.id, b: there.id })
    void (async () => handler(theirs))().catch((error: unknown) => theirs.abort(error as Error))
    return ours
  }

  release(peer: string): boolean {
    this.drop(peer)
    return true
  }

  /** Ends the connection on both sides. */
  drop(peer: string): void {
    const there = this.#peers.get(peer)
    if (there === undefined) return
    this.#leave(there)
    there.#leave(this)
  }

  /** Is gone for everybody. */
  die(): void {
    this.isDown = true
    for (const peer of this.#peers.keys()) this.drop(peer)
  }

  #join(peer: MemoryHost): void {
    this.#peers.set(peer.id, peer)
    this.#tell('joined', peer)
  }

  #leave(peer: MemoryHost): void {
    this.#peers.delete(peer.id)
    this.#tell('left', peer)
  }

  #tell(kind: 'joined' | 'left', { id, address }: MemoryHost): void {
    for (const listener of this.#listeners) listener({ kind, peer: { id, addresses: [address] } })
  }
}

export type SwarmNode = {
  readonly identity: NodeIdentity
  readonly host: MemoryHost
  readonly discovery: Discovery
  readonly faults: { readonly peer: string; readonly code: string }[]
}

export type MemorySwarm = {
  readonly clock: CountingClock
  readonly random: Random
  readonly nodes: SwarmNode[]
  /** A node, not started. */
  add(deps?: Partial<DiscoveryDeps>, options?: DiscoveryOptions, identity?: NodeIdentity): SwarmNode
  /** Lets time go by, with everything that happens in it. */
  pass(ms: number, stepMs?: number): Promise<void>
  stop(): Promise<void>
}

export function identityOf(random: Random): NodeIdentity {
  return identityOfSecret({ kind: 'seed', seed: random.bytes(32) }, 'file')
}

export function createMemorySwarm(seed: number): MemorySwarm {
  const clock = new CountingClock(1_700_000_000_000)
  const random = seededRandom(seed)
  const world = new Map<string, MemoryHost>()
  const nodes: SwarmNode[] = []
  const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))
  return {
    clock,
    random,
    nodes,
    add: (deps = {}, options = {}, identity = identityOf(random)) => {
      const index = world.size
      const host = new MemoryHost(identity.peer, `/ip4/10.${index >> 8}.${index & 255}.1/tcp/4001`, world)
      const faults: { peer: string; code: string }[] = []
      const discovery = createDiscovery(
        {
          clock,
          random,
          log: silentLogger,
          signer: identity.provider,
          host,
          facts: () => ({ nodeType: 'public', isRelay: false, addresses: [], protocols: [], capabilities: [] }),
          onFault: (peer, { code }) => void faults.push({ peer, code }),
          ...deps,
        },
        options,
      )
      const node = { identity, host, discovery, faults }
      nodes.push(node)
      return node
    },
    pass: async (ms, stepMs = 1_000) => {
      for (let passed = 0; passed < ms; passed += stepMs) {
        clock.advance(Math.min(stepMs, ms - passed))
        for (let i = 0; i < 12; i++) await turn()
      }
    },
    stop: async () => {
      await Promise.all(nodes.map(({ discovery }) => discovery.stop()))
    },
  }
}
