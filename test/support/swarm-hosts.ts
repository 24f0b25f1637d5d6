/** Swarms in one process: hosts that reach one another in memory, and what the tests of the swarm start on them. */
import assert from 'node:assert/strict'
import { type Clock, createStreamPair, ManualClock, seededRandom, silentLogger } from '#base'
import { createSwarm, type Swarm, type SwarmBlame, type SwarmDht, type SwarmHost, type SwarmOptions } from '#swarm'
import type { BlobStore } from '#storage'
import { memoryBlobs } from './memory-blobs.ts'

type Handler = Parameters<SwarmHost['handle']>[1]
type Listener = Parameters<SwarmHost['onPeer']>[0]
type Peer = ReturnType<SwarmHost['peers']>[number]

/** A host, and the clock of its network. */
export type TimedHost = SwarmHost & { readonly clock: ManualClock }

export type SwarmNetwork = {
  /** Time of all nodes. It passes in `pass` alone. */
  readonly clock: ManualClock
  /** A host that is connected with all others. */
  host(id: string): TimedHost
  /** Lets time pass until the promise settles. @param onStep called after every step of it */
  pass<T>(promise: Promise<T>, onStep?: () => void): Promise<T>
  /** Lets time pass until the condition holds, a little at a time. @param stepMs more where nothing moves */
  until(condition: () => boolean, stepMs?: number): Promise<void>
  /** Streams that are open. */
  readonly streams: Set<{ readonly peers: readonly [string, string]; readonly cut: () => void }>
}

/** What passes while the event loop turns once. */
const STEP_MS = 5
/** Steps after which a test is stuck: a quarter of an hour. */
const STEPS_MAX = 180_000

export function swarmNetwork(): SwarmNetwork {
  const clock = new ManualClock(1_000)
  const until = async (condition: () => boolean, stepMs = STEP_MS, onStep?: () => void): Promise<void> => {
    for (let step = 0; !condition(); step++) {
      assert.ok(step < STEPS_MAX, 'what a test waits for did not happen')
      await new Promise(resolve => void setImmediate(resolve))
      clock.advance(stepMs)
      onStep?.()
    }
  }
  const hosts = new Map<string, { handlers: Map<string, Handler>; listeners: Set<Listener> }>()
  const streams: SwarmNetwork['streams'] = new Set()
  const peerOf = (id: string): Peer => ({ id, addresses: [], offer: { stages: [] } }) as unknown as Peer
  return {
    clock,
    streams,
    until: (condition, stepMs) => until(condition, stepMs),
    pass: async (promise, onStep) => {
      let isOver = false
      const over = (): void => void (isOver = true)
      promise.then(over, over)
      await until(() => isOver, STEP_MS, onStep)
      return promise
    },
    host: id => {
      const own = { handlers: new Map<string, Handler>(), listeners: new Set<Listener>() }
      for (const other of hosts.values()) {
        for (const listener of other.listeners) listener({ kind: 'joined', peer: peerOf(id) })
      }
      hosts.set(id, own)
      return {
        clock,
        id,
        peers: () => [...hosts.keys()].filter(other => other !== id).map(peerOf),
        onPeer: listener => {
          own.listeners.add(listener)
          return () => own.listeners.delete(listener)
        },
        handle: (protocol, handler) => void own.handlers.set(protocol, handler),
        open: async (peer, protocol) => {
          const handler = hosts.get(peer)?.handlers.get(protocol)
          if (handler === undefined) throw new Error(`${peer} does not serve ${protocol}`)
          const [here, there] = createStreamPair(protocol, { a: id, b: peer })
          streams.add({ peers: [id, peer], cut: () => here.abort(new Error('cut')) })
          queueMicrotask(() => void handler(there))
          return here
        },
      }
    },
  }
}

export type SwarmNode = {
  readonly id: string
  readonly swarm: Swarm
  readonly blobs: ReturnType<typeof memoryBlobs>
  readonly blamed: { readonly party: string; readonly why: SwarmBlame }[]
  /** Told to others, and heard of them. */
  readonly votes: Uint8Array[]
}

type Cleaner = { after(action: () => Promise<void>): void }

/** A started swarm, which stops with the test. */
export function startSwarm(
  test: Cleaner,
  {
    host,
    seed,
    dht,
    ...options
  }: SwarmOptions & {
    readonly host: SwarmHost & { readonly clock: Clock }
    readonly seed: number
    readonly dht?: SwarmDht
  },
): SwarmNode {
  const blobs = memoryBlobs()
  const blamed: { party: string; why: SwarmBlame }[] = []
  const votes: Uint8Array[] = []
  const swarm = createSwarm(
    {
      clock: host.clock,
      random: seededRandom(seed),
      log: silentLogger,
      host,
      ...(dht === undefined ? {} : { dht }),
      blobs: blobs as unknown as BlobStore,
      onBlame: (party, why) => void blamed.push({ party, why }),
      isBanned: () => false,
      votesOf: () => votes,
      onVotes: (_, records) => void votes.push(...records),
    },
    options,
  )
  swarm.start()
  test.after(() => swarm.stop())
  return { id: host.id, swarm, blobs, blamed, votes }
}
