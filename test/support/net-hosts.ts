/** Hosts on loopback, and a peer that says whatever a test wants, for the tests of `net`. */
import { type Clock, silentLogger, systemClock, systemRandom, withDeadline } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import type { NodeOffer } from '#wire'
import { createHost } from '../../src/net/create-host.ts'
import type { HostDeps } from '../../src/net/host.ts'
import type { PeerGuard } from '../../src/net/peer-guard.ts'
import type { Host, HostOptions, Peer, PeerEvent } from '../../src/net/types.ts'
import { openGuard, type SessionMemory, sessionMemory } from './session-memory.ts'

/** Every wait in these tests ends, with an error that says what was waited for. */
const WAIT_MS = 20_000

type Cleaner = { after(action: () => Promise<void>): void }

export type TestHostOptions = Partial<Omit<HostOptions, 'secret'>> & {
  readonly secret?: string
  readonly identity?: NodeIdentity
  readonly handovers?: readonly Uint8Array[]
  readonly memory?: SessionMemory
  readonly guard?: PeerGuard
  readonly clock?: Clock
  readonly offer?: NodeOffer
  readonly isPublic?: () => boolean | undefined
}

/** What a host needs that keeps everything in memory. */
export async function hostDeps(options: Omit<TestHostOptions, keyof HostOptions> = {}): Promise<HostDeps> {
  const { identity, handovers = [], memory, guard, clock = systemClock, offer, isPublic } = options
  return {
    clock,
    random: systemRandom,
    log: silentLogger,
    identity: identity ?? (await createNodeIdentity(systemRandom)),
    handovers,
    capabilities: ['test'],
    memory: memory ?? sessionMemory({ clock }),
    guard: guard ?? openGuard,
    ...(offer === undefined ? {} : { offer }),
    ...(isPublic === undefined ? {} : { isPublic }),
  }
}

/** A started host on a port of the system's choice, which stops with the test. */
export async function startHost(test: Cleaner, options: TestHostOptions = {}): Promise<Host> {
  const { secret, identity, handovers, memory, guard, clock, offer, isPublic, ...rest } = options
  const given = Object.entries({ identity, handovers, memory, guard, clock, offer, isPublic }).filter(
    ([, value]) => value !== undefined,
  )
  const host = await createHost(await hostDeps(Object.fromEntries(given)), {
    listen: ['/ip4/127.0.0.1/tcp/0'],
    mdns: false,
    ...rest,
    ...(secret === undefined ? {} : { secret: new TextEncoder().encode(secret) }),
  })
  await host.start()
  test.after(() => host.stop())
  return host
}

export function firstAddress(host: Host): string {
  const [address] = host.addresses()
  if (address === undefined) throw new Error('the host has no address')
  return address
}

/** Waits for an event. Call it before whatever causes the event. */
export function nextEvent(host: Host, matches: (event: PeerEvent) => boolean): Promise<Peer> {
  const { promise, resolve } = Promise.withResolvers<Peer>()
  host.onPeer(event => {
    if (matches(event)) resolve(event.peer)
  })
  return within('a peer event', promise)
}

/** Waits until the host's peers are these. */
export async function hasPeers(host: Host, ids: readonly string[]): Promise<void> {
  const isSo = (): boolean => {
    const here = host.peers().map(peer => peer.id)
    return here.length === ids.length && ids.every(id => here.includes(id))
  }
  if (!isSo()) await nextEvent(host, isSo)
}

export function within<T>(what: string, promise: Promise<T>): Promise<T> {
  return withDeadline(systemClock, { what, timeoutMs: WAIT_MS }, () => promise)
}

export function offerOf(name: string, slotsFree = 1): NodeOffer {
  const stage = {
    model: 'ab'.repeat(32),
    name,
    architecture: 'llama',
    layers: { first: 0, last: 4 },
    layerCount: 4,
    width: 64,
    contextMax: 256,
    slots: 8,
    slotsFree,
    profile: 'test',
    stepMs: 1.5,
  }
  return { agent: 'test', addresses: [], memoryBytes: 1e9, threads: 2, weightBytesPerSecond: 1e9, stages: [stage] }
}
