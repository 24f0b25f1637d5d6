/**
 * The QUIC addon (quinn in Rust, behind @chainsafe/libp2p-quic), loaded where this machine has it. Only its native part
 * is used: the JavaScript around it reads on while nobody takes what it has read, calls a reset an end, and takes one
 * handshake at a time, so that one that stalls keeps everybody else out. What stands here instead is ours.
 *
 * The package exports no path to its native part, so it is found beside the module that is exported; the version of the
 * package is exact for that.
 */
import { messageOf } from '#base'

/** One stream in both directions. Reading and writing are independent; each is called once at a time. */
export interface NativeStream {
  id(): string
  /** Up to that many bytes; null at the end. Rejects on a reset, or where the connection is gone. */
  read(bytesMax: number): Promise<Uint8Array | null>
  /** Resolves once the addon has taken all, which it does as the peer's window and congestion allow. */
  write(bytes: Uint8Array): Promise<void>
  finishWrite(): Promise<void>
  resetWrite(): Promise<void>
  stopRead(): Promise<void>
}

export interface NativeConnection {
  /** Closes it at once; what was not delivered is lost. */
  abort(): void
  /** Settles when the connection is gone, whoever ended it. */
  closed(): Promise<unknown>
  id(): string
  inboundStream(): Promise<NativeStream>
  /** Waits while the peer allows no more streams. */
  outboundStream(): Promise<NativeStream>
  /** Ends in the peer's id, which its certificate has proved. */
  remoteMultiaddr(): string
}

export interface NativeServer {
  /** The next connection, after its handshake. Rejects for a failed handshake too. */
  inboundConnection(): Promise<NativeConnection>
  port(): number
  abort(): Promise<void>
}

export interface NativeClient {
  outboundConnection(host: string, port: number): Promise<NativeConnection>
  abort(): void
}

/** The addon's own names. Sizes in bytes, times in milliseconds. */
export type NativeConfig = {
  readonly privateKeyProto: Uint8Array
  readonly handshakeTimeout: number
  readonly maxIdleTimeout: number
  readonly keepAliveInterval: number
  readonly maxConcurrentStreamLimit: number
  readonly maxStreamData: number
  readonly maxConnectionData: number
  readonly receiveBufferSize: number
  readonly sendBufferSize: number
}

export interface QuicAddon {
  readonly QuinnConfig: new (config: NativeConfig) => object
  /** Binds its UDP socket at once; throws where it cannot be had. */
  readonly Server: new (
    config: object,
    host: string,
    port: number,
  ) => NativeServer
  /** @param family 0: IPv4, 1: IPv6 */
  readonly Client: new (
    config: object,
    family: 0 | 1,
  ) => NativeClient
}

const PACKAGE = '@chainsafe/libp2p-quic'

/** The addon, or why this machine has none. */
export async function loadQuicAddon(): Promise<QuicAddon | { readonly missing: string }> {
  try {
    const native = (await import(new URL('napi.js', import.meta.resolve(PACKAGE)).href)) as Partial<QuicAddon>
    const { QuinnConfig, Server, Client } = native
    if (QuinnConfig === undefined || Server === undefined || Client === undefined) return { missing: 'not as expected' }
    return { QuinnConfig, Server, Client }
  } catch (error) {
    return { missing: messageOf(error) }
  }
}
