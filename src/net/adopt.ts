/**
 * Makes an ordinary connection of bytes that came about in another way than by dialling an address: a circuit through a
 * relay, a socket that both sides opened at once. libp2p secures and multiplexes it like any other, so that what is above
 * (sessions, streams, limits) need not know.
 */
import type { ComponentLogger, Connection, Upgrader } from '@libp2p/interface'
import { AbstractMultiaddrConnection } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Uint8ArrayList } from 'uint8arraylist'
import { type ByteStream, messageOf } from '#base'
import type { NetSettings } from './settings.ts'

/** Bytes in both directions; whoever sent a piece does not touch it again. */
export type BytePipe = Pick<ByteStream, 'send' | 'drained' | 'received' | 'close' | 'abort'>

export type AdoptDeps = {
  readonly upgrader: Upgrader
  readonly logger: ComponentLogger
  readonly settings: Pick<NetSettings, 'streamWriteBytes'>
}

export type AdoptOptions = {
  /** The outbound side speaks first and is TLS's client. The two sides must have different ones. */
  readonly direction: 'inbound' | 'outbound'
  /** Where the other end is, as a multiaddr that ends in the expected peer's id. */
  readonly remoteAddress: string
  readonly signal: AbortSignal
}

/**
 * Runs libp2p's upgrade over the pipe.
 * @returns the connection where we are the outbound side. An inbound one arrives as every inbound connection does.
 * @throws where the identity is not the expected one, the handshake fails, or the signal aborts; the pipe is aborted then
 */
export async function adopt(deps: AdoptDeps, pipe: BytePipe, options: AdoptOptions): Promise<Connection | undefined> {
  const { direction, remoteAddress, signal } = options
  const connection = new PipeConnection(deps, pipe, { direction, remoteAddr: multiaddr(remoteAddress) })
  try {
    if (direction === 'outbound') return await deps.upgrader.upgradeOutbound(connection, { signal })
    await deps.upgrader.upgradeInbound(connection, { signal })
    return undefined
  } catch (error) {
    connection.abort(error instanceof Error ? error : new Error(messageOf(error)))
    throw error
  }
}

class PipeConnection extends AbstractMultiaddrConnection {
  readonly #pipe: BytePipe
  #resumed = Promise.withResolvers<void>()
  #isEnding = false

  constructor(
    deps: Pick<AdoptDeps, 'logger' | 'settings'>,
    pipe: BytePipe,
    options: { readonly direction: 'inbound' | 'outbound'; readonly remoteAddr: Multiaddr },
  ) {
    const log = deps.logger.forComponent('koinon:pipe')
    super({ ...options, log, maxWriteBufferLength: deps.settings.streamWriteBytes })
    this.#pipe = pipe
    this.#resumed.resolve()
    void this.#read()
  }

  sendData(data: Uint8ArrayList): { sentBytes: number; canSendMore: boolean } {
    let sentBytes = 0
    let canSendMore = true
    for (const piece of data) {
      canSendMore = this.#pipe.send(piece)
      sentBytes += piece.byteLength
      if (!canSendMore) break
    }
    if (!canSendMore) {
      const drained = (): void => void this.safeDispatchEvent('drain')
      this.#pipe.drained().then(drained, error => this.onTransportClosed(asError(error)))
    }
    return { sentBytes, canSendMore }
  }

  async sendClose(): Promise<void> {
    this.#isEnding = true
    await this.#pipe.close()
  }

  sendReset(error: Error): void {
    this.#isEnding = true
    this.#resumed.resolve()
    this.#pipe.abort(error)
  }

  sendPause(): void {
    this.#resumed = Promise.withResolvers<void>()
  }

  sendResume(): void {
    this.#resumed.resolve()
  }

  async #read(): Promise<void> {
    try {
      for await (const piece of this.#pipe.received) {
        await this.#resumed.promise
        this.onData(piece)
      }
      this.onTransportClosed()
    } catch (error) {
      if (this.#isEnding) this.onTransportClosed()
      else this.onTransportClosed(asError(error))
    }
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error))
}
