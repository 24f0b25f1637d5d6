/**
 * Pings of one connection: they measure the round-trip time, and close a connection whose peer does not answer. A peer may
 * be gone without a word (its machine lost power, a NAT forgot the path), and TCP would take minutes to notice.
 */
import type { CancelTimer, Clock, Random } from '#base'
import { DOUBT_TIMEOUT_MS, DOUBTS_FAILED_MAX, PING_FIRST_INTERVAL_MS, PINGS_FIRST } from '../limits.ts'
import type { NetSettings } from '../settings.ts'

export type PingerDeps = {
  readonly clock: Clock
  readonly random: Random
  /** Sends a ping. A peer that does not read what it was sent gets none, and fails it all the same. */
  readonly send: (id: number) => void
  readonly onRtt: () => void
  /** As many pings in a row have failed as may. */
  readonly onDead: () => void
}

export type PingSettings = Pick<NetSettings, 'pingIntervalMs' | 'pingTimeoutMs' | 'pingFailuresMax'>

export class Pinger {
  readonly #deps: PingerDeps
  readonly #settings: PingSettings
  #waiting: { readonly id: number; readonly sentAt: number; readonly cancel: CancelTimer } | undefined
  /** When pings were sent that nobody waits for any more, since the last answer. At most as many as may fail. */
  readonly #late = new Map<number, number>()
  #cancelNext: CancelTimer | undefined
  #isRunning = false
  #pongs = 0
  #failures = 0
  #rttMs: number | undefined
  /** Pings in a row that have failed since somebody doubted; undefined: nobody does. */
  #doubts: number | undefined

  constructor(deps: PingerDeps, settings: PingSettings) {
    this.#deps = deps
    this.#settings = settings
  }

  /** Smoothed, in milliseconds. */
  get rttMs(): number | undefined {
    return this.#rttMs
  }

  /** Pings in a row that got no answer in time. */
  get failures(): number {
    return this.#failures
  }

  start(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    this.#ping()
  }

  /**
   * Somebody waits in vain for the peer: it is asked at once whether it is there, and again as soon as an answer is late.
   * The answer ends the doubt.
   */
  doubt(): void {
    if (!this.#isRunning || this.#doubts !== undefined) return
    this.#doubts = 0
    this.#ping()
  }

  stop(): void {
    this.#isRunning = false
    this.#cancelNext?.()
    this.#waiting?.cancel()
  }

  pong(id: number): void {
    const { clock, onRtt } = this.#deps
    const ping = this.#waiting?.id === id ? this.#waiting : undefined
    const sampleMs = clock.monotonic() - (ping?.sentAt ?? this.#late.get(id) ?? Number.NEGATIVE_INFINITY)
    // Behind much else that is on its way a ping takes longer than a doubt waits, and is answered in time all the same.
    if (ping === undefined && sampleMs >= this.#settings.pingTimeoutMs) return
    ping?.cancel()
    if (ping !== undefined) this.#waiting = undefined
    this.#late.clear()
    this.#failures = 0
    this.#doubts = undefined
    // Smoothed as TCP does (RFC 6298), but a shorter time is believed at once: no path answers faster than it is, and
    // the first answers come while both nodes are busy with starting.
    const before = this.#rttMs ?? sampleMs
    this.#rttMs = sampleMs < before ? sampleMs : before + (sampleMs - before) / 8
    onRtt()
    this.#pongs++
    if (this.#pongs < PINGS_FIRST && this.#isRunning) this.#pingAfter(PING_FIRST_INTERVAL_MS)
  }

  #ping(): void {
    const { clock, random } = this.#deps
    const { pingIntervalMs } = this.#settings
    const timeoutMs = this.#timeoutMs()
    this.#waiting?.cancel()
    const id = random.uint32()
    this.#waiting = { id, sentAt: clock.monotonic(), cancel: clock.after(timeoutMs, () => this.#failed()) }
    this.#pingAfter(pingIntervalMs)
    this.#deps.send(id)
  }

  #timeoutMs(): number {
    const { pingTimeoutMs } = this.#settings
    if (this.#doubts === undefined) return pingTimeoutMs
    return Math.min(pingTimeoutMs, Math.max(DOUBT_TIMEOUT_MS, 4 * (this.#rttMs ?? 0)))
  }

  #pingAfter(delayMs: number): void {
    this.#cancelNext?.()
    this.#cancelNext = this.#deps.clock.after(delayMs, () => this.#ping())
  }

  #failed(): void {
    this.#failures++
    if (this.#waiting !== undefined) this.#late.set(this.#waiting.id, this.#waiting.sentAt)
    this.#waiting = undefined
    const doubts = this.#doubts === undefined ? 0 : ++this.#doubts
    if (this.#failures < this.#settings.pingFailuresMax && doubts < DOUBTS_FAILED_MAX) {
      if (doubts > 0) this.#ping()
      return
    }
    this.stop()
    this.#deps.onDead()
  }
}
