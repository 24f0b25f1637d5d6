/** Turns of the event loop, for tests that own their clock: what was promised has happened after a few. */
import { systemClock, withDeadline } from '#base'

/** However slow the machine is: then the test is stuck. */
const WAIT_MS = 20_000

export async function turns(count = 5): Promise<void> {
  for (let index = 0; index < count; index++) await new Promise(resolve => setImmediate(resolve))
}

/** Takes a step and lets the event loop turn, until it is so. @throws in the end, with what was waited for */
export function turnsUntil(what: string, isSo: () => boolean, step: () => void = () => undefined): Promise<void> {
  return withDeadline(systemClock, { what, timeoutMs: WAIT_MS }, async signal => {
    while (!isSo() && !signal.aborted) {
      step()
      await turns(1)
    }
  })
}
