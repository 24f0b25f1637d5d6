/** What can go wrong between two peers, and whose fault it is: plain data, since a peer's bad bytes are an ordinary event. */

/** Who is to blame. Nobody: a lost connection, a peer that has no room. */
export type Blame = 'peer' | 'nobody'

/**
 * Why a session ended, or did not begin. `what` is for logs: made here, never the other side's text.
 *
 * - `SWARM_MALFORMED`: bytes that are no message, or one that makes no sense.
 * - `SWARM_TOO_LARGE`: more than was agreed: a message, a request, a document. Noticed before memory is spent.
 * - `SWARM_UNASKED`: a block, hashes, a chunk or votes that nobody had asked for.
 * - `SWARM_VERSION`: no version of the protocol that both sides speak.
 * - `SWARM_UNKNOWN_MODEL`, `SWARM_BUSY`: the side that was asked does not have the model, or has no room.
 * - `SWARM_TIMEOUT`: nothing came for too long. `SWARM_LOST`: the connection broke, or could not be made.
 * - `SWARM_SELF`: this node itself is at the other end.
 * - `SWARM_BAD_PEER`: the owner of the session found that the other side broke the rules.
 */
export type WireFault = {
  readonly code:
    | 'SWARM_MALFORMED'
    | 'SWARM_TOO_LARGE'
    | 'SWARM_UNASKED'
    | 'SWARM_VERSION'
    | 'SWARM_UNKNOWN_MODEL'
    | 'SWARM_BUSY'
    | 'SWARM_TIMEOUT'
    | 'SWARM_LOST'
    | 'SWARM_SELF'
    | 'SWARM_BAD_PEER'
  readonly blame: Blame
  readonly what: string
}

export type SessionEnd =
  | { readonly kind: 'closed'; readonly by: 'us' | 'peer'; readonly why: string }
  | { readonly kind: 'fault'; readonly fault: WireFault }
