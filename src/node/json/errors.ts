/**
 * What the JSON protocol itself refuses. Values, never thrown: each is answered on the stream.
 *
 * - `JSON_SHAPE`: too many levels or values in one message.
 * - `JSON_LENGTH`: a message longer than is accepted; the place in the stream is lost.
 * - `JSON_NOT_ADMITTED`: the swarm has a secret, and the peer has not proved that it knows it.
 * - `JSON_ID_IN_USE`: the id belongs to a request that is open.
 * - `JSON_ANSWER_SIZE`: the answer is longer than a JSON message may be.
 * - `JSON_SLOW`: the peer took too long over a message, its proof, or anything at all.
 */
export type JsonFault = {
  readonly code:
    | 'JSON_MALFORMED'
    | 'JSON_SHAPE'
    | 'JSON_LENGTH'
    | 'JSON_VERSION'
    | 'JSON_NOT_ADMITTED'
    | 'JSON_AUTH_FAILED'
    | 'JSON_BUSY'
    | 'JSON_ID_IN_USE'
    | 'JSON_ANSWER_SIZE'
    | 'JSON_SLOW'
  readonly message: string
  readonly retryAfterMs?: number
}
