/** Hosts on loopback, and a peer that says whatever a test wants, for the tests of `net`. */
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { BoundedQueue, type Clock, silentLogger, systemClock, systemRandom, withDeadline } from '#base'
import { generateNodeKey, type NodePrivateKey } from '#crypto'
import { decodeHello, withLengthPrefix, encodeHello, LengthPrefixReader, type HelloMessage, type NodeOffer, PROTOCOLS } from '#wire'
import { parseAddress } from '../../src/net/address.ts'
import { createHost } from '../../src/net/host.ts'
import { createNode } from '../../src/net/libp2p.ts'
import type { Host, HostOptions, Peer, PeerEvent } from '../../src/net/types.ts'

/** Every wait in these tests ends, with an error that says what was waited for. */
const WAIT_MS = 20_000

type Cleaner = { after(action: () => Promise<void>): void }

export type TestHostOptions = Partial<Omit<HostOptions, 'secret'>> & {
  readonly secret?: string
  readonly key?: NodePrivateKey
  readonly clock?: Clock
  readonly offer?: NodeOffer
}

/** A started host on a port of the system's choice, which stops with the test. */
export async function startHost(test: Cleaner, options: TestHostOptions = {}): Promise<Host> {
  const { secret, key, clock, offer, ...rest } = options
  const deps = {
    clock: clock ?? systemClock,
    random: systemRandom,
    log: silentLogger,
    key: key ?? (await generateNodeKey(systemRandom)),
    ...(offer === undefined ? {} : { offer }),
  }
  const host = await createHost(deps, {
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

/** A libp2p node without our manners. */
export type RawPeer = {
  readonly id: string
  dial(address: string): Promise<RawConnection>
}

export type RawConnection = {
  readonly connection: Connection
  readonly closed: Promise<void>
  /** Opens the hello stream and reads what comes on it. Unless it is deaf it ends its side when the host does. */
  hello(options?: { readonly isDeaf?: boolean }): Promise<RawHello>
  /** Opens another stream, as it is. */
  stream(protocol: string): Promise<Stream>
}

export type RawHello = {
  send(message: HelloMessage): void
  sendBytes(bytes: Uint8Array): void
  next(): Promise<HelloMessage>
}

export async function startRawPeer(test: Cleaner): Promise<RawPeer> {
  const key = await generateNodeKey(systemRandom)
  const node = await createNode({
    key,
    listen: [],
    mdns: false,
    refusesInbound: () => true,
    onConnection: () => undefined,
    onFound: () => undefined,
  })
  const { libp2p } = node
  await libp2p.start()
  test.after(() => node.stop())
  return {
    id: peerIdFromString(libp2p.peerId.toString()).toString(),
    dial: async address => {
      const connection = await libp2p.dial(parseAddress(address).target, { force: true })
      const { promise, resolve } = Promise.withResolvers<void>()
      connection.addEventListener('close', () => resolve())
      if (connection.status !== 'open') resolve()
      return {
        connection,
        closed: within('the end of the connection', promise),
        hello: async options => {
          const stream = await connection.newStream(PROTOCOLS.hello)
          if (options?.isDeaf !== true) stream.addEventListener('remoteCloseWrite', () => void stream.close())
          return rawHello(stream)
        },
        stream: protocol => connection.newStream(protocol),
      }
    },
  }
}

function rawHello(stream: Stream): RawHello {
  const messages = new BoundedQueue<HelloMessage>(10_000)
  const reader = new LengthPrefixReader(2 ** 20)
  stream.addEventListener('close', () => messages.end())
  stream.addEventListener('message', event => {
    const bodies = reader.push(event.data.subarray())
    if ('code' in bodies) throw new Error(bodies.code)
    for (const body of bodies) {
      const message = decodeHello(body.slice())
      if ('code' in message) throw new Error(message.code)
      messages.push(message)
    }
  })
  return {
    send: message => void stream.send(withLengthPrefix(encodeHello(message))),
    sendBytes: bytes => void stream.send(bytes),
    next: async () => {
      const message = await within('a hello message', messages.take())
      if (message === undefined) throw new Error('the hello stream ended')
      return message
    },
  }
}
