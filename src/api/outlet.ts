/**
 * The way out of a streamed answer: text is written as fast as the client reads it, never faster, and a client that
 * stops reading loses its stream. So one generation holds at most one unsent piece beside the socket's own buffer.
 */
import type { ServerResponse } from 'node:http'
import { once } from 'node:events'
import { type Clock, TimeoutError, withDeadline } from '#base'
import { ApiError } from './errors.ts'
import { READER_STALL_MS } from './limits.ts'

export interface Outlet {
  /** Resolves when there is room for more. @throws ApiError API_CLIENT_SLOW, or the signal's reason */
  write(text: string): Promise<void>
  /** Ends the answer, with a last piece if given. The client has the same time as ever to take what is left. */
  end(last?: string): void
}

export function createOutlet(
  deps: { readonly clock: Clock; readonly response: ServerResponse },
  options: { readonly signal: AbortSignal },
): Outlet {
  const { clock, response } = deps
  // A connection that breaks under a write says so here and by closing; the closing is what is acted on.
  response.on('error', () => undefined)
  return {
    write: async text => {
      options.signal.throwIfAborted()
      if (response.write(text)) return
      try {
        await withDeadline(
          clock,
          { what: 'a stalled reader', timeoutMs: READER_STALL_MS, signal: options.signal },
          async signal => once(response, 'drain', { signal }),
        )
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error
        response.destroy()
        throw new ApiError({ code: 'API_CLIENT_SLOW' }, 'the client stopped reading', { cause: error })
      }
    },
    end: last => {
      if (response.destroyed) return
      const cancel = clock.after(READER_STALL_MS, () => response.destroy())
      response.once('close', cancel)
      response.end(last)
    },
  }
}
