/** The frame of every handshake: it has a deadline, it never rejects, and where it fails the pipe is over. */
import { type Clock, TimeoutError, withDeadline } from '#base'
import type { WireFault } from './errors.ts'
import { isFault, lost, timedOut } from './faults.ts'
import { Inlet } from './inlet.ts'
import { HANDSHAKE_TIMEOUT_MS } from './limits.ts'
import type { BytePipe } from './types.ts'

/** @param settle gives what was agreed on, or a fault; it may throw what the pipe throws */
export async function negotiated<T extends object>(
  clock: Clock,
  pipe: BytePipe,
  settle: (inlet: Inlet) => Promise<T | WireFault>,
): Promise<T | WireFault> {
  const options = { what: 'a handshake about pieces', timeoutMs: HANDSHAKE_TIMEOUT_MS }
  let outcome: T | WireFault
  try {
    outcome = await withDeadline(clock, options, () => settle(new Inlet(pipe)))
  } catch (error) {
    outcome = error instanceof TimeoutError ? timedOut('no handshake came') : lost('the connection broke')
  }
  if (isFault(outcome)) pipe.abort(new Error(outcome.what))
  return outcome
}
