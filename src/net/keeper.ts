/** Holds on to configured peers: dials each address until somebody is there, and again whenever they are gone. */
import { type Clock, codeOf, type Logger, messageOf, type Random, sleep, uniform } from '#base'
import type { Address } from './address.ts'
import { REDIAL_MS_MAX, REDIAL_MS_MIN } from './limits.ts'

export type KeeperDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly connect: (address: Address) => Promise<string>
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
  let waitMs = REDIAL_MS_MIN
  let lastCode = ''
  while (!signal.aborted) {
    try {
      const peer = await deps.connect(address)
      waitMs = REDIAL_MS_MIN
      lastCode = ''
      await deps.gone(peer, options)
    } catch (error) {
      if (signal.aborted) return
      const code = codeOf(error)
      if (LASTING.has(code)) waitMs = REDIAL_MS_MAX
      const facts = { code, error: messageOf(error), waitMs }
      if (code === lastCode) deps.log.debug('a configured peer still cannot be reached', facts)
      else deps.log.warn('a configured peer cannot be reached; trying again', facts)
      lastCode = code
    }
    // Spread out, so that a swarm that lost a node does not dial it in step.
    const spreadMs = waitMs * (0.5 + uniform(deps.random))
    waitMs = Math.min(REDIAL_MS_MAX, waitMs * 2)
    await sleep(deps.clock, spreadMs, { signal }).catch(() => undefined) // Aborted: the loop ends by its condition.
  }
}
