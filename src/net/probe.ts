/**
 * Dials made to find out whether an address leads to a peer: on a connection of their own, beside what is connected, that
 * carries one stream and ends. No session is made on it: the other side takes it for a guest's.
 */
import type { Libp2p } from '@libp2p/interface'
import { type Clock, messageOf } from '#base'
import { parseAddress } from './address.ts'
import { NetStream } from './byte-stream.ts'
import { NetError } from './errors.ts'
import { hangUp } from './hang-up.ts'
import type { DataPlane } from './plane/data-plane.ts'
import type { Session } from './session.ts'
import type { Probe, ProbeOptions, ProbeTarget } from './types.ts'

export type ProbeDeps = {
  readonly clock: Clock
  readonly libp2p: Pick<Libp2p, 'dial'>
  readonly plane: DataPlane | undefined
  /** With the peer, where there is one: the keys of a data plane come from it. */
  readonly session: Session | undefined
}

/** @throws NetError NET_ADDRESS_INVALID, NET_DIAL_FAILED, NET_WRONG_PEER; the signal's reason */
export function probe(deps: ProbeDeps, target: ProbeTarget, options: ProbeOptions): Promise<Probe> {
  return target.isPlane === true ? probePlane(deps, target, options) : probeAddress(deps, target, options)
}

async function probeAddress(
  deps: Pick<ProbeDeps, 'clock' | 'libp2p'>,
  { peer, address }: ProbeTarget,
  { protocol, signal }: ProbeOptions,
): Promise<Probe> {
  const { target } = parseAddress(address)
  try {
    const connection = await deps.libp2p.dial(target, { signal, force: true })
    const end = (): Promise<void> => hangUp(deps.clock, connection, { awaitsPeer: false })
    try {
      const actual = connection.remotePeer.toString()
      if (actual !== peer) {
        throw new NetError({ code: 'NET_WRONG_PEER', expected: peer, actual }, 'another node answers at that address')
      }
      const stream = await connection.newStream(protocol, { signal })
      return { stream: new NetStream(deps, { stream, peer }), end }
    } catch (error) {
      await end()
      throw error
    }
  } catch (error) {
    if (error instanceof NetError || signal.aborted) throw error
    throw failed(peer, error)
  }
}

async function probePlane(
  deps: Pick<ProbeDeps, 'plane' | 'session'>,
  { peer, address }: ProbeTarget,
  { protocol, signal }: ProbeOptions,
): Promise<Probe> {
  const { host, target } = parseAddress(address)
  const port = Number(target.getComponents()[1]?.value)
  const { plane, session } = deps
  if (plane === undefined || session === undefined) throw failed(peer, new Error('there is no data plane to dial from'))
  try {
    const stream = await plane.probe(session, { host, port, protocol, signal })
    return { stream, end: async () => stream.abort(new Error('the probe is over')) }
  } catch (error) {
    if (signal.aborted) throw error
    throw failed(peer, error)
  }
}

function failed(peer: string, cause: unknown): NetError {
  const sentence = `the address does not lead to the peer: ${messageOf(cause)}`
  return new NetError({ code: 'NET_DIAL_FAILED', peer }, sentence, { cause })
}
