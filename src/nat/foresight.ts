/**
 * Where a peer will see the next connection from one local TCP port come from: what two nodes tell each other before both
 * dial at once. Pure.
 */
import { type Observation, tcpMappingFrom } from './detection.ts'
import { predictPorts } from './port-prediction.ts'

/** Ports of a mapping that can be foreseen: others may take some in between. */
const FORESEEN_PORTS_MAX = 3

export type TcpForesight = {
  /** `stable`: the same for all destinations; `foreseen`: another one for each, in order; `random`: nobody can tell. */
  readonly mapping: 'stable' | 'foreseen' | 'random' | 'unknown'
  /** Outside; undefined where observers disagree. */
  readonly address: string | undefined
  /** The likeliest first; with `random` the last that was seen, which the next will not be. */
  readonly ports: readonly number[]
}

/**
 * @param observations of connections from one local port, in the order in which they were made
 * @param localAddresses the addresses of this machine
 */
export function foreseeTcp(observations: readonly Observation[], localAddresses: readonly string[]): TcpForesight {
  const { mapping, address, ports } = tcpMappingFrom(observations, { localAddresses })
  const last = observations.findLast(({ observed }) => observed.address === address)
  if (address === undefined || last === undefined) return { mapping: 'unknown', address: undefined, ports: [] }
  const { localPort, observed } = last
  // A mapping that only one observer saw, at several ports of its or at one, is taken for the common kind.
  const isStable = mapping === 'direct' || mapping === 'endpoint-independent' || mapping === 'unknown'
  if (isStable) return { mapping: 'stable', address, ports: [observed.port] }
  const foreseen = predictPorts(ports, localPort, FORESEEN_PORTS_MAX)
  if (foreseen.length > 0) return { mapping: 'foreseen', address, ports: foreseen }
  return { mapping: 'random', address, ports: [observed.port] }
}
