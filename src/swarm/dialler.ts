/** Sessions with peers, as the side that begins: with nodes over the host, with stock clients over TCP. */
import { type Clock, fromHex, type Logger, withDeadline } from '#base'
import { PROTOCOLS } from '#wire'
import { SwarmError } from './errors.ts'
import { DIAL_MS_MAX } from './limits.ts'
import type { PeerAddress, SwarmDeps, SwarmHost } from './swarm-types.ts'
import type { WireFault } from './wire/errors.ts'
import { openPieces } from './wire/greeting.ts'
import { SHORT_HASH_BYTES } from './wire/protocol.ts'
import type { PeerSession, SessionOptions } from './wire/types.ts'

export type DialTarget = {
  readonly address: PeerAddress
  /** Undefined: not known, so only stock clients can be asked. */
  readonly model: string | undefined
  /** Undefined: not known, so only nodes can be asked. */
  readonly infoHash: Uint8Array | undefined
  readonly session: SessionOptions
}

/** Why there is no session. `isToBlame`: the peer broke the rules. */
export class DialError extends Error {
  override readonly name = 'DialError'
  readonly isToBlame: boolean

  constructor(message: string, isToBlame: boolean, options?: ErrorOptions) {
    super(message, options)
    this.isToBlame = isToBlame
  }
}

export type DiallerDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly host: SwarmHost
  readonly bittorrent: SwarmDeps['bittorrent'] | undefined
}

export class Dialler {
  readonly #deps: DiallerDeps

  constructor(deps: DiallerDeps) {
    this.#deps = deps
  }

  /** A session that is to be started. @throws DialError; NetError; TimeoutError; the signal's reason */
  dial(target: DialTarget, signal: AbortSignal): Promise<PeerSession> {
    const deadline = { what: 'reaching a peer of the swarm', timeoutMs: DIAL_MS_MAX, signal }
    const { address } = target
    return withDeadline(this.#deps.clock, deadline, signal =>
      address.kind === 'koinon' ? this.#node(address, target, signal) : this.#stock(address, target, signal),
    )
  }

  async #node(
    { peer, addresses }: Extract<PeerAddress, { kind: 'koinon' }>,
    { model, session }: DialTarget,
    signal: AbortSignal,
  ): Promise<PeerSession> {
    if (model === undefined) throw new DialError('a node is asked for a model by its id, which is not known', false)
    const { clock, log, host } = this.#deps
    const stream = await host.open(peer, PROTOCOLS.pieces, { addresses, signal })
    const opened = await openPieces({ clock, logger: log }, stream, { ...session, model: fromHex(model) })
    if (isFault(opened)) throw new DialError(opened.what, opened.blame === 'peer')
    if (!signal.aborted) return opened
    opened.close('nobody waits for it any more')
    throw new DialError('it took too long', false)
  }

  async #stock(
    { host, port }: Extract<PeerAddress, { kind: 'bittorrent' }>,
    { infoHash, session }: DialTarget,
    signal: AbortSignal,
  ): Promise<PeerSession> {
    const { bittorrent } = this.#deps
    if (bittorrent === undefined || infoHash === undefined) {
      throw new DialError('BitTorrent clients cannot be asked here', false)
    }
    const opened = await bittorrent.dial({
      ...session,
      host,
      port,
      infoHash: infoHash.subarray(0, SHORT_HASH_BYTES),
      signal,
    })
    if (isFault(opened)) throw new DialError(opened.what, opened.blame === 'peer')
    return opened
  }
}

function isFault(value: PeerSession | WireFault): value is WireFault {
  return 'blame' in value
}

/** The id of a node in 32 bytes. @throws SwarmError SWARM_ADDRESS_INVALID for what is none */
export function modelBytes(model: string): Uint8Array {
  if (/^[0-9a-f]{64}$/.test(model)) return fromHex(model)
  throw new SwarmError({ code: 'SWARM_ADDRESS_INVALID' }, 'a model id has 64 hexadecimal digits')
}
