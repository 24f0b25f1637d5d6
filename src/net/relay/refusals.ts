/** What a relay's refusal means, as an error. */
import type { RelayMessage, RelayRefusal } from '#wire'
import { NetError } from '../errors.ts'
import type { RelayProtocolFault } from './relay-stream.ts'

export function relayRefused(relay: string, reason: RelayRefusal, retryAfterMs?: number): NetError {
  const facts = retryAfterMs === undefined ? {} : { retryAfterMs }
  return new NetError({ code: 'NET_RELAY_REFUSED', relay, reason, ...facts }, `no way by this relay: ${WORDS[reason]}`)
}

/** The answer of the wanted type. @throws NetError NET_RELAY_REFUSED for every other */
export function expectAnswer<T extends RelayMessage['type']>(
  relay: string,
  type: T,
  answer: RelayMessage | RelayProtocolFault,
): Extract<RelayMessage, { type: T }> {
  if ('code' in answer) throw relayRefused(relay, 'malformed')
  if (answer.type === 'refused') throw relayRefused(relay, answer.reason, answer.retryAfterMs)
  if (answer.type !== type) throw relayRefused(relay, 'malformed')
  return answer as Extract<RelayMessage, { type: T }>
}

/** The end of a sentence. */
const WORDS: Readonly<Record<RelayRefusal, string>> = {
  full: 'all its places are taken',
  'per-peer': 'one of the two peers has as many circuits as one peer may have',
  'per-group': 'others of the same network address take all the places that it may have',
  'no-reservation': 'the peer holds no reservation there',
  rate: 'it was asked too often',
  'not-a-relay': 'the node does not relay',
  'not-public': 'the node cannot be reached from outside itself',
  loop: 'a circuit leads neither to its own start, nor to its relay, nor through a second relay',
  refused: 'the peer does not want the circuit',
  unreachable: 'the peer does not answer the relay',
  malformed: 'one side does not keep to the protocol',
  stopping: 'the node is going away',
}
