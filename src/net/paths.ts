/**
 * How connections came about. libp2p knows an address for each and no more, so whoever makes a path in another way than by
 * dialling (a relay, a punched socket, ICE) marks the address before libp2p makes a connection of it.
 */
import type { Connection } from '@libp2p/interface'
import { decodeAddress } from './address.ts'
import type { PathKind, PeerPath } from './types.ts'

/** The better a path, the smaller its rank. */
const RANKS: Readonly<Record<PathKind, number>> = { direct: 0, punched: 1, ice: 2, relayed: 3 }

export function rankOf(path: PeerPath): number {
  return RANKS[path.kind]
}

export class Paths {
  readonly #marked = new Map<string, PeerPath>()

  /**
   * Connections from or to this address are of that path from now on.
   * @param address a multiaddr, with or without a peer id @returns how to take it back
   */
  mark(address: string, path: PeerPath): () => void {
    const key = keyOf(address)
    this.#marked.set(key, path)
    return () => {
      if (this.#marked.get(key) === path) this.#marked.delete(key)
    }
  }

  of(connection: Pick<Connection, 'remoteAddr'>): PeerPath {
    const text = connection.remoteAddr.toString()
    const marked = this.#marked.get(keyOf(text))
    if (marked !== undefined) return marked
    const address = decodeAddress(text)
    if (address === undefined) return { kind: 'direct', transport: 'tcp' }
    const { transport, relay } = address
    return relay === undefined ? { kind: 'direct', transport } : { kind: 'relayed', transport, via: relay }
  }
}

/** Without the peer id, which libp2p adds once it knows it. */
function keyOf(address: string): string {
  return decodeAddress(address)?.target.toString() ?? address
}
