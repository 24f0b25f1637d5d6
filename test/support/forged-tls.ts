/**
 * libp2p nodes whose TLS or encryption is not in order, and that count what comes over it. They listen or dial on loopback
 * with the packages' own parts; only the certificate, or the name of the encryption, is another.
 */
import type { ConnectionEncrypter } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import type { NodePrivateKey } from '#crypto'

export type Encrypter = (components: Parameters<ReturnType<typeof tls>>[0]) => ConnectionEncrypter
type Cleaner = { after(action: () => Promise<void>): void }

/** A node with this encryption alone, listening on a port of the system's choice. */
export async function startForger(
  test: Cleaner,
  options: { readonly key: NodePrivateKey; readonly encrypter: Encrypter },
): Promise<Libp2p> {
  const libp2p = await createLibp2p({
    privateKey: options.key,
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [options.encrypter],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  })
  test.after(async () => {
    await libp2p.stop()
  })
  return libp2p
}

/** TLS with a certificate that was made, as it says, so long ago or ahead. */
export function tlsOfAnotherTime(shiftMs: number): Encrypter {
  return components => {
    const inner = tls()(components)
    // The package reads the clock once, before its first wait.
    const shifted = <T>(action: () => T): T => {
      const now = Date.now
      Date.now = () => now() + shiftMs
      try {
        return action()
      } finally {
        Date.now = now
      }
    }
    return {
      protocol: inner.protocol,
      secureInbound: (connection, options) => shifted(() => inner.secureInbound(connection, options)),
      secureOutbound: (connection, options) => shifted(() => inner.secureOutbound(connection, options)),
    }
  }
}

/** TLS that counts the bytes which the other side says inside of it, and tells when a socket below it is gone. */
export function countingTls({
  onBytes,
  onGone,
}: {
  readonly onBytes: (count: number) => void
  readonly onGone: () => void
}): Encrypter {
  return components => {
    const inner = tls()(components)
    const counted = <T extends { readonly connection: EventTarget }>(secured: T): T => {
      secured.connection.addEventListener('message', event => {
        onBytes((event as Event & { readonly data: { readonly byteLength: number } }).data.byteLength)
      })
      return secured
    }
    return {
      protocol: inner.protocol,
      secureInbound: async (connection, options) => {
        connection.addEventListener('close', onGone)
        return counted(await inner.secureInbound(connection, options))
      },
      secureOutbound: async (connection, options) => counted(await inner.secureOutbound(connection, options)),
    }
  }
}

/** Encryption that another node may offer and ours does not know; there is none behind the name. */
export function encryptionCalled(protocol: string): Encrypter {
  const refuse = async (): Promise<never> => {
    throw new Error('nobody should come so far')
  }
  return () => ({ protocol, secureInbound: refuse, secureOutbound: refuse })
}
