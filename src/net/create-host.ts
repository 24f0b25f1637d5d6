/** Makes a host of its options: libp2p with the transports that there are, checked settings, and who may come. */
import { Libp2pHost } from './host.ts'
import type { HostDeps } from './host-deps.ts'
import { NetError, stopped } from './errors.ts'
import { createNode } from './libp2p.ts'
import { ALLOWED_PEERS_MAX } from './limits.ts'
import { checkSettings } from './settings.ts'
import type { Host, HostInside, HostOptions } from './types.ts'

/**
 * Makes a host that has not been started.
 * @throws NetError NET_SETTINGS_INVALID, NET_QUIC_MISSING, NET_LISTEN_FAILED where the addresses do not fit the transports
 */
export async function createHost(deps: HostDeps, options: HostOptions): Promise<Host> {
  const host: { current?: Libp2pHost } = {}
  const settings = checkSettings(options.settings ?? {})
  const allows = allowing(options.allow ?? [])
  const quicKey = options.transport === 'tcp' ? undefined : await deps.identity.wholeKey?.()
  const node = await createNode({
    settings,
    allows,
    ...(quicKey === undefined ? {} : { quicKey }),
    ...(options.transport === undefined ? {} : { transport: options.transport }),
    ...(options.services === undefined ? {} : { services: options.services(insideOf(() => host.current)) }),
    key: deps.identity.privateKey,
    listen: options.listen,
    mdns: options.mdns,
    refusesInbound: from => host.current?.sessions.refusesInbound(from) ?? true,
    onConnection: connection => host.current?.sessions.onConnection(connection),
    onFound: peer => host.current?.onFound(peer.id.toString(), peer.multiaddrs.map(String)),
  })
  if (node.quicMissing !== undefined) {
    deps.log.warn('this node does without QUIC and uses TCP alone', { reason: node.quicMissing })
  }
  host.current = new Libp2pHost({ ...deps, node, settings, allows }, options)
  return host.current
}

function insideOf(host: () => Libp2pHost | undefined): HostInside {
  return {
    connection: async (peer, addresses, options) => {
      const session = await host()?.sessionWith(peer, { ...options, addresses })
      if (session === undefined) throw stopped()
      return session.connection
    },
    isAdmitted: connection => host()?.sessions.get(connection)?.isAdmitted === true,
  }
}

/** Without a list everybody is. */
function allowing(list: readonly string[]): (peer: string) => boolean {
  if (list.length > ALLOWED_PEERS_MAX) {
    throw new NetError({ code: 'NET_SETTINGS_INVALID' }, `at most ${ALLOWED_PEERS_MAX} peers can be listed`)
  }
  const allowed = new Set(list)
  return peer => allowed.size === 0 || allowed.has(peer)
}
