/** A QUIC connection and its streams, as libp2p's upgrader takes them: encryption and streams are there already. */
import type {
  CreateStreamOptions,
  Logger,
  MessageStream,
  MessageStreamDirection,
  StreamMuxerFactory,
} from '@libp2p/interface'
import { AbstractMultiaddrConnection, AbstractStreamMuxer } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { abortable } from '#base'
import type { NetSettings } from '../settings.ts'
import type { NativeConnection, NativeStream } from './addon.ts'
import { QuicStream } from './quic-stream.ts'

/** Code of `/p2p` in the table of multiaddr protocols. */
const P2P_CODE = 421

export type StreamSettings = Pick<NetSettings, 'streamWindowBytes' | 'streamWriteBytes'>

export type QuicConnectionOptions = {
  readonly native: NativeConnection
  readonly direction: MessageStreamDirection
  readonly log: Logger
}

export class QuicConnection extends AbstractMultiaddrConnection {
  /** Who is at the other end, proved by its certificate. */
  readonly peer: string
  readonly #native: NativeConnection

  /** @throws where the addon names no peer */
  constructor({ native, direction, log }: QuicConnectionOptions) {
    const whole = multiaddr(native.remoteMultiaddr())
    const peer = whole.getComponents().find(({ code }) => code === P2P_CODE)?.value
    if (peer === undefined) throw new Error('the connection has no peer id')
    // Like an address of any other transport, by which connections are counted.
    super({ remoteAddr: whole.decapsulateCode(P2P_CODE), direction, log })
    this.peer = peer
    this.#native = native
    const onGone = (): void => this.onTransportClosed()
    native.closed().then(onGone, onGone)
  }

  sendData(): never {
    throw new Error('bytes go over the streams of a QUIC connection')
  }

  sendReset(): void {
    this.#native.abort()
  }

  async sendClose(): Promise<void> {
    this.#native.abort()
  }

  // QUIC has windows of its own, for each stream and for all of them.
  sendPause(): void {}
  sendResume(): void {}
}

export function quicMuxer(native: NativeConnection, settings: StreamSettings): StreamMuxerFactory {
  return { protocol: 'quic', createStreamMuxer: connection => new QuicMuxer(connection, native, settings) }
}

class QuicMuxer extends AbstractStreamMuxer<QuicStream> {
  readonly #native: NativeConnection
  readonly #settings: StreamSettings

  constructor(connection: MessageStream, native: NativeConnection, settings: StreamSettings) {
    super(connection, { protocol: 'quic', name: 'quic' })
    this.#native = native
    this.#settings = settings
    void this.#accept()
  }

  async onCreateStream(options: CreateStreamOptions): Promise<QuicStream> {
    const opening = this.#native.outboundStream()
    try {
      const native = await (options.signal === undefined ? opening : abortable(opening, options.signal))
      if (this.status !== 'open') throw new Error('the connection is being closed')
      return this.#streamOf(native, 'outbound')
    } catch (error) {
      // Nobody waits for it any more; it may still come.
      opening.then(discard, () => undefined)
      throw error
    }
  }

  onData(): void {
    throw new Error('bytes come over the streams of a QUIC connection')
  }

  async #accept(): Promise<void> {
    try {
      while (this.status === 'open') this.onRemoteStream(this.#streamOf(await this.#native.inboundStream(), 'inbound'))
    } catch {
      // The connection is gone, which its own event says.
    }
  }

  #streamOf(native: NativeStream, direction: MessageStreamDirection): QuicStream {
    const { streamWindowBytes, streamWriteBytes } = this.#settings
    return new QuicStream({
      native,
      direction,
      log: this.log.newScope(`${direction}:${native.id()}`),
      readBytesMax: 2 * streamWindowBytes,
      writeBytesMax: streamWriteBytes,
    })
  }
}

function discard(native: NativeStream): void {
  native.resetWrite().catch(() => undefined)
  native.stopRead().catch(() => undefined)
}

/** Host and port of a QUIC address. @throws where it is none */
export function endpointOf(address: Multiaddr): {
  readonly kind: string
  readonly host: string
  readonly port: number
} {
  const [host, udp] = address.getComponents()
  if (host?.value === undefined || udp?.name !== 'udp' || udp.value === undefined) {
    throw new Error('not an address of QUIC')
  }
  return { kind: host.name, host: host.value, port: Number(udp.value) }
}
