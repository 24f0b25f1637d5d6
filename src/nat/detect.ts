/**
 * Asks STUN servers what is needed to know the kind of NAT that this node is behind (RFC 5780), for UDP.
 *
 * Three sockets' worth of questions, at the same time: one socket asks every server, for the mapping; another one, which has
 * sent nothing to the server's other address, asks for answers from there, for the filtering; further ones, one after the
 * other, show which ports new mappings get. A server that says nothing costs one wait; the whole has a deadline.
 */
import type { Clock, Random } from '#base'
import { withDeadline } from '#base'
import { type FilteringTest, type NatVerdict, type Observation, udpVerdictOf } from './detection.ts'
import { isPrivate, isUnicast } from './ip.ts'
import { DETECTION_ANSWER_MS_MAX, DETECTION_MS_MAX, DETECTION_SERVERS_MAX, DETECTION_SOCKETS_MAX } from './limits.ts'
import { type BindingAnswer, StunClient } from './stun/client.ts'
import type { Endpoint, OpenUdp, UdpSocket } from './types.ts'

export type DetectDeps = { readonly clock: Clock; readonly random: Random; readonly openUdp: OpenUdp }

export type DetectOptions = {
  /** STUN servers, by IP address. Two at different addresses at least; one that has two addresses tells filtering too. */
  readonly servers: readonly Endpoint[]
  /** The addresses of this machine: `localAddresses()`. */
  readonly localAddresses: readonly string[]
  /** The local address to ask from. @default all */
  readonly bindAddress?: string
  readonly signal?: AbortSignal
}

export type NatReport = NatVerdict & {
  /** Where the servers saw our sockets, in the order of the questions. */
  readonly observations: readonly Observation[]
}

/**
 * Detects the NAT between this node and the servers.
 * @throws NatError NAT_SOCKET_FAILED; TimeoutError; the signal's reason
 */
export async function detectNat(deps: DetectDeps, options: DetectOptions): Promise<NatReport> {
  const servers = options.servers.slice(0, DETECTION_SERVERS_MAX)
  const deadline = {
    what: 'the detection of the NAT',
    timeoutMs: DETECTION_MS_MAX,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  }
  return withDeadline(deps.clock, deadline, async signal => {
    const asker: Asker = { deps, bindAddress: options.bindAddress, signal }
    const mapping = await withSocket(asker, ask => askMapping(ask, servers))
    const filtering = await withSocket(asker, ask => askFiltering(ask, mapping.twoAddresses))
    const ports = await askPorts(asker, mapping.answering)
    const observations = [...mapping.observations, ...ports]
    const { localAddresses } = options
    const verdict = udpVerdictOf({ localAddresses, asked: servers.length, observations, filtering })
    return { ...verdict, observations }
  })
}

type Asker = { readonly deps: DetectDeps; readonly bindAddress: string | undefined; readonly signal: AbortSignal }

type Ask = {
  readonly socket: UdpSocket
  readonly binding: (server: Endpoint, change?: Change) => Promise<BindingAnswer>
}

type Change = { readonly address: boolean; readonly port: boolean; readonly from: Endpoint }

async function withSocket<T>(asker: Asker, task: (ask: Ask) => Promise<T>): Promise<T> {
  const { deps, bindAddress, signal } = asker
  const socket = await deps.openUdp(bindAddress === undefined ? {} : { address: bindAddress })
  const client = new StunClient({ ...deps, socket })
  try {
    return await task({
      socket,
      binding: (server, change) =>
        client.binding(server, {
          timeoutMs: DETECTION_ANSWER_MS_MAX,
          signal,
          ...(change === undefined ? {} : { change }),
        }),
    })
  } finally {
    client.close()
    await socket.close()
  }
}

type MappingAnswers = {
  readonly observations: readonly Observation[]
  /** A server that answers; the next sockets ask it. */
  readonly answering: Endpoint | undefined
  /** One that has a second address. */
  readonly twoAddresses: { readonly first: Endpoint; readonly other: Endpoint } | undefined
}

async function askMapping(ask: Ask, servers: readonly Endpoint[]): Promise<MappingAnswers> {
  const observations: Observation[] = []
  const localPort = ask.socket.local.port
  const answers = await Promise.all(servers.map(async remote => ({ remote, answer: await ask.binding(remote) })))
  let answering: Endpoint | undefined
  let twoAddresses: MappingAnswers['twoAddresses']
  for (const { remote, answer } of answers) {
    if (answer.kind !== 'seen') continue
    observations.push({ localPort, remote, observed: answer.mapped })
    answering ??= remote
    const other = answer.otherAddress
    if (other !== undefined && isOther(remote, other)) twoAddresses ??= { first: remote, other }
  }
  if (twoAddresses === undefined) return { observations, answering, twoAddresses }
  const { first, other } = twoAddresses
  // The same server's other port, its other address, and both: what the mapping depends on (RFC 5780, 4.3).
  for (const remote of [{ ...first, port: other.port }, { ...other, port: first.port }, other]) {
    const answer = await ask.binding(remote)
    if (answer.kind === 'seen') observations.push({ localPort, remote, observed: answer.mapped })
  }
  return { observations, answering, twoAddresses }
}

async function askFiltering(
  ask: Ask,
  server: MappingAnswers['twoAddresses'],
): Promise<{ readonly otherAddress: FilteringTest; readonly otherPort: FilteringTest }> {
  if (server === undefined) return { otherAddress: 'untested', otherPort: 'untested' }
  const { first, other } = server
  // The mapping must exist before a stranger's packet can come in through it.
  if ((await ask.binding(first)).kind !== 'seen') return { otherAddress: 'untested', otherPort: 'untested' }
  const test = async (change: Change): Promise<FilteringTest> => {
    const answer = await ask.binding(first, change)
    if (answer.kind === 'refused') return 'untested'
    return answer.kind === 'seen' ? 'answered' : 'silent'
  }
  const [otherAddress, otherPort] = await Promise.all([
    test({ address: true, port: true, from: other }),
    test({ address: false, port: true, from: { ...first, port: other.port } }),
  ])
  return { otherAddress, otherPort }
}

/** New sockets, one after the other, so that the order of the mappings is known. */
async function askPorts(asker: Asker, server: Endpoint | undefined): Promise<Observation[]> {
  const observations: Observation[] = []
  if (server === undefined) return observations
  for (let count = 0; count < DETECTION_SOCKETS_MAX; count++) {
    await withSocket(asker, async ask => {
      const answer = await ask.binding(server)
      if (answer.kind !== 'seen') return
      observations.push({ localPort: ask.socket.local.port, remote: server, observed: answer.mapped })
    })
  }
  return observations
}

/** A server that names a place where it cannot be, or one in somebody's private network, is one with one address. */
function isOther(first: Endpoint, other: Endpoint): boolean {
  const isElsewhere = other.address !== first.address && other.port !== first.port
  const isOneFamily = other.address.includes(':') === first.address.includes(':')
  const isReachable = isUnicast(other.address) && isPrivate(other.address) === isPrivate(first.address)
  return isElsewhere && isOneFamily && isReachable && other.port > 0
}
