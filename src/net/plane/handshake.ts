/**
 * TLS as the data plane speaks it: 1.3 only, no certificates, a key that both ends have from their session (RFC 8446,
 * 2.2, external PSK with ephemeral keys), the protocol of the stream as ALPN (RFC 7301). Nobody without the key gets
 * further than the first flight, and the server has nothing that it could show to others.
 */
import type { TcpNetConnectOpts } from 'node:net'
import { connect, type ConnectionOptions, type TlsOptions, type TLSSocket } from 'node:tls'

/** Node hands an external key to this suite alone: its hash goes with the key. */
const SHARED = {
  minVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256',
  ecdhCurve: 'X25519MLKEM768:X25519',
} as const satisfies TlsOptions & ConnectionOptions

export type ServerKeys = {
  /** The key for an identity that a client names, 32 bytes. Undefined: refused. */
  readonly find: (socket: TLSSocket, identity: string) => Uint8Array | undefined
  /** Whether streams of that protocol are taken. */
  readonly serves: (protocol: string) => boolean
  readonly timeoutMs: number
}

/** Options of a server. */
export function serverOptions({ find, serves, timeoutMs }: ServerKeys): TlsOptions {
  return {
    ...SHARED,
    handshakeTimeout: timeoutMs,
    // A ticket would be a key that no session knows of.
    sessionTimeout: 1,
    pskCallback: (socket, identity) => find(socket, identity) ?? null,
    ALPNCallback: ({ protocols }) => (protocols.length === 1 ? protocols.find(serves) : undefined),
  }
}

/** Where to, and what for. */
export type ClientOptions = {
  readonly host: string
  readonly port: number
  readonly identity: string
  /** 32 bytes. */
  readonly key: Uint8Array
  readonly protocol: string
  readonly signal: AbortSignal
}

/** Resolves with a socket after its handshake. Rejects with whatever went wrong, or the signal's reason. */
export function dial({ host, port, identity, key, protocol, signal }: ClientOptions): Promise<TLSSocket> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
  // Node hands these on to the socket below.
  const below: TcpNetConnectOpts = { host, port, noDelay: true, keepAlive: true }
  const socket = connect({
    ...below,
    ...SHARED,
    ALPNProtocols: [protocol],
    pskCallback: () => ({ identity, psk: key }),
    // Called where a server comes with a certificate, whoever has signed it: it has not got the key.
    checkServerIdentity: () => new Error('the other side has no key'),
    ca: [],
  })
  const onAbort = (): void => void socket.destroy(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
  signal.addEventListener('abort', onAbort, { once: true })
  const onError = (error: Error): void => reject(error)
  const onClose = (): void => reject(new Error('the other side has closed the connection'))
  socket.once('error', onError)
  socket.once('close', onClose)
  socket.once('secureConnect', () => {
    socket.off('error', onError)
    socket.off('close', onClose)
    if (socket.alpnProtocol === protocol && isKeyed(socket)) resolve(socket)
    else {
      socket.destroy()
      reject(new Error('the other side does not take the stream'))
    }
  })
  return promise.finally(() => signal.removeEventListener('abort', onAbort))
}

/** OpenSSL counts a handshake with a key as a session that is used again, and one with certificates not. */
export function isKeyed(socket: TLSSocket): boolean {
  return socket.isSessionReused() && socket.getProtocol() === 'TLSv1.3'
}
