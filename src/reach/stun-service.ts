/**
 * The STUN server that a public node runs for others, at its own public addresses: at one, or at two, which tells its
 * clients about filtering too (RFC 5780).
 */
import { type Clock, type Logger, messageOf } from '#base'
import { closeStunSockets, createStunServer, type OpenUdp, openStunSockets, type StunSockets } from '#nat'

export type StunServiceDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly openUdp: OpenUdp
  /** It runs now, at another port, or not any more. */
  readonly onChanged: () => void
}

/** The ports of RFC 8489 and, for the second, its neighbour. Where they are taken, any will do: offers say which. */
const PORTS = [3_478, 3_479] as const

type Running = { readonly addresses: string; readonly sockets: StunSockets; close(): Promise<void> }

export class StunService {
  readonly #deps: StunServiceDeps
  #running: Running | undefined
  /** One change after the other. */
  #turn: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(deps: StunServiceDeps) {
    this.#deps = deps
  }

  get port(): number | undefined {
    return this.#running?.sockets.first.local.port
  }

  /**
   * Runs at these addresses from now on, the first two of them; without any, not at all.
   * @returns when that is so
   */
  serveAt(addresses: readonly string[]): Promise<void> {
    this.#turn = this.#turn.then(() => this.#change(this.#isStopped ? [] : addresses.slice(0, 2)))
    return this.#turn
  }

  stop(): Promise<void> {
    this.#isStopped = true
    return this.serveAt([])
  }

  /** Never rejects. */
  async #change(addresses: readonly string[]): Promise<void> {
    if ((this.#running?.addresses ?? '') === addresses.join(' ')) return
    await this.#running?.close()
    this.#running = addresses.length === 0 ? undefined : await this.#start(addresses)
    this.#deps.onChanged()
  }

  async #start(addresses: readonly string[]): Promise<Running | undefined> {
    const { openUdp, log, clock } = this.#deps
    const [first = '', second] = addresses
    const places = second === undefined ? ([first] as const) : ([first, second] as const)
    try {
      const sockets = await openStunSockets(openUdp, places, PORTS).catch(() => openStunSockets(openUdp, places))
      const server = createStunServer({ clock, sockets })
      const close = (): Promise<void> => {
        server.close()
        return closeStunSockets(sockets)
      }
      return { addresses: addresses.join(' '), sockets, close }
    } catch (error) {
      log.warn('the STUN server does not run', { error: messageOf(error) })
      return undefined
    }
  }
}
