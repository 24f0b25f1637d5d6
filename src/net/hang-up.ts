/**
 * Ending a connection. libp2p's own close cuts off bytes that TLS has not written yet, so last words need somebody who
 * hears them: the side that has something to say waits for the other to close.
 */
import type { Connection } from '@libp2p/interface'
import { type Clock, sleep } from '#base'
import { PROTOCOLS } from '#wire'
import { LINGER_MS } from './limits.ts'

/**
 * Resets every stream but control, so that no reader takes a lost stream for a finished one, then ends the connection:
 * once the other side has, where `awaitsPeer`, and at once otherwise. Never rejects.
 */
export async function hangUp(
  clock: Clock,
  connection: Connection,
  options: { readonly awaitsPeer: boolean },
): Promise<void> {
  const reason = new Error('the connection is being closed')
  const others = connection.streams.filter(stream => stream.protocol !== PROTOCOLS.control)
  for (const stream of others) stream.abort(reason)
  const control = connection.streams.find(stream => stream.protocol === PROTOCOLS.control)
  if (options.awaitsPeer && control !== undefined) {
    const heard = new AbortController()
    for (const event of ['close', 'remoteCloseWrite'] as const) control.addEventListener(event, () => heard.abort())
    // The end of our words is what lets two sides that refuse each other at once both go.
    control.close({ signal: heard.signal }).catch(() => undefined) // Then the wait below is in vain, and short.
    await sleep(clock, LINGER_MS, { signal: heard.signal }).catch(() => undefined) // Heard: no need to wait longer.
  }
  try {
    connection.abort(reason)
  } catch {
    // Where the secure channel is gone already libp2p throws half-way; what is left is the socket.
    await connection.close().catch(() => undefined) // Gone, then.
  }
}
