/**
 * One peer's streams that have lost their carriers: finds another session with the peer, and opens carriers over it for
 * those that this side has opened. Both sides dial, because often only one of them can; the one that dialled before goes
 * first. Runs only while something waits.
 */
import { abortable, type ByteStream, type Clock, codeOf, type Random, sleep, uniform, withDeadline } from '#base'
import { NetError } from '../errors.ts'
import {
  CARRIED_REFUSED_MS,
  CARRIED_REOPEN_MS_MAX,
  CARRIED_REOPENS_MAX,
  CARRIED_RETRY_MS_MAX,
  CARRIED_RETRY_MS_MIN,
  CARRIED_TURN_MS,
} from '../limits.ts'
import { type CarriedStream, lostBy } from './carried-stream.ts'
import type { Carrier } from './carrier.ts'

export type RecoveryDeps<S> = {
  readonly clock: Clock
  readonly random: Random
  readonly sessionOf: (peer: string) => S | undefined
  readonly openCarrier: (
    session: S,
    protocol: string,
    options: { readonly signal?: AbortSignal | undefined },
  ) => Promise<ByteStream>
  readonly carrierOf: (bytes: ByteStream, session: S) => Carrier<S>
  readonly reconnect: (peer: string, options: { readonly signal: AbortSignal }) => Promise<void>
  readonly onDead: (session: S) => void
}

export type RecoveryOptions<S> = {
  readonly peer: string
  /** Streams of the peer that have no carrier that works. */
  readonly waiting: () => CarriedStream<S>[]
}

export class Recovery<S> {
  readonly #deps: RecoveryDeps<S>
  readonly #options: RecoveryOptions<S>
  #isDialler = true
  #running: Promise<void> | undefined
  #alarm = new AbortController()
  #waitMs = CARRIED_RETRY_MS_MIN
  #endedAt = Number.NEGATIVE_INFINITY

  constructor(deps: RecoveryDeps<S>, options: RecoveryOptions<S>) {
    this.#deps = deps
    this.#options = options
  }

  /** Whether it was us who dialled the peer. */
  setDialler(isOurs: boolean): void {
    this.#isDialler = isOurs
  }

  /** Something has changed: a stream waits, or none does any more, or there is a session. */
  wake(): void {
    this.#alarm.abort()
    this.#alarm = new AbortController()
    if (this.#running !== undefined || this.#options.waiting().length === 0) return
    this.#running = this.#run().finally(() => {
      this.#running = undefined
      this.#endedAt = this.#deps.clock.monotonic()
      if (this.#options.waiting().length > 0) this.wake()
    })
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.#running
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { peer, waiting } = this.#options
    const { clock } = this.#deps
    let refusedSince: number | undefined
    // Streams tell of their loss one by one, in one turn of the event loop.
    await Promise.resolve()
    // What breaks again and again is not opened again and again at once.
    if (clock.monotonic() - this.#endedAt < CARRIED_RETRY_MS_MAX) await this.#backOff()
    if (this.#deps.sessionOf(peer) === undefined && !this.#isDialler) await this.#pause(CARRIED_TURN_MS)
    while (waiting().length > 0) {
      const session = this.#deps.sessionOf(peer)
      if (session === undefined) {
        const outcome = await this.#dial()
        if (outcome === 'here') continue
        if (outcome === 'refused') refusedSince ??= clock.monotonic()
        // That nobody was dialled, since it was refused so often, does not mean that it would be heard now.
        else if (outcome !== 'resting') refusedSince = undefined
        const isOver = refusedSince !== undefined && clock.monotonic() - refusedSince >= CARRIED_REFUSED_MS
        if (isOver) this.#failAll('the connection was lost, and nothing answers where the peer was')
        if (outcome === 'unwanted') this.#failAll('the connection was lost, and the peer wants no other')
      } else {
        const { signal } = this.#alarm
        if (await this.#reopenAll(session)) {
          this.#waitMs = CARRIED_RETRY_MS_MIN
          // What waits now waits for the peer's carriers, or for its time to be up: nothing to be done until then.
          if (waiting().length > 0) await aborted(signal)
          continue
        }
      }
      await this.#backOff()
    }
  }

  async #backOff(): Promise<void> {
    await this.#pause(this.#waitMs)
    this.#waitMs = Math.min(CARRIED_RETRY_MS_MAX, this.#waitMs * 2)
  }

  async #dial(): Promise<'here' | 'failed' | 'refused' | 'resting' | 'unwanted'> {
    const { peer } = this.#options
    const { signal } = this.#alarm
    try {
      await abortable(this.#deps.reconnect(peer, { signal }), signal)
      return this.#deps.sessionOf(peer) === undefined ? 'failed' : 'here'
    } catch (error) {
      if (this.#deps.sessionOf(peer) !== undefined) return 'here'
      if (isRefusal(error)) return 'unwanted'
      if (codeOf(error) === 'NET_PEER_RESTING') return 'resting'
      return isRefused(error) ? 'refused' : 'failed'
    }
  }

  /** @returns whether all of ours have a carrier again */
  async #reopenAll(session: S): Promise<boolean> {
    const ours = this.#options.waiting().filter(({ role, phase }) => role === 'opener' && phase === 'waiting')
    const queue = ours.values()
    let isAll = true
    const work = async (): Promise<void> => {
      for (const stream of queue) if (!(await this.carry(stream, session))) isAll = false
    }
    await Promise.all(Array.from({ length: CARRIED_REOPENS_MAX }, work))
    return isAll
  }

  /**
   * Opens another carrier for a stream of ours, which keeps the one that it has until there is one.
   * @returns whether it flows over it
   */
  async carry(stream: CarriedStream<S>, session: S): Promise<boolean> {
    const { clock, openCarrier, carrierOf, sessionOf, onDead } = this.#deps
    const before = stream.session
    const options = { what: 'another carrier of a stream', timeoutMs: CARRIED_REOPEN_MS_MAX }
    try {
      await withDeadline(clock, options, async signal => {
        const carrier = carrierOf(await openCarrier(session, stream.protocol, { signal }), session)
        if (signal.aborted || stream.session !== before || stream.phase === 'ended') {
          carrier.abort()
          return
        }
        stream.switchTo(carrier)
        void carrier.run()
        await stream.untilAnswered()
      })
    } catch (error) {
      if (stream.phase === 'resuming' && stream.session === session) stream.giveUpCarrier()
      // It took so long that whatever the session runs on leads nowhere any more.
      if (codeOf(error) === 'TIMEOUT' && sessionOf(this.#options.peer) === session) onDead(session)
    }
    return stream.phase === 'flowing' || stream.phase === 'ended'
  }

  #failAll(why: string): void {
    for (const stream of this.#options.waiting()) stream.fail(lostBy(why))
  }

  /** About so long, or until something has changed. */
  async #pause(ms: number): Promise<void> {
    const { clock, random } = this.#deps
    const { signal } = this.#alarm
    await sleep(clock, ms * (0.5 + uniform(random)), { signal }).catch(() => undefined) // Woken: look again.
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** Whether one of the two wants no session. One that did not come about in time was cut once more on the way, perhaps. */
function isRefusal(error: unknown): boolean {
  return error instanceof NetError && error.fault.code === 'NET_NOT_ADMITTED' && error.fault.reason !== 'slow'
}

/** Whether a dial has failed because nothing listens there, as far as the system says. */
function isRefused(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if ('code' in error && error.code === 'ECONNREFUSED') return true
  if (error instanceof AggregateError) return error.errors.length > 0 && error.errors.every(isRefused)
  return isRefused(error.cause)
}
