/** A refusal, ours or a peer's, as an error: who refused whom, why, and what to do about it. */
import type { LogFields } from '#base'
import type { RefusalReason } from '#wire'
import { NetError } from './errors.ts'

export function refusalError(
  peer: string,
  { reason, by }: { readonly reason: RefusalReason; readonly by: 'us' | 'peer' },
): NetError {
  if (reason === 'version') {
    const message = 'the peer speaks another revision of the protocol; update the older of the two nodes'
    return new NetError({ code: 'NET_VERSION', peer, by }, message)
  }
  const who = by === 'us' ? 'this node refused the peer' : 'the peer refused this node'
  return new NetError({ code: 'NET_NOT_ADMITTED', peer, reason, by }, `${who}: ${REFUSALS[reason]}`)
}

/** Who refused whom and why, without addresses. */
export function plainFacts(error: NetError): LogFields {
  const { fault } = error
  return fault.code === 'NET_NOT_ADMITTED' ? { ...fault } : { code: fault.code }
}

/** What to do about a refusal, as the end of a sentence. */
const REFUSALS: Readonly<Record<RefusalReason, string>> = {
  version: 'another revision of the protocol',
  suite: 'no cipher suite that both know',
  clock: 'the clocks of the two machines are too far apart; set them',
  authentication: 'a key or a signature that does not hold',
  superseded: 'the key has been replaced by another',
  banned: 'it broke the rules and is banned for a while',
  backoff: 'it failed too often and has to wait before it tries again',
  replay: 'a message that was seen before',
  'secret-needed': 'one of the two has a swarm secret and the other has none; give both the same secret',
  'secret-unexpected': 'one of the two has a swarm secret and the other has none; give both the same secret',
  'proof-wrong': 'the two have different swarm secrets; give both the same secret',
  full: 'it has as many peers as it takes',
  flood: 'too many messages',
  malformed: 'a message that is not of the protocol',
  slow: 'no admission in time',
  stopping: 'the node is going away',
}
