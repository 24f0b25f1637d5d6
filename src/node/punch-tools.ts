/** What the host is given so that it can come to direct connections through NATs: `#nat` does not know of it, nor it of `#nat`. */
import type { Clock, Logger, Random } from '#base'
import { createIceAgent, type Endpoint, foreseeTcp, localAddresses, openUdp } from '#nat'
import type { PunchTools } from '#net'
import type { Reach } from '#reach'
import type { TurnConfig } from './types.ts'

export type PunchParts = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Undefined until the node has found out where it is. */
  readonly reach: () => Pick<Reach, 'status' | 'stunServers'> | undefined
  /** The IP address of a name; undefined where there is none. Does not reject. */
  readonly resolve: (name: string) => Promise<string | undefined>
}

/** @param turn the server of the owner's account; undefined: there is none */
export function createPunchTools({ reach, resolve, ...deps }: PunchParts, turn: TurnConfig | undefined): PunchTools {
  const log = deps.log.child('ice')
  const account = async (): Promise<{ server: Endpoint; username: string; password: string } | undefined> => {
    if (turn === undefined) return undefined
    const address = await resolve(turn.host)
    if (address === undefined) log.warn('the TURN server has no address', { host: turn.host })
    return address === undefined ? undefined : { ...turn, server: { address, port: turn.port } }
  }
  return {
    foresee: observations => foreseeTcp(observations, localAddresses()),
    // With a TURN server every NAT is passed, so nothing is ruled out.
    natKind: () => (turn === undefined ? (reach()?.status().nat.kind ?? 'unknown') : 'unknown'),
    createIce: async role => {
      const server = await account()
      const options = {
        role,
        stunServers: reach()?.stunServers() ?? [],
        ...(server === undefined ? {} : { turn: server }),
      }
      return createIceAgent({ ...deps, log, openUdp }, options)
    },
  }
}
