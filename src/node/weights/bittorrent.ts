/** Stock BitTorrent clients: a port where they find this node, dials to them, and the DHT where both are found. */
import { isIP } from 'node:net'
import type { Clock, Logger, Random } from '#base'
import type { MainlineNode } from '#mainline'
import { createStockPeers, dhtOfMainline, partyOfHost, type Swarm, type SwarmDeps } from '#swarm'
import type { Network } from '../network.ts'
import type { Stopper } from '../stopper.ts'
import type { NodeConfig } from '../types.ts'

export type BitTorrentParts = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly config: Pick<NodeConfig, 'bittorrent' | 'listen'>
  readonly stopper: Stopper
  readonly net: Pick<Network, 'penalties'>
  readonly mainline: MainlineNode | undefined
}

export type BitTorrent = {
  /** TCP. */
  readonly port: number
  readonly forSwarm: Pick<SwarmDeps, 'bittorrent' | 'dht'>
  /** Whoever connects comes to this swarm from now on. */
  readonly serve: (swarm: Swarm) => void
}

/** @returns undefined: the owner wants none. @throws what listening throws */
export async function startBitTorrent(parts: BitTorrentParts): Promise<BitTorrent | undefined> {
  const { clock, random, config, stopper, net, mainline } = parts
  if (config.bittorrent === undefined) return undefined
  const logger = parts.log.child('bittorrent')
  const made: { swarm?: Swarm } = {}
  const peers = createStockPeers(
    {
      clock,
      random,
      logger,
      find: infoHash => made.swarm?.sessionOptions(infoHash),
      isBanned: host => net.penalties.bannedForMs(partyOfHost(host)) > 0,
    },
    {
      host: hostOf(config.listen),
      port: config.bittorrent.port,
      onSession: (session, infoHash) => {
        if (made.swarm?.accept(session, infoHash) !== true) session.close('nothing of it is here')
      },
    },
  )
  const port = await peers.listen()
  stopper.add('BitTorrent', () => peers.stop())
  return {
    port,
    forSwarm: {
      bittorrent: peers,
      ...(mainline === undefined ? {} : { dht: dhtOfMainline(mainline) }),
    },
    serve: swarm => {
      made.swarm = swarm
    },
  }
}

/** Where the node itself listens: at this machine alone, or everywhere. */
function hostOf(listen: readonly string[]): string {
  const [, , host = ''] = listen[0]?.split('/') ?? []
  return isIP(host) === 0 ? '127.0.0.1' : host
}
