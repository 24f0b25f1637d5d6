/** The good end of a pipe: what was sent goes out, then both directions end. */
import type { Clock } from '#base'
import { HANG_UP_MS } from './limits.ts'
import type { BytePipe } from './types.ts'

/**
 * Ends our direction after the last words, and waits until the other side has ended its own, so that the words are not lost
 * with the connection; then, or after HANG_UP_MS, all is cut. Never rejects.
 * @param waits.reading settles when the other side has ended its direction
 */
export async function hangUp(
  { clock, pipe }: { readonly clock: Clock; readonly pipe: BytePipe },
  waits: { readonly lastWords: Promise<void>; readonly reading: Promise<void> },
): Promise<void> {
  const cut = (): void => pipe.abort(new Error('the session is over'))
  const cancel = clock.after(HANG_UP_MS, cut)
  try {
    await waits.lastWords
    await pipe.close()
    await waits.reading
  } catch {
    // Broken already: there is nothing left to say.
  }
  cancel()
  cut()
}
