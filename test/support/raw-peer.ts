/**
 * A libp2p node without our manners: speaks the protocol with the real parts, but lets a test see, change, repeat and
 * withhold every byte that it sends. For attacks on live hosts.
 */
import type { Connection, Stream } from '@libp2p/interface'
import {
  BoundedQueue,
  type ByteStream,
  type Clock,
  concatBytes,
  type Random,
  silentLogger,
  systemClock,
  systemRandom,
} from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { ControlLink, type LinkMessage, type Party, SessionClaims } from '#protocol'
import { CONTROL_SCHEMAS, decodeBody, FRAME_TYPES, PROTOCOLS } from '#wire'
import { parseAddress } from '../../src/net/address.ts'
import { NetStream } from '../../src/net/byte-stream.ts'
import { cutFrames } from './cut-frames.ts'
import { offerOf, within } from './net-hosts.ts'
import { startRawLibp2p } from './raw-libp2p.ts'
import { type SessionMemory, sessionMemory } from './session-memory.ts'

type Cleaner = { after(action: () => Promise<void>): void }

export type RawPeer = {
  readonly identity: NodeIdentity
  readonly memory: SessionMemory
  dial(address: string): Promise<RawConnection>
  /** Takes the streams of this protocol that hosts open on connections of ours, as they are. */
  onStream(protocol: string, take: (stream: NetStream) => void): Promise<void>
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
  readonly tamper?: Tamper
  /** The same for what the host sends, before our side has seen it. */
  readonly tamperIn?: Tamper
  /** The id of the session that is proposed. @default a random one */
  readonly session?: Uint8Array<ArrayBuffer>
  /** Answer the host's pings, so that the connection outlives a clock that jumps. @default false */
  readonly answersPings?: boolean
}

/** What somebody in between makes of a frame. `index` counts the frames of the direction from 0. */
export type Tamper = (frame: Uint8Array, index: number) => readonly Uint8Array[] | Promise<readonly Uint8Array[]>

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
  options: {
    readonly identity?: NodeIdentity
    readonly memory?: SessionMemory
    /** The address that the connections come from. @default what the system takes */
    readonly from?: string
    readonly clock?: Clock
  } = {},
): Promise<RawPeer> {
  const identity = options.identity ?? (await createNodeIdentity(systemRandom))
  const clock = options.clock ?? systemClock
  const memory = options.memory ?? sessionMemory({ clock })
  const from = options.from === undefined ? {} : { from: options.from }
  const libp2p = await startRawLibp2p({ key: identity.privateKey, ...from })
  test.after(async () => {
    await libp2p.stop()
  })
  const toStream = (stream: Stream, peer: string): NetStream => new NetStream({ clock: systemClock }, { stream, peer })
  return {
    identity,
    memory,
    onStream: (protocol, take) =>
      libp2p.handle(protocol, (stream, connection) => take(toStream(stream, connection.remotePeer.toString()))),
    dial: async address => {
      const connection = await libp2p.dial(parseAddress(address).target, { force: true })
      const { promise, resolve } = Promise.withResolvers<void>()
      connection.addEventListener('close', () => resolve())
      if (connection.status !== 'open') resolve()
      const peer = connection.remotePeer.toString()
      const stream = async (protocol: string): Promise<NetStream> =>
        toStream(await connection.newStream(protocol, { maxOutboundStreams: 1024 }), peer)
      return {
        connection,
        get closed() {
          return within('the end of the connection', promise)
        },
        stream,
        control: async (control = {}) =>
          startLink({ identity, memory, clock, peer }, await stream(PROTOCOLS.control), control),
      }
    },
  }
}

type Ends = {
  readonly identity: NodeIdentity
  readonly memory: SessionMemory
  readonly clock: Clock
  readonly peer: string
}

function startLink({ identity, memory, clock, peer }: Ends, inner: ByteStream, options: RawControlOptions): RawControl {
  const { secret, party, tamper, tamperIn, answersPings, session } = options
  const sent: Uint8Array[] = []
  const stream = tapped(inner, {
    send: tamper,
    receive: tamperIn,
    onSend: frame => void sent.push(frame.slice()),
  })
  const messages = new BoundedQueue<LinkMessage>(10_000)
  const established = Promise.withResolvers<void>()
  const link: ControlLink = new ControlLink(
    {
      clock,
      random: session === undefined ? systemRandom : withSession(session),
      log: silentLogger,
      ...memory,
      claims: new SessionClaims(),
      party: { peer: identity.peer, signer: identity.provider, handovers: [], capabilities: [], ...party },
    },
    {
      stream,
      role: 'dialler',
      peer,
      ...(secret === undefined ? {} : { secret: new TextEncoder().encode(secret) }),
      hasRoom: () => true,
      onEstablished: () => established.resolve(),
      onMessage: message => {
        if (answersPings === true && message.type === FRAME_TYPES.ping) {
          const ping = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.ping], message.body)
          if ('body' in ping) link.send(FRAME_TYPES.pong, { id: ping.body.id, time: clock.now() })
        } else messages.push(message)
      },
      onLeftOut: () => undefined,
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
    get ended() {
      return within('the end of the link', ended)
    },
    next,
    join: async () => {
      await established.promise
      link.send(FRAME_TYPES.info, { offer: offerOf('raw'), peers: [] })
      while ((await next()).type !== FRAME_TYPES.info);
    },
  }
}

/** Gives these 16 bytes where an id is made, and chance elsewhere. */
function withSession(session: Uint8Array<ArrayBuffer>): Random {
  return {
    ...systemRandom,
    bytes: count => (count === session.byteLength ? session.slice() : systemRandom.bytes(count)),
  }
}

/** A stream with somebody in between, who sees frames. */
export function tapped(
  inner: ByteStream,
  {
    send,
    receive,
    onSend,
  }: {
    readonly send?: Tamper | undefined
    readonly receive?: Tamper | undefined
    /** Told of each frame, before `send` is. */
    readonly onSend?: (frame: Uint8Array) => void
  },
): ByteStream {
  let index = 0
  let order = Promise.resolve()
  const pass = (frames: readonly Uint8Array[]): boolean =>
    frames.reduce((hasRoom, bytes) => inner.send(bytes) && hasRoom, true)
  const sendFrame = (frame: Uint8Array): boolean => {
    onSend?.(frame)
    const changed = send?.(frame, index++) ?? [frame]
    if (!(changed instanceof Promise)) return pass(changed)
    order = order.then(async () => void pass(await changed))
    order.catch(() => undefined) // The stream has ended: whoever reads it hears why.
    return true
  }
  return {
    peer: inner.peer,
    protocol: inner.protocol,
    received: receive === undefined ? inner.received : cutFrames(inner.received, receive),
    send: sendFrame,
    sendParts: parts => sendFrame(concatBytes(parts)),
    drained: () => inner.drained(),
    close: () => inner.close(),
    abort: error => inner.abort(error),
  }
}
