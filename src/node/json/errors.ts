/** What the JSON protocol itself refuses. Values, never thrown: each is answered on the stream. */

export type JsonFault = {
  readonly code:
    | 'JSON_MALFORMED'
    /** Too many levels or values. */
    | 'JSON_SHAPE'
    /** A message longer than is accepted: the stream is of no use after it. */
    | 'JSON_LENGTH'
    | 'JSON_VERSION'
    /** The swarm has a secret, and the peer has not proved that it knows it. */
    | 'JSON_NOT_ADMITTED'
    | 'JSON_AUTH_FAILED'
    | 'JSON_BUSY'
    /** The id belongs to a request that is open. */
    | 'JSON_ID_IN_USE'
    /** The answer is longer than a JSON message may be. */
    | 'JSON_ANSWER_SIZE'
    /** The peer took too long over a message, its proof, or anything at all. */
    | 'JSON_SLOW'
  readonly message: string
  readonly retryAfterMs?: number
}
