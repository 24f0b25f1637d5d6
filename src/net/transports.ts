/** Which transports a host has, by its mode and by what this machine and the node's key allow. */
import type { ComponentLogger, Transport as LibP2pTransport } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import type { NodePrivateKey } from '#crypto'
import { decodeAddress } from './address.ts'
import { NetError } from './errors.ts'
import { loadQuicAddon, type QuicAddon } from './quic/addon.ts'
import { quic } from './quic/quic-transport.ts'
import type { NetSettings } from './settings.ts'
import type { Transport, TransportMode } from './types.ts'
import { webSocket } from './websocket.ts'

type Components = Parameters<ReturnType<typeof webSocket>>[0] & { readonly logger: ComponentLogger }

export type Mounted = {
  readonly transports: ((components: Components) => LibP2pTransport)[]
  /** What addresses may be dialled and listened on. */
  readonly kinds: ReadonlySet<Transport>
  /** Where both were wanted and only TCP is to be had: why. */
  readonly quicMissing?: string
}

export type MountOptions = {
  readonly mode: TransportMode
  readonly key: NodePrivateKey
  readonly settings: NetSettings
}

/** @throws NetError NET_QUIC_MISSING where nothing but QUIC is wanted and it cannot be had */
export async function mountTransports({ mode, key, settings }: MountOptions): Promise<Mounted> {
  const transports: Mounted['transports'] = []
  const kinds = new Set<Transport>()
  const addon = mode === 'tcp' ? { missing: 'not wanted' } : await quicFor(key)
  if (!('missing' in addon)) {
    transports.push(quic({ addon, key, settings }))
    kinds.add('quic')
  } else if (mode === 'quic') {
    throw new NetError({ code: 'NET_QUIC_MISSING', reason: addon.missing }, `QUIC cannot be had here: ${addon.missing}`)
  }
  if (mode !== 'quic') {
    transports.push(tcpOf(settings), webSocket({ writeBytesMax: settings.streamWriteBytes }))
    kinds.add('tcp').add('ws')
  }
  return { transports, kinds, ...(mode === 'dual' && 'missing' in addon ? { quicMissing: addon.missing } : {}) }
}

async function quicFor(key: NodePrivateKey): Promise<QuicAddon | { readonly missing: string }> {
  // The addon signs its certificate by itself, and a key in a token or a service never comes out.
  if (key.raw.byteLength === 0) return { missing: "the node's key is not in this process" }
  return loadQuicAddon()
}

/** The package takes some options with each dial only. */
function tcpOf(settings: NetSettings): (components: Components) => LibP2pTransport {
  const { tcpNoDelay, tcpKeepAliveMs, tcpIdleMs } = settings
  const socket = { noDelay: tcpNoDelay, keepAlive: tcpKeepAliveMs > 0, keepAliveInitialDelay: tcpKeepAliveMs }
  const idle = { inboundSocketInactivityTimeout: tcpIdleMs, outboundSocketInactivityTimeout: tcpIdleMs }
  const make = tcp({ ...idle, dialOpts: socket, listenOpts: socket })
  return components => {
    const transport = make(components)
    const dial = transport.dial.bind(transport)
    transport.dial = (address, options) => dial(address, { ...options, ...socket })
    return transport
  }
}

/**
 * Those of the addresses that can be listened on. In dual-stack without QUIC its addresses are left out.
 * @throws NetError NET_LISTEN_FAILED where an address is of a transport that the mode rules out, or nothing would be left
 */
export function listenable(listen: readonly string[], { kinds, quicMissing }: Mounted): string[] {
  const kept = listen.filter(text => {
    const transport = decodeAddress(text)?.transport
    // An address that is none is libp2p's to refuse.
    if (transport === undefined || kinds.has(transport)) return true
    if (transport === 'quic' && quicMissing !== undefined) return false
    const sentence = `${text} cannot be listened on: this node does without ${NAMES[transport]}`
    throw new NetError({ code: 'NET_LISTEN_FAILED' }, sentence)
  })
  if (kept.length > 0 || listen.length === 0) return kept
  throw new NetError({ code: 'NET_LISTEN_FAILED' }, `there is nothing to listen on: no QUIC here (${quicMissing})`)
}

const NAMES: Readonly<Record<Transport, string>> = { tcp: 'TCP', quic: 'QUIC', ws: 'WebSocket' }
