/** Where the swarm finds stock clients, and is found by them: announcements of the truncated v2 info-hash (BEP 5, 52). */
import type { AbortOptions, Endpoint, MainlineNode } from '#mainline'

/** What the swarm needs of a DHT. Whoever is found there is a hint: anybody can announce anything. */
export interface SwarmDht {
  /** Says that this node has something, for half an hour. @param port TCP @returns nodes that know it now @throws what the DHT throws */
  announce(infoHash: Uint8Array, port: number, options?: AbortOptions): Promise<number>
  /** Each once, as the answers come in. */
  getPeers(infoHash: Uint8Array, options?: AbortOptions): AsyncIterable<Endpoint>
}

export function dhtOfMainline(node: Pick<MainlineNode, 'announce' | 'getPeers'>): SwarmDht {
  return {
    announce: (infoHash, port, options) => node.announce(infoHash, port, options),
    getPeers: (infoHash, options) => node.getPeers(infoHash, options),
  }
}
