/** Circuits that end at this node: those that we ask a relay for, and those that others reach us by. */
import type { Connection } from '@libp2p/interface'
import { type ByteStream, type Clock, type Logger, messageOf, withDeadline } from '#base'
import type { OwnCircuit, RelayMessage } from '#wire'
import type { Address } from '../address.ts'
import type { AdoptOptions, BytePipe } from '../adopt.ts'
import type { Adoption } from '../connector.ts'
import { NetError } from '../errors.ts'
import type { NetSettings } from '../settings.ts'
import { RelayAsks } from './asks.ts'
import { CircuitPipe } from './circuit-pipe.ts'
import { RELAY_OWN_CIRCUITS_MAX } from './limits.ts'
import { expectAnswer, relayRefused } from './refusals.ts'
import { endWith, RelayStream } from './relay-stream.ts'

export type RelayClientDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly settings: Pick<NetSettings, 'admissionTimeoutMs'>
  /** Our own peer id. */
  readonly self: string
  /** Resolves once the relay is here. @throws NetError */
  readonly reach: (relay: string, address: string, options: { readonly signal: AbortSignal }) => Promise<void>
  /** Whether a peer is here and reached without a relay. */
  readonly isDirect: (peer: string) => boolean
  readonly open: (relay: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
  /** Makes an outbound connection of the circuit. */
  readonly adopt: (pipe: BytePipe, options: AdoptOptions) => Promise<Connection | undefined>
  /** Makes an inbound connection of the circuit, and a session of that. */
  readonly adoptInbound: (pipe: BytePipe, adoption: Adoption) => Promise<void>
  /** Whether we hold this reservation at the relay. */
  readonly holds: (relay: string, session: Uint8Array) => boolean
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
}

export class RelayClient {
  readonly #deps: RelayClientDeps
  readonly #circuits = new Set<CircuitPipe>()
  /** A relay that we trust with our address is not trusted with our processor. */
  readonly #asks: RelayAsks

  constructor(deps: RelayClientDeps) {
    this.#deps = deps
    this.#asks = new RelayAsks(deps)
  }

  circuits(): OwnCircuit[] {
    return [...this.#circuits].map(({ facts }) => facts)
  }

  /** A connection to the peer at the end of a circuit address. @throws NetError, or the signal's reason */
  async dial(address: Address, options: { readonly signal: AbortSignal }): Promise<Connection> {
    const { clock, self, adopt } = this.#deps
    const { relay, peer, text } = address
    if (relay === undefined || peer === undefined) {
      throw new NetError({ code: 'NET_DIAL_FAILED' }, 'an address of a circuit names its relay and its peer')
    }
    if (relay === self || relay === peer || peer === self) throw relayRefused(relay, 'loop')
    await this.#deps.reach(relay, text.slice(0, text.indexOf('/p2p-circuit')), options)
    if (!this.#deps.isDirect(relay)) throw relayRefused(relay, 'loop')
    const stream = new RelayStream(await this.#deps.open(relay, options))
    try {
      stream.say({ type: 'connect', peer })
      // The relay asks the peer, so its answer takes longer than its own.
      const { peer: found } = expectAnswer(relay, 'connected', await stream.answer(clock, options))
      if (found !== peer) throw relayRefused(relay, 'malformed')
      const pipe = this.#pipe({ stream, peer, direction: 'outbound' })
      const connection = await adopt(pipe, { direction: 'outbound', remoteAddress: text, signal: options.signal })
      if (connection === undefined) throw relayRefused(relay, 'malformed')
      return connection
    } catch (error) {
      stream.abort(new Error('the circuit came to nothing'))
      throw error
    }
  }

  /** A relay brings a circuit. It is ours where we hold a reservation there. */
  async incoming(stream: RelayStream, message: Extract<RelayMessage, { type: 'incoming' }>): Promise<void> {
    const { clock, log, self, settings, stopping } = this.#deps
    const relay = stream.peer
    const { peer, session } = message
    const isWanted = this.#deps.holds(relay, session) && this.#deps.isDirect(relay) && peer !== self && peer !== relay
    const isFlood = isWanted && this.#asks.take(relay, 'incoming') > 0
    if (!isWanted || isFlood || stopping.aborted || this.#circuits.size >= RELAY_OWN_CIRCUITS_MAX) {
      await endWith(clock, stream, { type: 'refused', reason: stopping.aborted ? 'stopping' : 'refused' })
      return
    }
    const pipe = this.#pipe({ stream, peer, direction: 'inbound' })
    const deadline = { what: 'the handshake over a circuit', timeoutMs: settings.admissionTimeoutMs, signal: stopping }
    const adoption = {
      peer,
      address: `/p2p/${relay}/p2p-circuit`,
      path: { kind: 'relayed', transport: 'tcp', via: relay },
      direction: 'inbound',
    } as const
    try {
      stream.say({ type: 'accept' })
      await withDeadline(clock, deadline, signal => this.#deps.adoptInbound(pipe, { ...adoption, signal }))
    } catch (error) {
      pipe.abort(new Error('the circuit came to nothing'))
      log.debug('a circuit came to nothing', { relay, peer, error: messageOf(error) })
    }
  }

  #pipe(options: {
    readonly stream: RelayStream
    readonly peer: string
    readonly direction: 'inbound' | 'outbound'
  }): CircuitPipe {
    const pipe: CircuitPipe = new CircuitPipe({
      ...options,
      onOver: error => {
        this.#circuits.delete(pipe)
        if (error?.fault.code !== 'NET_RELAY_CUT') return
        const { relay, peer, reason } = error.fault
        // Connections end by resets too: only what the relay's rules have ended is news.
        if (reason === 'lost') this.#deps.log.debug('a circuit was lost', { relay, peer })
        else this.#deps.log.warn('a relay has cut a circuit', { relay, peer, reason })
      },
    })
    this.#circuits.add(pipe)
    return pipe
  }
}
