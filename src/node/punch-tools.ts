/** What the host is given so that it can come to direct connections through NATs: `#nat` does not know of it, nor it of `#nat`. */
import type { Clock, Logger, Random } from '#base'
import { createIceAgent, foreseeTcp, localAddresses, openUdp } from '#nat'
import type { PunchTools } from '#net'
import type { Reach } from '#reach'

/** @param reach undefined until the node has found out where it is */
export function createPunchTools(
  deps: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
  reach: () => Pick<Reach, 'status' | 'stunServers'> | undefined,
): PunchTools {
  const log = deps.log.child('ice')
  return {
    foresee: observations => foreseeTcp(observations, localAddresses()),
    natKind: () => reach()?.status().nat.kind ?? 'unknown',
    createIce: role => createIceAgent({ ...deps, log, openUdp }, { role, stunServers: reach()?.stunServers() ?? [] }),
  }
}
