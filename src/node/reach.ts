/** The node's part in being reached: starts `#reach` over the host, and keeps the offer up to date with what it finds. */
import { lookup } from 'node:dns/promises'
import type { Clock, Logger, Random } from '#base'
import { createPortMapper, gatewayProtocols, localAddresses, openUdp } from '#nat'
import type { Host } from '#net'
import { createReach, type NetworkSurvey, type Reach, type StunName, surveyNetwork } from '#reach'
import type { Stopper } from './stopper.ts'
import type { NodeConfig } from './types.ts'

type System = { readonly clock: Clock; readonly random: Random }

export type ReachParts = System & {
  readonly log: Logger
  readonly host: Host
  readonly stopper: Stopper
  readonly config: Pick<NodeConfig, 'mapPorts' | 'stun' | 'external'>
}

/** Begins once the host runs, and ends before it: ports are given back while there is a network. */
export function startReach({ config, host, stopper, ...deps }: ReachParts): Reach {
  const { mapPorts, stun, external } = config
  const reach = createReach(
    {
      ...deps,
      host,
      openUdp,
      localAddresses,
      createMapper: onChanged =>
        createPortMapper(
          { ...deps, log: deps.log.child('mapper'), protocols: () => gatewayProtocols({ ...deps, openUdp }) },
          { onChanged },
        ),
      resolve: resolveName,
    },
    {
      ...(mapPorts === undefined ? {} : { mapPorts }),
      ...(stun === undefined ? {} : { stun }),
      ...(external === undefined ? {} : { external }),
    },
  )
  stopper.add('what keeps the node reachable', () => reach.stop())
  reach.start()
  return reach
}

/** A look at the network where no node runs. @throws NatError; the signal's reason */
export function survey(
  deps: System,
  options: { readonly stun: readonly StunName[]; readonly signal: AbortSignal },
): Promise<NetworkSurvey> {
  return surveyNetwork({ ...deps, openUdp, resolve: resolveName }, options)
}

/** IPv4 alone: there is no NAT for the other. */
export async function resolveName(name: string): Promise<string | undefined> {
  // A name that is not known now may be later; whoever asks tries again.
  const found = await lookup(name, { family: 4 }).catch(() => undefined)
  return found?.address
}
