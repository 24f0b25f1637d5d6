/**
 * The topic: nodes of one network say in the DHTs that they are there, and look who else is. What comes back are hints:
 * addresses of anybody, dialled a few at a time, and worth something only once the host has admitted who answers.
 */
import { type Clock, type Logger, messageOf, withDeadline } from '#base'
import type { MainlineNode } from '#mainline'
import { endingIn } from './dial-plan.ts'
import { topicKey } from './keys.ts'
import {
  DIAL_MS_MAX,
  DIAL_RETRY_MS_MIN,
  DIALS_FAILED_MAX,
  TOPIC_ANNOUNCE_MS,
  TOPIC_MS_MAX,
  TOPIC_PEERS_MAX,
} from './limits.ts'
import type { DiscoveryHost, KadRecords } from './types.ts'

export type RendezvousDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly topic: string
  readonly host: Pick<DiscoveryHost, 'id' | 'connect' | 'peers'>
  readonly kad?: Pick<KadRecords, 'provide' | 'findProviders'> | undefined
  readonly mainline?: Pick<MainlineNode, 'announce' | 'getPeers'> | undefined
  /** TCP port that strangers can dial; undefined: none. */
  readonly tcpPort: () => number | undefined
}

export class Rendezvous {
  readonly #deps: RendezvousDeps
  readonly #key: Uint8Array
  readonly #ended = new AbortController()
  #announcedAt = Number.NEGATIVE_INFINITY
  #work: Promise<void> | undefined
  /** Clock.monotonic() until which an address is left alone, oldest first. */
  readonly #tried = new Map<string, number>()

  constructor(deps: RendezvousDeps) {
    this.#deps = deps
    this.#key = topicKey(deps.topic)
  }

  /** Announces where it is due, and looks for peers where some are wanted. One turn at a time; never rejects. */
  turn(options: { readonly isHungry: boolean }): Promise<void> {
    this.#work ??= this.#turn(options.isHungry).finally(() => {
      this.#work = undefined
    })
    return this.#work
  }

  /** Resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#ended.abort(new Error('discovery stops'))
    await this.#work
    this.#tried.clear()
  }

  async #turn(isHungry: boolean): Promise<void> {
    const { clock, kad, mainline, tcpPort } = this.#deps
    const now = clock.monotonic()
    const port = tcpPort()
    if (now - this.#announcedAt >= TOPIC_ANNOUNCE_MS) {
      this.#announcedAt = now
      const told = [await this.#attempt(async signal => kad?.provide(this.#key, { signal }))]
      if (port !== undefined && mainline !== undefined) {
        told.push(await this.#attempt(signal => mainline.announce(this.#key, port, { signal })))
      }
      // A DHT that nobody of has been found yet is told in the next turn.
      if (told.includes(false)) this.#announcedAt = Number.NEGATIVE_INFINITY
    }
    if (!isHungry) return
    await this.#attempt(signal => this.#searchKad(signal))
    await this.#attempt(signal => this.#searchMainline(signal))
  }

  async #searchKad(signal: AbortSignal): Promise<void> {
    let count = 0
    for await (const { peer, addresses } of this.#deps.kad?.findProviders(this.#key, { signal }) ?? []) {
      if (peer === this.#deps.host.id || this.#deps.host.peers().some(({ id }) => id === peer)) continue
      for (const address of addresses.slice(0, 4)) {
        await this.#dial(endingIn(address, peer), signal)
      }
      if (++count >= TOPIC_PEERS_MAX) return
    }
  }

  async #searchMainline(signal: AbortSignal): Promise<void> {
    let count = 0
    for await (const { host, port } of this.#deps.mainline?.getPeers(this.#key, { signal }) ?? []) {
      await this.#dial(`${host.includes(':') ? '/ip6' : '/ip4'}/${host}/tcp/${port}`, signal)
      if (++count >= TOPIC_PEERS_MAX) return
    }
  }

  async #dial(address: string, signal: AbortSignal): Promise<void> {
    const { clock, host, log } = this.#deps
    if ((this.#tried.get(address) ?? 0) > clock.monotonic()) return
    this.#tried.delete(address)
    // Also where it leads somewhere: whoever is there is connected now, and need not be dialled by this again.
    this.#tried.set(address, clock.monotonic() + 10 * DIAL_RETRY_MS_MIN)
    const [oldest] = this.#tried.keys()
    if (this.#tried.size > DIALS_FAILED_MAX && oldest !== undefined) this.#tried.delete(oldest)
    try {
      const deadline = { what: 'a dial', timeoutMs: DIAL_MS_MAX, signal }
      await withDeadline(clock, deadline, inner => host.connect(address, { signal: inner }))
    } catch (error) {
      log.debug('somebody under the topic could not be reached', { error: messageOf(error) })
    }
  }

  /** @returns whether it came to its end */
  async #attempt(task: (signal: AbortSignal) => Promise<unknown>): Promise<boolean> {
    const { clock, log } = this.#deps
    const { signal } = this.#ended
    try {
      await withDeadline(clock, { what: 'a look-up of the topic', timeoutMs: TOPIC_MS_MAX, signal }, task)
      return true
    } catch (error) {
      if (!signal.aborted) log.debug('a look-up of the topic ended', { error: messageOf(error) }) // The next one comes.
      return false
    }
  }
}
