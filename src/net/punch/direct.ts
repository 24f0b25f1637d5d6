/** Puts the parts of coming to a direct connection together, between a host's own parts and what it was given. */
import { abortable, type ByteStream, type Clock, type Logger, messageOf, type Random, withDeadline } from '#base'
import type { Multiaddr } from '@multiformats/multiaddr'
import { type Address, decodeAddress, isLoopback } from '../address.ts'
import type { Connector } from '../connector.ts'
import { CONNECT_TIMEOUT_MS } from '../limits.ts'
import type { Paths } from '../paths.ts'
import type { PeerTable } from '../peer-table.ts'
import type { Session } from '../session.ts'
import type { PeerPath } from '../types.ts'
import { isNeighbour, isPublicAddress, localNetworks } from './endpoints.ts'
import { createIceWay } from './ice-way.ts'
import type { ObserverPeer } from './locate.ts'
import { Observer } from './observer.ts'
import { PathKeeper } from './path-keeper.ts'
import { Puncher } from './puncher.ts'
import { createTcpWay } from './tcp-way.ts'
import type { PunchTools, PunchWay } from './types.ts'

export type DirectDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly self: string
  readonly tools: PunchTools
  readonly connector: Connector
  readonly paths: Paths
  readonly table: PeerTable
  readonly sessions: Iterable<Session>
  /** What the listeners are bound to, wildcards expanded. */
  readonly listening: () => readonly Multiaddr[]
  /** Whether QUIC can be dialled. */
  readonly hasQuic: boolean
  /** Where the host was told to listen. */
  readonly hosts: readonly string[]
  /** Opens a punch stream to a joined peer. */
  readonly open: (peer: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
}

/** Betters the paths of a host's peers, and helps peers to do the same. */
export type Direct = {
  /** Serves a punch stream that a peer has opened. */
  serve(stream: ByteStream): Promise<void>
  /** Our addresses or NAT have changed: what failed may work now. */
  changed(): void
  /** Resolves when every socket is gone, after the host's own signal to stop. */
  stopped(): Promise<void>
}

/** Addresses of one peer that are dialled for a better path. */
const DIALLED_ADDRESSES_MAX = 8

export function createDirect(deps: DirectDeps): Direct {
  const { tools, table } = deps
  const networks = tools.networks ?? localNetworks
  const observer = new Observer(deps, { hosts: deps.hosts, ports: tools.observerPorts ?? [0, 0] })
  const ways = waysOf(deps)
  const puncher = new Puncher({
    ...deps,
    ways,
    observer,
    facts: () => ({ nat: tools.natKind(), listensQuic: quicListenerOf(deps) !== undefined }),
    pathTo: peer => table.session(peer)?.path.kind,
  })
  const keeper = new PathKeeper({
    ...deps,
    onPeer: listener => void table.onPeer(listener),
    addressesOf: ({ offer }) => {
      const own = offer.addresses.slice(0, DIALLED_ADDRESSES_MAX)
      return own.filter(address => isWorthADial(address, networks()))
    },
    dial: (peer, addresses, options) => dial(deps, { peer, addresses }, options),
    punch: (peer, options) => puncher.punch(peer, options),
    servedAt: peer => puncher.servedAt(peer),
    hasRoomFor: peer => puncher.hasRoom && !puncher.isBusyWith(peer),
  })
  return {
    serve: async stream => {
      try {
        await puncher.serve(stream)
      } catch (error) {
        deps.log.debug('a punch of a peer came to nothing', { peer: stream.peer, error: messageOf(error) })
        stream.abort(error instanceof Error ? error : new Error('the punch failed'))
      }
    },
    changed: () => keeper.changed(),
    stopped: async () => {
      await Promise.all([observer.stop(), ...ways.map(way => way.settled?.())])
    },
  }
}

/** The ways that this host can go, the better first. */
function waysOf(deps: DirectDeps): PunchWay[] {
  const { tools, connector, paths } = deps
  const joinedOver = (path: PeerPath, options: { readonly signal: AbortSignal }): Promise<void> =>
    joined(deps, path, options)
  const tcp = createTcpWay({
    ...deps,
    foresee: tools.foresee,
    networks: tools.networks ?? localNetworks,
    observers: () => observersOf(deps),
    adopt: (pipe, adoption) => connector.adopt(pipe, adoption),
    joinedOver,
  })
  if (tools.createIce === undefined || !deps.hasQuic) return [tcp]
  const ice = createIceWay({
    ...deps,
    createIce: tools.createIce,
    quicListener: () => quicListenerOf(deps),
    mark: (address, path) => paths.mark(address, path),
    dial: ({ peer, address }, options) => dial(deps, { peer, addresses: [address] }, options),
    joinedOver,
    goneFrom: path => goneFrom(deps.sessions, path),
  })
  return [tcp, ice]
}

function dial(
  { clock, connector, stopping }: DirectDeps,
  { peer, addresses }: { readonly peer: string; readonly addresses: readonly string[] },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const decoded = addresses.map(decodeAddress).filter(address => address !== undefined)
  const deadline = { what: 'a dial', timeoutMs: CONNECT_TIMEOUT_MS, signal: AbortSignal.any([signal, stopping]) }
  return withDeadline(clock, deadline, each => connector.dialBeside({ peer, addresses: decoded }, { signal: each }))
}

function isWorthADial(text: string, networks: Parameters<typeof isNeighbour>[1]): boolean {
  const address = decodeAddress(text)
  if (address === undefined || address.relay !== undefined) return false
  return isPublicAddress(address.host) || isNeighbour(address.host, networks)
}

/** Nodes that we dialled where they listen, the nearest first. Those in our own network see us as nobody outside does. */
function observersOf({ sessions }: Pick<DirectDeps, 'sessions'>): ObserverPeer[] {
  const dialled: { readonly session: Session; readonly address: Address }[] = []
  for (const session of sessions) {
    if (session.phase !== 'joined' || session.path.kind !== 'direct' || session.direction !== 'outbound') continue
    const address = decodeAddress(session.connection.remoteAddr.toString())
    if (address !== undefined) dialled.push({ session, address })
  }
  const outside = dialled.filter(({ address }) => isPublicAddress(address.host))
  const useful = outside.length > 0 ? outside : dialled.filter(({ address }) => isLoopback(address))
  const byDistance = useful.sort((a, b) => (a.session.rttMs ?? 1e6) - (b.session.rttMs ?? 1e6))
  const isIpv4 = ({ address }: { readonly address: Address }): boolean => !address.host.includes(':')
  const ordered = [...byDistance.filter(isIpv4), ...byDistance.filter(each => !isIpv4(each))]
  return ordered.map(({ session, address }) => ({ peer: session.peer, host: address.host }))
}

function quicListenerOf({ listening }: Pick<DirectDeps, 'listening'>): { host: string; port: number } | undefined {
  const found = listening().flatMap(target => {
    const address = decodeAddress(target.toString())
    const isUsable = address?.transport === 'quic' && address.relay === undefined && !address.host.includes(':')
    return isUsable ? [{ host: address.host, port: Number(target.getComponents()[1]?.value) }] : []
  })
  return found.find(({ host }) => host.startsWith('127.')) ?? found[0]
}

function sessionOver(sessions: Iterable<Session>, path: PeerPath): Session | undefined {
  for (const session of sessions) if (session.path === path) return session
  return undefined
}

async function joined(
  { sessions, table }: Pick<DirectDeps, 'sessions' | 'table'>,
  path: PeerPath,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const isJoined = (): boolean => sessionOver(sessions, path)?.phase === 'joined'
  if (isJoined()) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = table.onPeer(() => {
    if (isJoined()) resolve()
  })
  await abortable(promise, options.signal).finally(stop)
}

function goneFrom(sessions: Iterable<Session>, path: PeerPath): Promise<void> {
  const connection = sessionOver(sessions, path)?.connection
  if (connection === undefined || connection.status === 'closed') return Promise.resolve()
  return new Promise(resolve => connection.addEventListener('close', () => resolve(), { once: true }))
}
