/** Real libp2p nodes with Kademlia, on loopback TCP or in memory, for tests and simulations. */
import type { Libp2p } from '@libp2p/interface'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { type Clock, type KeyValueStore, type Random, silentLogger, systemClock } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { createKad, createKadRecord, createMemoryStore, type Kad, type KadGate, type KadOptions } from '#kad'
import { createMemoryHost, type MemoryFabric } from './memory-libp2p.ts'

export type KadNode = {
  readonly libp2p: Libp2p
  readonly kad: Kad
  readonly peer: string
  readonly identity: NodeIdentity
  /** Multiaddrs with the peer id. */
  readonly addresses: readonly string[]
  readonly store: KeyValueStore
  /** A signed record of this node. */
  record(content: {
    readonly sequence: number
    readonly value?: Uint8Array
    readonly kind?: string
    /** @default an hour */
    readonly lifeMs?: number
  }): Promise<Uint8Array>
  stop(): Promise<void>
}

export type KadNodeOptions = {
  readonly random: Random
  readonly clock?: Clock
  readonly store?: KeyValueStore
  readonly identity?: NodeIdentity
  readonly gate?: KadGate
  readonly kad?: KadOptions
  /** In memory, at this address; TCP on loopback where left out. */
  readonly memory?: { readonly network: MemoryFabric; readonly address: string }
  /** Port to listen on. @default any */
  readonly listen?: string
}

const HOUR_MS = 3_600_000

/**
 * Time of one operation where a test says nothing: a fifth of it bounds a request by the real clock too, whatever clock is
 * given, as kad-dht has timers of its own. A machine that stands still for seconds must not end one.
 */
export const PATIENT_OPERATION_MS = 600_000

/** Makes and starts a node. */
export async function startKadNode(options: KadNodeOptions): Promise<KadNode> {
  const { random, clock = systemClock, memory, gate } = options
  const identity = options.identity ?? (await createNodeIdentity(random))
  const key = identity.privateKey
  const store = options.store ?? createMemoryStore({ clock })
  const kad = createKad(
    {
      clock,
      random,
      log: silentLogger,
      store,
      ...(gate === undefined ? {} : { gate }),
      // libp2p tells nobody of public addresses that nobody has confirmed.
      ...(memory === undefined ? {} : { addresses: () => [memory.address] }),
    },
    { selfLookupDelayMs: 50, timeoutMs: PATIENT_OPERATION_MS, ...options.kad },
  )
  const services = { kad: kad.mount }
  const libp2p: Libp2p =
    memory === undefined
      ? await createLibp2p({
          privateKey: key,
          addresses: { listen: [options.listen ?? '/ip4/127.0.0.1/tcp/0'] },
          transports: [tcp()],
          connectionEncrypters: [noise()],
          streamMuxers: [yamux()],
          connectionManager: { inboundConnectionThreshold: 1e6, reconnectRetries: 0 },
          connectionMonitor: { enabled: false },
          connectionGater: { denyDialMultiaddr: () => false },
          services: { ...services, identify: identify() },
        })
      : await createMemoryHost(memory.network, { key, address: memory.address, services })
  // What a host does when it has admitted a peer. Over TCP, identify says who listens where, as libp2p does it by itself.
  libp2p.addEventListener('connection:open', ({ detail: { direction, remotePeer, remoteAddr } }) => {
    if (memory === undefined || direction === 'outbound' || !kad.status().isRunning) return
    kad.addPeer(remotePeer.toString(), [remoteAddr.toString()])
  })
  return {
    libp2p,
    kad,
    peer: identity.peer,
    identity,
    addresses:
      memory === undefined
        ? libp2p.getMultiaddrs().map(address => address.toString())
        : [`${memory.address}/p2p/${identity.peer}`],
    store,
    record: ({ sequence, value = Uint8Array.of(1, 2, 3), kind = 'peer', lifeMs = HOUR_MS }) =>
      createKadRecord(identity.provider, { kind, sequence, expiresAt: clock.now() + lifeMs, value }),
    stop: async () => await libp2p.stop(),
  }
}

/** Nodes that have all joined through the first one. */
export async function startSwarm(
  count: number,
  optionsOf: (index: number) => KadNodeOptions,
): Promise<readonly KadNode[]> {
  const nodes: KadNode[] = []
  for (let index = 0; index < count; index++) nodes.push(await startKadNode(optionsOf(index)))
  const [first, ...others] = nodes
  for (const node of others) await node.kad.bootstrap(first?.addresses ?? [])
  return nodes
}
