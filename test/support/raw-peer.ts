/**
 * A libp2p node without our manners: speaks the protocol with the real parts, but lets a test see, change, repeat and
 * withhold every byte that it sends. For attacks on live hosts.
 */
import type { Connection } from '@libp2p/interface'
import { BoundedQueue, type ByteStream, silentLogger, systemClock, systemRandom } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { ControlLink, type LinkMessage, type Party } from '#protocol'
import { FRAME_TYPES, PROTOCOLS } from '#wire'
import { parseAddress } from '../../src/net/address.ts'
import { NetStream } from '../../src/net/byte-stream.ts'
import { createNode } from '../../src/net/libp2p.ts'
import { offerOf, within } from './net-hosts.ts'
import { type SessionMemory, sessionMemory } from './session-memory.ts'

type Cleaner = { after(action: () => Promise<void>): void }

export type RawPeer = {
  readonly identity: NodeIdentity
  readonly memory: SessionMemory
  dial(address: string): Promise<RawConnection>
}

export type RawConnection = {
  readonly connection: Connection
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>
  /** Opens a stream, as it is. */
  stream(protocol: string): Promise<NetStream>
  /** Opens the control stream and runs the dialler's side on it. */
  control(options?: RawControlOptions): Promise<RawControl>
}

export type RawControlOptions = {
  readonly secret?: string
  readonly party?: Partial<Party>
  /** What is sent instead of a frame of ours: none, the frame changed, several. `index` counts from 0, the HELLO. */
  readonly tamper?: (frame: Uint8Array, index: number) => readonly Uint8Array[]
}

export type RawControl = {
  readonly link: ControlLink
  readonly stream: ByteStream
  /** Everything that was sent, a frame each, as it was before it was tampered with. */
  readonly sent: readonly Uint8Array[]
  readonly established: Promise<void>
  /** Why the link ended. */
  readonly ended: Promise<unknown>
  /** The next message that the host says in the session. */
  next(): Promise<LinkMessage>
  /** Says what a joining peer says, and reads the host's own info. */
  join(): Promise<void>
}

export async function startRawPeer(
  test: Cleaner,
  options: { readonly identity?: NodeIdentity } = {},
): Promise<RawPeer> {
  const identity = options.identity ?? (await createNodeIdentity(systemRandom))
  const memory = sessionMemory()
  const node = await createNode({
    key: identity.privateKey,
    listen: [],
    mdns: false,
    refusesInbound: () => true,
    onConnection: () => undefined,
    onFound: () => undefined,
  })
  await node.libp2p.start()
  test.after(() => node.stop())
  return {
    identity,
    memory,
    dial: async address => {
      const connection = await node.libp2p.dial(parseAddress(address).target, { force: true })
      const { promise, resolve } = Promise.withResolvers<void>()
      connection.addEventListener('close', () => resolve())
      if (connection.status !== 'open') resolve()
      const peer = connection.remotePeer.toString()
      const stream = async (protocol: string): Promise<NetStream> =>
        new NetStream({ clock: systemClock }, { stream: await connection.newStream(protocol), peer })
      return {
        connection,
        closed: within('the end of the connection', promise),
        stream,
        control: async (control = {}) =>
          startLink({ identity, memory, peer }, await stream(PROTOCOLS.control), control),
      }
    },
  }
}

function startLink(
  {
    identity,
    memory,
    peer,
  }: { readonly identity: NodeIdentity; readonly memory: SessionMemory; readonly peer: string },
  inner: ByteStream,
  { secret, party, tamper }: RawControlOptions,
): RawControl {
  const sent: Uint8Array[] = []
  const stream = tapped(inner, frame => {
    sent.push(frame.slice())
    return tamper?.(frame, sent.length - 1) ?? [frame]
  })
  const messages = new BoundedQueue<LinkMessage>(10_000)
  const established = Promise.withResolvers<void>()
  const link = new ControlLink(
    {
      clock: systemClock,
      random: systemRandom,
      log: silentLogger,
      ...memory,
      isLive: () => false,
      party: { peer: identity.peer, signer: identity.provider, handovers: [], capabilities: [], ...party },
    },
    {
      stream,
      role: 'dialler',
      peer,
      ...(secret === undefined ? {} : { secret: new TextEncoder().encode(secret) }),
      hasRoom: () => true,
      onEstablished: () => established.resolve(),
      onMessage: message => void messages.push(message),
      onRotation: () => undefined,
    },
  )
  const ended = link.run().catch((error: unknown) => {
    established.reject(error)
    messages.end()
    // As a host does when it is refused: the side that has spoken waits for it.
    inner.close().catch(() => undefined)
    return error
  })
  const joined = within('the session', established.promise)
  joined.catch(() => undefined) // Tests of refusals wait for the end instead.
  const next = async (): Promise<LinkMessage> => {
    const message = await within('a message of the session', messages.take())
    if (message === undefined) throw new Error('the control stream ended')
    return message
  }
  return {
    link,
    stream,
    sent,
    established: joined,
    ended: within('the end of the link', ended),
    next,
    join: async () => {
      await established.promise
      link.send(FRAME_TYPES.info, { offer: offerOf('raw'), peers: [] })
      while ((await next()).type !== FRAME_TYPES.info);
    },
  }
}

function tapped(inner: ByteStream, send: (frame: Uint8Array) => readonly Uint8Array[]): ByteStream {
  return {
    peer: inner.peer,
    protocol: inner.protocol,
    received: inner.received,
    send: frame => send(frame).reduce((hasRoom, bytes) => inner.send(bytes) && hasRoom, true),
    drained: () => inner.drained(),
    close: () => inner.close(),
    abort: error => inner.abort(error),
  }
}
