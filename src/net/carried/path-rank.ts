/** How good the path of a session is, for streams that may choose: lower is better. */
import type { Connection } from '@libp2p/interface'

/** What stands in the address of a connection that a third node relays. */
const RELAYED = '/p2p-circuit'

export function rankOf({ connection }: { readonly connection: Pick<Connection, 'remoteAddr'> }): number {
  return connection.remoteAddr.toString().includes(RELAYED) ? 1 : 0
}
