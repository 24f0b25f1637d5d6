/** The state of this module in plain data, for people and programs. Pure. */
import type { NatReport, PortMapping } from '#nat'
import type { NatName, ReachReport, NodeType } from '#wire'
import { encodePlace } from './address.ts'
import { externalOf, type Judged } from './candidates.ts'
import { pathsOf } from './paths.ts'

export type ReachState = {
  readonly type: NodeType
  readonly judged: readonly Judged[]
  readonly external: readonly string[]
  readonly owned: readonly string[]
  readonly transports: ReachReport['transports']
  readonly isLocalOnly: boolean
  readonly nat: { readonly report: NatReport | undefined; readonly ageMs: number; readonly servers: number }
  readonly agreed: readonly string[]
  readonly localAddresses: readonly string[]
  readonly mapping: {
    readonly isOff: boolean
    readonly isAsking: boolean
    readonly isWanted: boolean
    readonly ports: readonly PortMapping[]
  }
  readonly stunPort: number | undefined
}

export function describeReach(state: ReachState): ReachReport {
  const { type, transports, isLocalOnly, stunPort } = state
  const nat = describeNat(state)
  const { ports } = state.mapping
  return {
    type,
    mayRelay: type === 'public',
    isLocalOnly,
    nat,
    external: describeExternal(state),
    transports,
    mapping: {
      state: mappingState(state.mapping),
      ports: ports.map(({ protocol, internalPort, externalAddress, externalPort, via, isPublic }) => {
        return { protocol, internalPort, externalAddress, externalPort, via, isPublic }
      }),
    },
    ...(stunPort === undefined ? {} : { stunPort }),
    paths: pathsOf({ kind: strictest(nat), isForeseen: isForeseen(nat), isPublic: type === 'public' }),
  }
}

function describeNat({ nat, agreed, localAddresses }: ReachState): ReachReport['nat'] {
  const { report, ageMs, servers } = nat
  const seen = agreed[0]
  if (report !== undefined) {
    const address = report.address ?? seen
    return {
      kind: report.kind,
      mapping: report.mapping,
      filtering: report.filtering,
      ports: report.ports.kind,
      ...(address === undefined ? {} : { address }),
      servers,
      ageMs: Math.round(ageMs),
    }
  }
  // Without STUN servers peers still tell whether there is a NAT, though not which.
  const isDirect = seen !== undefined && localAddresses.includes(seen)
  return {
    kind: isDirect ? 'none' : 'unknown',
    mapping: isDirect ? 'direct' : 'unknown',
    filtering: 'unknown',
    ports: 'unknown',
    ...(seen === undefined ? {} : { address: seen }),
    servers,
  }
}

/** A machine without a NAT that nobody can dial sits behind a firewall: it is to be planned with as the NAT of that filter. */
export function strictest({ kind, filtering }: Pick<ReachReport['nat'], 'kind' | 'filtering'>): NatName {
  if (kind !== 'none' || filtering === 'endpoint-independent') return kind
  return filtering === 'address-dependent' ? 'restricted' : 'port-restricted'
}

/** Whether the NAT's next port can be told. */
export function isForeseen({ ports }: Pick<ReachReport['nat'], 'ports'>): boolean {
  return ports === 'sequence' || ports === 'offset' || ports === 'preserved'
}

function describeExternal({ judged, owned }: ReachState): ReachReport['external'] {
  const told = [...judged.filter(({ source }) => source === 'interface'), ...externalOf(judged)]
  const described = told
    .filter(({ place }) => place.transport !== 'plane')
    .map(({ place, source, reach }) => ({ address: encodePlace(place), source, reach }))
  const known = new Set(described.map(({ address }) => address))
  const names = owned.filter(address => !known.has(address))
  return [...names.map(address => ({ address, source: 'owner' as const, reach: 'unknown' as const })), ...described]
}

function mappingState({ isOff, isAsking, isWanted, ports }: ReachState['mapping']): ReachReport['mapping']['state'] {
  if (ports.length > 0) return 'mapped'
  if (isOff) return 'off'
  if (!isWanted) return 'not-needed'
  return isAsking ? 'asking' : 'none'
}
