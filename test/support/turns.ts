/** Turns of the event loop, for tests that own their clock: what was promised has happened after a few. */

export async function turns(count = 5): Promise<void> {
  for (let index = 0; index < count; index++) await new Promise(resolve => setImmediate(resolve))
}
