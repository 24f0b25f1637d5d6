/**
 * From evidence to a verdict: which places may lead here from outside, which of them are told to others, and what kind of
 * node this is. Pure.
 */
import type { PortMapping } from '#nat'
import type { NodeType, TransportReach } from '#wire'
import { isPublicIp, keyOfPlace, type Place, type Transport } from './address.ts'
import { CANDIDATES_MAX } from './limits.ts'
import type { Reachability } from './proofs.ts'

/**
 * `interface`: a public address of this machine. `gateway`: a port that it maps. `peers`: an address that peers in several
 * networks see us at, with a port that we listen at: perhaps somebody forwards it.
 */
export type Source = 'owner' | 'interface' | 'gateway' | 'peers'
export type Candidate = { readonly place: Place; readonly source: Source }

export type Evidence = {
  /** Where the host itself listens, as multiaddrs decode; the data plane is not among them. */
  readonly listening: readonly Place[]
  readonly planePort: number | undefined
  /** Those of the owner that are IP addresses. */
  readonly owned: readonly Place[]
  readonly mappings: readonly PortMapping[]
  /** IP addresses at which peers in several networks see us, and places at which they say to have dialled us there. */
  readonly agreed: readonly string[]
  readonly dialled: readonly Place[]
  readonly isUsable?: (ip: string) => boolean
}

/** Every place that is worth a dial-back, the likeliest first, each once. */
export function candidatesOf(evidence: Evidence): Candidate[] {
  const { listening, planePort, owned, mappings, agreed, dialled, isUsable = isPublicIp } = evidence
  const found: Candidate[] = owned.map(place => ({ place, source: 'owner' }))
  const own = listening.filter(({ ip }) => isUsable(ip))
  found.push(...own.map(place => ({ place, source: 'interface' as const })))
  for (const mapping of mappings) {
    const ip = mapping.externalAddress
    // What the gateway calls outside may be the inside of another NAT: then peers see us elsewhere.
    const isOutside = agreed.length === 0 || agreed.includes(ip)
    if (!mapping.isPublic || !isUsable(ip) || !isOutside) continue
    for (const transport of transportsAt(evidence, mapping)) {
      found.push({ place: { ip, port: mapping.externalPort, transport }, source: 'gateway' })
    }
  }
  const outside = agreed.filter(ip => isUsable(ip) && !own.some(place => place.ip === ip))
  for (const ip of outside) {
    const ports = new Map(listening.map(place => [`${place.transport} ${place.port}`, place]))
    for (const { port, transport } of ports.values()) found.push({ place: { ip, port, transport }, source: 'peers' })
    const forwarded = dialled.filter(place => place.ip === ip)
    found.push(...forwarded.map(place => ({ place, source: 'peers' as const })))
  }
  if (planePort !== undefined) {
    // Peers take the plane to be at the address where they reach us, so its port must be the same outside.
    for (const ip of new Set([...own.map(place => place.ip), ...outside])) {
      found.push({ place: { ip, port: planePort, transport: 'plane' }, source: 'peers' })
    }
  }
  const byKey = new Map<string, Candidate>()
  for (const each of found) if (!byKey.has(keyOfPlace(each.place))) byKey.set(keyOfPlace(each.place), each)
  return [...byKey.values()].slice(0, CANDIDATES_MAX)
}

/** What listens behind a mapped port. */
function transportsAt({ listening, planePort }: Evidence, mapping: PortMapping): Transport[] {
  const transports = listening
    .filter(({ port, transport }) => {
      return port === mapping.internalPort && (transport === 'quic') === (mapping.protocol === 'udp')
    })
    .map(({ transport }) => transport)
  const isPlane = mapping.protocol === 'tcp' && mapping.internalPort === planePort
  if (isPlane && mapping.externalPort === planePort) transports.push('plane')
  return [...new Set(transports)]
}

export type Judged = Candidate & { readonly reach: Reachability }

/** Those that others are told of, beside what the host listens at itself. */
export function externalOf(judged: readonly Judged[]): Judged[] {
  return judged.filter(({ place, source, reach }) => {
    if (place.transport === 'plane' || source === 'interface') return false
    // The owner and the gateway are believed until the contrary is shown; what peers see only says where to look.
    return source === 'owner' || reach === 'reachable' || (source === 'gateway' && reach !== 'not')
  })
}

/**
 * @param hasOwned whether the owner says an address, be it one that is no IP address
 * @param isSettled whether nothing is under way that could still find a way in
 */
export function typeOf(judged: readonly Judged[], hasOwned: boolean, isSettled: boolean): NodeType {
  const ways = judged.filter(({ place }) => place.transport !== 'plane')
  if (hasOwned || ways.some(({ reach }) => reach === 'reachable')) return 'public'
  const isOpen = ways.some(({ source, reach }) => source !== 'peers' && reach === 'unknown')
  return isOpen || !isSettled ? 'unknown' : 'nat'
}

/** The best that is known of each transport. */
export function transportsOf(
  judged: readonly Judged[],
  evidence: Pick<Evidence, 'listening' | 'planePort'>,
  type: NodeType,
): Readonly<Record<Transport, TransportReach>> {
  const reachOf = (transport: Transport): TransportReach => {
    const isOff =
      transport === 'plane'
        ? evidence.planePort === undefined
        : !evidence.listening.some(place => place.transport === transport)
    if (isOff) return 'off'
    const ways = judged.filter(({ place }) => place.transport === transport)
    if (ways.some(({ source, reach }) => reach === 'reachable' || (source === 'owner' && reach !== 'not'))) {
      return 'reachable'
    }
    if (ways.some(({ reach }) => reach === 'unknown')) return 'unknown'
    return ways.length > 0 || type === 'nat' ? 'not' : 'unknown'
  }
  return { tcp: reachOf('tcp'), quic: reachOf('quic'), ws: reachOf('ws'), plane: reachOf('plane') }
}
