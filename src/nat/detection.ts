/**
 * From what was seen outside to the kind of NAT inside. Pure: `detect.ts` does the asking for UDP; for TCP peers report
 * what they see.
 *
 * Everything here came from others, who may be wrong or lie. So observations are bounded, malformed ones do not count, and
 * for TCP, where any peer may report, the outside address is the one that most peers at different addresses name.
 */
import { isUnicast } from './ip.ts'
import { OBSERVATIONS_MAX } from './limits.ts'
import { type PortPattern, portPatternOf } from './port-prediction.ts'
import type { Endpoint, FilteringBehaviour, MappingBehaviour, NatKind } from './types.ts'

/** That somebody sees one of our sockets at an endpoint. */
export type Observation = {
  readonly localPort: number
  /** Who sees it: where our packets went. */
  readonly remote: Endpoint
  readonly observed: Endpoint
}

/** Whether an answer came from another address or port than the request had gone to. */
export type FilteringTest = 'answered' | 'silent' | 'untested'

export type UdpEvidence = {
  /** The addresses of this machine. */
  readonly localAddresses: readonly string[]
  /** Servers that were asked. */
  readonly asked: number
  /** In the order in which the packets went out. */
  readonly observations: readonly Observation[]
  readonly filtering: {
    /** From another address and another port of the server. */
    readonly otherAddress: FilteringTest
    /** From the same address, another port. */
    readonly otherPort: FilteringTest
  }
}

export type NatVerdict = {
  readonly kind: NatKind
  readonly mapping: MappingBehaviour
  readonly filtering: FilteringBehaviour
  /** The address outside; undefined where nobody saw us, or where observers disagree. */
  readonly address: string | undefined
  /** How outside ports are chosen. */
  readonly ports: PortPattern
}

/** What UDP evidence says. */
export function udpVerdictOf(evidence: UdpEvidence): NatVerdict {
  const observations = soundOf(evidence.observations)
  const mapping = mappingOf(observations, evidence.localAddresses)
  const filtering = filteringOf(evidence.filtering)
  return {
    kind: observations.length === 0 && evidence.asked > 0 ? 'blocked' : natKindOf(mapping, filtering),
    mapping,
    filtering,
    address: commonAddress(observations),
    ports: portPatternOf(samplesOf(observations)),
  }
}

/**
 * The kind that people know, of a mapping and a filtering. Where filtering was not tested, the strictest that the mapping
 * allows is assumed: whoever plans with it is at worst pleasantly surprised.
 */
export function natKindOf(mapping: MappingBehaviour, filtering: FilteringBehaviour): NatKind {
  if (mapping === 'unknown') return 'unknown'
  if (mapping === 'direct') return 'none'
  if (mapping !== 'endpoint-independent') return 'symmetric'
  if (filtering === 'endpoint-independent') return 'full-cone'
  return filtering === 'address-dependent' ? 'restricted' : 'port-restricted'
}

/**
 * How sockets are mapped, from those that several others saw.
 * @param localAddresses the addresses of this machine
 */
export function mappingOf(observations: readonly Observation[], localAddresses: readonly string[]): MappingBehaviour {
  if (observations.length === 0) return 'unknown'
  const isDirect = (each: Observation): boolean =>
    localAddresses.includes(each.observed.address) && each.observed.port === each.localPort
  if (observations.every(isDirect)) return 'direct'
  let behaviour: MappingBehaviour = 'unknown'
  for (const a of observations) {
    for (const b of observations) {
      if (a.localPort !== b.localPort || isSame(a.remote, b.remote)) continue
      const isOneAddress = a.remote.address === b.remote.address
      const isOneMapping = isSame(a.observed, b.observed)
      // Two ports of one address that see different things settle it: nothing depends on more.
      if (!isOneMapping && isOneAddress) return 'address-and-port-dependent'
      if (!isOneMapping) behaviour = 'endpoint-dependent'
      else if (!isOneAddress && behaviour === 'unknown') behaviour = 'endpoint-independent'
    }
  }
  if (behaviour !== 'endpoint-dependent') return behaviour
  return sawTwoPortsOfOneAddress(observations) ? 'address-dependent' : 'endpoint-dependent'
}

/** What the tests of RFC 5780, 4.4, say. */
export function filteringOf(tests: UdpEvidence['filtering']): FilteringBehaviour {
  if (tests.otherAddress === 'answered') return 'endpoint-independent'
  if (tests.otherAddress === 'untested') return 'unknown'
  if (tests.otherPort === 'answered') return 'address-dependent'
  return tests.otherPort === 'silent' ? 'address-and-port-dependent' : 'unknown'
}

/**
 * What peers' reports about TCP connections say. The kind tells about mapping only: `none`, `symmetric`, or
 * `port-restricted` for every NAT that maps alike for all, since TCP filtering is not seen from within.
 * @param observations for each connection the local port, the peer's own endpoint, and the endpoint at which it sees us; in
 * the order in which the connections were made. At most `OBSERVATIONS_MAX` are looked at, the latest ones.
 */
export function tcpMappingFrom(
  observations: readonly Observation[],
  options: { readonly localAddresses?: readonly string[] } = {},
): NatVerdict {
  const sound = soundOf(observations)
  const address = commonAddress(sound)
  // Who names another address than most sees another way out, or lies; neither says anything about this one.
  const agreed = address === undefined ? sound : sound.filter(each => each.observed.address === address)
  const mapping = mappingOf(agreed, options.localAddresses ?? [])
  return {
    kind: natKindOf(mapping, 'unknown'),
    mapping,
    filtering: 'unknown',
    address,
    ports: portPatternOf(samplesOf(agreed)),
  }
}

function soundOf(observations: readonly Observation[]): Observation[] {
  const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65_536
  return observations
    .slice(-OBSERVATIONS_MAX)
    .filter(each => isPort(each.localPort) && isPort(each.observed.port) && isUnicast(each.observed.address))
}

/** The address that most observers at different addresses name; undefined where two are named equally often. */
function commonAddress(observations: readonly Observation[]): string | undefined {
  const observers = new Map<string, Set<string>>()
  for (const { observed, remote } of observations) {
    const known = observers.get(observed.address) ?? new Set()
    observers.set(observed.address, known.add(remote.address))
  }
  const [first, second] = [...observers].sort((a, b) => b[1].size - a[1].size)
  if (first === undefined || first[1].size === second?.[1].size) return undefined
  return first[0]
}

/** Each mapping once, in the order of its first packet. */
function samplesOf(
  observations: readonly Observation[],
): { readonly insidePort: number; readonly outsidePort: number }[] {
  const seen = new Set<string>()
  const samples = observations.map(each => ({ insidePort: each.localPort, outsidePort: each.observed.port }))
  return samples.filter(({ insidePort, outsidePort }) => {
    const key = `${insidePort} ${outsidePort}`
    return seen.has(key) ? false : seen.add(key)
  })
}

function sawTwoPortsOfOneAddress(observations: readonly Observation[]): boolean {
  return observations.some(a =>
    observations.some(
      b => a.localPort === b.localPort && a.remote.address === b.remote.address && a.remote.port !== b.remote.port,
    ),
  )
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port
}
