/**
 * Holds on to configured peers: dials each address until somebody is there, and again whenever they are gone. How long it
 * waits between dials that fail is the business of the circuit breakers.
 */
import { type Clock, codeOf, type Logger, messageOf, type Random, sleep, uniform } from '#base'
import type { Address } from './address.ts'
import { NetError } from './errors.ts'
import { REDIAL_MS, REDIAL_REFUSED_MS } from './limits.ts'

export type KeeperDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly connect: (address: Address) => Promise<string>
  /** Keeps the peer's connection, however quiet it is. @returns ends that */
  readonly hold: (peer: string) => () => void
  /** Resolves once the peer is not connected. */
  readonly gone: (peer: string, options: { readonly signal: AbortSignal }) => Promise<void>
}

/** Refusals that another try a second later will not change. */
const LASTING: ReadonlySet<string> = new Set(['NET_NOT_ADMITTED', 'NET_VERSION', 'NET_WRONG_PEER'])

/** Runs until the signal aborts. Never rejects. */
export async function keepConnected(
  deps: KeeperDeps,
  address: Address,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const { signal } = options
  let lastCode = ''
  while (!signal.aborted) {
    let waitMs = REDIAL_MS
    try {
      const peer = await deps.connect(address)
      lastCode = ''
      const release = deps.hold(peer)
      await deps.gone(peer, options).finally(release)
    } catch (error) {
      if (signal.aborted) return
      waitMs = waitAfter(error)
      const code = codeOf(error)
      const facts = { code, error: messageOf(error), waitMs }
      // That it rests follows from failures that were told.
      if (code === lastCode || code === 'NET_PEER_RESTING') {
        deps.log.debug('a configured peer still cannot be reached', facts)
      } else {
        deps.log.warn('a configured peer cannot be reached; trying again', facts)
        lastCode = code
      }
    }
    // Spread out, so that a swarm that lost a node does not dial it in step.
    const spreadMs = waitMs + REDIAL_MS * (uniform(deps.random) - 0.5)
    await sleep(deps.clock, spreadMs, { signal }).catch(() => undefined) // Aborted: the loop ends by its condition.
  }
}

function waitAfter(error: unknown): number {
  if (error instanceof NetError && error.fault.code === 'NET_PEER_RESTING') {
    return Math.max(REDIAL_MS, error.fault.retryAfterMs)
  }
  return LASTING.has(codeOf(error)) ? REDIAL_REFUSED_MS : REDIAL_MS
}
