/** A limit on bytes a second that all fetches of one origin share: each waits for its turn before it hands bytes on. */
import { type Clock, sleep } from '#base'

export interface Pace {
  /** Resolves when so many bytes may go. @throws the signal's reason */
  take(bytes: number, signal: AbortSignal): Promise<void>
}

/** @param bytesPerSecond undefined: no limit */
export function createPace(clock: Clock, bytesPerSecond: number | undefined): Pace {
  if (bytesPerSecond === undefined) return { take: () => Promise.resolve() }
  let freeAt = Number.NEGATIVE_INFINITY
  return {
    take: async (bytes, signal) => {
      const now = clock.monotonic()
      freeAt = Math.max(freeAt, now) + (bytes * 1_000) / bytesPerSecond
      if (freeAt > now) await sleep(clock, freeAt - now, { signal })
    },
  }
}
