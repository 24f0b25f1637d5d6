/**
 * A look at the network without a node: what STUN servers see, and whether the gateway would map a port. For `koinon doctor`
 * on a machine where none runs. Takes seconds, and leaves nothing behind: the port that is mapped is taken back.
 */
import { type Clock, type Logger, type Random, silentLogger, withDeadline } from '#base'
import {
  createPortMapper,
  detectNat,
  type Endpoint,
  findGateways,
  gatewayProtocols,
  localAddresses,
  type OpenUdp,
  type PortMapping,
} from '#nat'
import type { ReachReport } from '#wire'
import { isPublicIp } from './address.ts'
import { STUN_SERVERS_MAX, SURVEY_MS_MAX } from './limits.ts'
import { pathsOf } from './paths.ts'
import { isForeseen, strictest } from './report.ts'
import type { ReachDeps, StunName } from './types.ts'

export type SurveyDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly openUdp: OpenUdp
  readonly resolve: ReachDeps['resolve']
}

export type NetworkSurvey = {
  /** Public IP addresses of the machine itself. */
  readonly publicAddresses: readonly string[]
  /** What STUN servers see; undefined where none was named, or none of the names is known. */
  readonly nat?: ReachReport['nat']
  readonly paths: ReachReport['paths']
  /** Default gateways that were found. */
  readonly gateways: number
  /** What a gateway gave for a moment; undefined: none maps ports. */
  readonly mapping?: Pick<PortMapping, 'via' | 'externalAddress' | 'isPublic'>
}

/** @throws NatError NAT_SOCKET_FAILED; the signal's reason */
export async function surveyNetwork(
  deps: SurveyDeps,
  options: { readonly stun: readonly StunName[]; readonly signal: AbortSignal },
): Promise<NetworkSurvey> {
  const { signal } = options
  const [nat, { gateways, mapping }] = await Promise.all([
    surveyNat(deps, options),
    surveyGateway({ ...deps, log: silentLogger }, signal),
  ])
  const kind = nat === undefined ? 'unknown' : strictest(nat)
  return {
    publicAddresses: localAddresses().filter(isPublicIp),
    ...(nat === undefined ? {} : { nat }),
    paths: pathsOf({ kind, isForeseen: nat !== undefined && isForeseen(nat), isPublic: false }),
    gateways,
    ...(mapping === undefined ? {} : { mapping }),
  }
}

async function surveyNat(
  deps: SurveyDeps,
  { stun, signal }: { readonly stun: readonly StunName[]; readonly signal: AbortSignal },
): Promise<ReachReport['nat'] | undefined> {
  const found = await Promise.all(
    stun.slice(0, STUN_SERVERS_MAX).map(async ({ host, port }): Promise<Endpoint[]> => {
      const address = await deps.resolve(host)
      return address === undefined ? [] : [{ address, port }]
    }),
  )
  const servers = found.flat()
  if (servers.length === 0) return undefined
  const report = await detectNat(deps, { servers, localAddresses: localAddresses(), signal })
  const { kind, mapping, filtering, address, ports } = report
  return {
    kind,
    mapping,
    filtering,
    ports: ports.kind,
    ...(address === undefined ? {} : { address }),
    servers: servers.length,
    ageMs: 0,
  }
}

async function surveyGateway(
  deps: SurveyDeps & { readonly log: Logger },
  signal: AbortSignal,
): Promise<{ readonly gateways: number; readonly mapping?: NetworkSurvey['mapping'] }> {
  const gateways = await findGateways()
  if (gateways.length === 0) return { gateways: 0 }
  // A port that is ours, so that nobody else's is opened even for a moment.
  const socket = await deps.openUdp()
  const mapper = createPortMapper({ ...deps, protocols: () => gatewayProtocols(deps, gateways) }, { leaseSeconds: 120 })
  const deadline = { what: 'asking the gateway', timeoutMs: SURVEY_MS_MAX, signal }
  try {
    const asked = mapper.map({ protocol: 'udp', internalPort: socket.local.port })
    const { via, externalAddress, isPublic } = await withDeadline(deps.clock, deadline, () => asked)
    return { gateways: gateways.length, mapping: { via, externalAddress, isPublic } }
  } catch (error) {
    if (signal.aborted) throw error
    return { gateways: gateways.length } // No gateway maps ports: that is an answer.
  } finally {
    await mapper.stop()
    await socket.close()
  }
}
