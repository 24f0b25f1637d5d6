/**
 * Where a fresh local TCP port is seen from outside: connects from it to nodes that tell (`observer.ts`). The
 * connections stay open until the port has been used: NATs may forget mappings of connections that have ended.
 */
import { connect, type Socket } from 'node:net'
import { abortable, type ByteStream, type Clock, type Logger, messageOf, withDeadline } from '#base'
import { OBSERVE_MS_MAX, OBSERVERS_MAX, OBSERVERS_TRIED_MAX } from '../limits.ts'
import { PunchTalk } from './talk.ts'
import type { TcpObservation } from './types.ts'

/** A node that others can dial, and where we did. */
export type ObserverPeer = { readonly peer: string; readonly host: string }

export type LocateDeps = {
  readonly clock: Clock
  readonly log: Logger
  /** Opens a punch stream to a peer. */
  readonly open: (peer: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
}

/** A local port, and how others see it. */
export type Located = {
  readonly localPort: number
  readonly isIpv6: boolean
  readonly observations: readonly TcpObservation[]
  /** Closes the connections to the nodes that told. Idempotent. */
  release(): void
}

/** Undefined where no node told. Only nodes at addresses of one family are asked. */
export async function locate(
  deps: LocateDeps,
  observers: readonly ObserverPeer[],
  options: { readonly signal: AbortSignal },
): Promise<Located | undefined> {
  const isIpv6 = observers[0]?.host.includes(':') === true
  const known = observers.filter(({ host }) => host.includes(':') === isIpv6).slice(0, OBSERVERS_TRIED_MAX)
  const startedAt = deps.clock.monotonic()
  let toldCount = 0
  const sockets: Socket[] = []
  const streams: ByteStream[] = []
  const observations: TcpObservation[] = []
  const release = (): void => {
    for (const socket of sockets.splice(0)) socket.destroy()
    for (const stream of streams.splice(0)) stream.abort(new Error('seen'))
  }
  // One after the other, so that the ports which a NAT gives are seen in order.
  for (const { peer, host } of known) {
    // The other side waits for us.
    const isLate = deps.clock.monotonic() - startedAt >= OBSERVE_MS_MAX
    if (toldCount >= OBSERVERS_MAX || isLate) break
    const deadline = { what: 'asking where a socket is seen', timeoutMs: OBSERVE_MS_MAX, signal: options.signal }
    try {
      await withDeadline(deps.clock, deadline, async signal => {
        const stream = await deps.open(peer, { signal })
        streams.push(stream)
        const talk = new PunchTalk(deps, stream)
        talk.send({ type: 'observe' })
        const { ports, token } = await talk.next(['observing'], { signal })
        // Two ports of the first show whether ports matter, one of another whether addresses do.
        for (const port of toldCount === 0 ? ports : ports.slice(0, 1)) {
          const localPort = observations[0]?.localPort ?? 0
          const socket = connect({ host, port, localAddress: isIpv6 ? '::' : '0.0.0.0', localPort })
          sockets.push(socket)
          await connected(socket, signal)
          socket.write(token)
          const seen = await talk.next(['observed'], { signal })
          if (seen.port !== port) throw talk.failure('malformed')
          observations.push({ localPort: socket.localPort ?? 0, remote: { address: host, port }, observed: seen.from })
        }
        toldCount += 1
      })
    } catch (error) {
      if (options.signal.aborted) {
        release()
        throw error
      }
      deps.log.debug('a peer does not tell where it sees a socket', { peer, error: messageOf(error) })
    }
  }
  const [first] = observations
  if (first !== undefined) return { localPort: first.localPort, isIpv6, observations, release }
  release()
  return undefined
}

async function connected(socket: Socket, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  socket.on('error', reject) // Later ones find the promise settled.
  socket.once('connect', resolve)
  await abortable(promise, signal)
}
