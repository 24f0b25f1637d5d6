/** How a node gets to know its swarm when it starts. */
import { type Clock, withDeadline } from '#base'
import type { Host } from '#net'
import { FIRST_DIAL_MS_MAX } from './limits.ts'
import { isOfThisMachine } from '#wire'
import type { NodeConfig } from './types.ts'

/**
 * Dials every configured address once, all at the same time.
 * @returns resolves when each was reached or not: the host goes on trying and tells why in its log
 */
export async function dialOnce(
  deps: { readonly clock: Clock; readonly host: Pick<Host, 'connect'> },
  addresses: readonly string[],
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const options = { what: 'the first dial', timeoutMs: FIRST_DIAL_MS_MAX, signal }
  const dial = (address: string): Promise<string> =>
    withDeadline(deps.clock, options, inner => deps.host.connect(address, { signal: inner }))
  await Promise.allSettled(addresses.map(dial))
}

/**
 * Whether peers of peers are dialled, so that all of a swarm meet. Where anybody may join from anywhere, a stranger
 * could make us dial whom he likes: there every peer is configured by hand.
 */
export function letsPeersMeet(config: Pick<NodeConfig, 'secret' | 'layers' | 'listen'>): boolean {
  const isSharing = config.layers.kind === 'auto' && config.layers.nodes > 1
  const isLocal = config.listen.every(isOfThisMachine)
  return config.secret !== undefined || isSharing || isLocal
}
