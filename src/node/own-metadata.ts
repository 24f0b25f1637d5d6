/** What this node tells the DHTs about itself, put together from what listening, relaying and being reached have found. */
import type { OwnFacts, Place, RelayInUse } from '#discovery'
import type { Host } from '#net'
import type { Reach } from '#reach'
import { PROTOCOLS, type RelayStatus } from '#wire'

export type MetadataParts = {
  readonly host: Pick<Host, 'addresses' | 'listening' | 'planePort' | 'relay'>
  readonly reach: Pick<Reach, 'type' | 'status'>
  readonly capabilities: readonly string[]
}

export function ownFacts({ host, reach, capabilities }: MetadataParts): OwnFacts {
  const { external, isLocalOnly } = reach.status()
  // On one machine everybody can dial everybody: a swarm there is an internet of its own.
  const isPublic = reach.type === 'public' || isLocalOnly
  const { serving, held } = host.relay.status()
  const relay = isPublic ? undefined : relayInUse(held, host.relay.addresses())
  const inside = placeOf(host.listening())
  const proved = placeOf(external.filter(({ reach: is }) => is !== 'not').map(({ address }) => address))
  const outside = isLocalOnly ? inside : proved
  const plane = host.planePort === undefined ? {} : { plane: host.planePort }
  return {
    nodeType: isPublic ? 'public' : 'private',
    isRelay: isPublic && serving.isServing,
    ...(outside === undefined ? {} : { publicPlace: isPublic ? { ...outside, ...plane } : outside }),
    ...(inside === undefined ? {} : { privatePlace: { ...inside, ...plane } }),
    addresses: host.addresses(),
    ...(relay === undefined ? {} : { relay }),
    protocols: [PROTOCOLS.control, PROTOCOLS.stage],
    capabilities,
  }
}

const ADDRESS = /^\/ip[46]\/([0-9a-fA-F.:]+)\/(tcp|udp)\/(\d+)(\/quic-v1)?(?:\/p2p\/[^/]+)?$/

/** The host of the first address, and its ports. */
function placeOf(addresses: readonly string[]): Place | undefined {
  const found: { host?: string; tcp?: number; quic?: number } = {}
  for (const address of addresses) {
    const [, host, protocol, port, quic] = ADDRESS.exec(address) ?? []
    if (host === undefined || (found.host ?? host) !== host) continue
    found.host = host
    if (protocol === 'tcp') found.tcp ??= Number(port)
    else if (quic !== undefined) found.quic ??= Number(port)
  }
  const { host, ...ports } = found
  return host === undefined ? undefined : { host, ...ports }
}

const CIRCUIT = /^(\/.+)\/p2p\/([^/]+)\/p2p-circuit\/p2p\/[^/]+$/

/** The first reservation whose relay's address is known. */
function relayInUse(held: RelayStatus['held'], circuits: readonly string[]): RelayInUse | undefined {
  for (const circuit of circuits) {
    const [, address, peer] = CIRCUIT.exec(circuit) ?? []
    const reservation = held.find(({ relay }) => relay === peer)
    if (address !== undefined && reservation !== undefined) {
      return { peer: reservation.relay, session: reservation.session, address }
    }
  }
  return undefined
}
