/** Who calls whom, and who listens, in one attempt by TCP. Pure, and both sides come to plans that fit. */
import type { PunchTcpOffer } from '#wire'
import { callable, type Endpoint, type LocalNetwork } from './endpoints.ts'

export type TcpPlan = {
  /** Whom to call. */
  readonly targets: readonly Endpoint[]
  /** Also listen at the local port, once the calls are on their way. */
  readonly listens: boolean
  /** Call again where a call is refused: not beside a listener, whose port the system would not give to a call. */
  readonly redials: boolean
}

export type TcpPlanOptions = {
  /** From 0. */
  readonly attempt: number
  /** The two sides differ. */
  readonly isOutbound: boolean
  readonly networks: readonly LocalNetwork[]
}

/**
 * Whether the attempt can work: a random port must meet a listener, and that at a port which is known. Where the first
 * attempt with such a port fails, the listener's NAT looks at ports, and the next fails too.
 */
export function canPunchTcp(mine: PunchTcpOffer, theirs: PunchTcpOffer, attempt: number): boolean {
  if (mine.outside.length === 0 || theirs.outside.length === 0) return false
  const mappings = [mine.mapping, theirs.mapping]
  if (mappings.includes('unknown')) return false
  if (isOneNetwork(mine, theirs)) return true
  if (!mappings.includes('random')) return true
  return mappings.includes('stable') && attempt === 0
}

/** What we do. */
export function tcpPlan(mine: PunchTcpOffer, theirs: PunchTcpOffer, options: TcpPlanOptions): TcpPlan {
  const { attempt, isOutbound, networks } = options
  const outside = oneAddress(theirs.outside)
  const isNear = isOneNetwork(mine, theirs)
  // A stable side can call several ports at no cost; another one would get a port more for each, none of them foreseen.
  const calls = mine.mapping === 'stable' ? outside : outside.slice(0, 1)
  const all = isNear ? [...theirs.inside, ...calls] : calls
  const isFirst = ({ address, port }: Endpoint, index: number): boolean =>
    all.findIndex(other => other.address === address && other.port === port) === index
  const targets = callable(all.filter(isFirst), networks)
  // Calls that do not cross on their way are refused, as between neighbours; then one side takes them.
  const isRefused = isNear || (attempt > 0 && mine.mapping === theirs.mapping && mine.mapping === 'stable')
  const meetsOther = mine.mapping === 'stable' && theirs.mapping !== 'stable'
  const listens = isRefused ? !isOutbound : meetsOther
  return { targets, listens, redials: !listens }
}

/** Seen at one address outside, so perhaps behind one NAT. */
function isOneNetwork(mine: PunchTcpOffer, theirs: PunchTcpOffer): boolean {
  return mine.outside[0]?.address === theirs.outside[0]?.address
}

/** A socket is seen at one address. A list of several would be one of strangers to call. */
function oneAddress(endpoints: readonly Endpoint[]): Endpoint[] {
  return endpoints.filter(({ address }) => address === endpoints[0]?.address)
}
