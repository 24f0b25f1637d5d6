/**
 * How much one channel is asked for at once, in requests of which size, and how long an answer may take. All of it follows
 * from what was measured on the channel: its rate, and the shortest time that an answer took.
 *
 * The bytes under way (the window) start small and double each round trip (slow start, RFC 5681) until three rounds of more
 * brought no more bytes a second, or answers began to wait in a queue. From then on they are one and a half times the product
 * of bandwidth and delay (after BBR, Cardwell 2016): the pipe is full, and a third of the window waits at the sender. As
 * answers that wait in a queue of our own making would look like a longer way, the window shrinks every ten seconds until one
 * answer has come back through an empty queue.
 */
import { BLOCK_BYTES } from '../types.ts'
import { RateMeter } from './rate-meter.ts'
import type { DownloadSettings } from './settings.ts'

const ROUND_MS_MIN = 100
const ROUNDS_REMEMBERED = 10
/** Rounds of a full window that brought no more, until slow start ends. */
const FLAT_ROUNDS = 3
const GROWTH_MIN = 1.25
const WINDOW_GAIN = 1.5
/** An answer that waited so long at the sender ends slow start (as HyStart does for TCP, RFC 9406): the pipe is full. */
const QUEUE_MS_MAX = 100
/** What a sender's and our own event loop may add to a round trip. */
const JITTER_MS = 20
const RTT_FRESH_MS = 10_000
const RATE_SPAN_MS = 2_000
const STALL_DOUBLINGS_MAX = 5

export class Pace {
  readonly #settings: DownloadSettings
  readonly #meter: RateMeter
  #slowStartBytes: number | undefined
  #flatRounds = 0
  /** Bytes a second of the last rounds. */
  readonly #rounds: number[] = []
  #best = 0
  #round: { startedAt: number; bytes: number; wasFull: boolean }
  #rttMs: number | undefined
  #rttAt: number
  /** Since when the queue is being drained, to measure the way alone. */
  #drainedSince: number | undefined
  #stalls = 0
  #stalledAt = Number.NEGATIVE_INFINITY

  constructor(settings: DownloadSettings, now: number) {
    this.#settings = settings
    this.#meter = new RateMeter(RATE_SPAN_MS, now)
    this.#slowStartBytes = settings.windowBytesStart
    this.#round = { startedAt: now, bytes: 0, wasFull: false }
    this.#rttAt = now
  }

  /** Answers that were waited for in vain, since the last that came. */
  get stalls(): number {
    return this.#stalls
  }

  /** One request at a time, until it answers again. */
  get isSnubbed(): boolean {
    return this.#stalls > 0
  }

  rate(now: number): number {
    return this.#meter.rate(now)
  }

  /** Bytes that may be under way. */
  windowBytes(now: number): number {
    const { inFlightBytesMax, windowBytesStart } = this.#settings
    if (this.isSnubbed) return BLOCK_BYTES
    if (this.#slowStartBytes !== undefined) return Math.min(this.#slowStartBytes, inFlightBytesMax)
    const request = this.#sizeFor(this.#best)
    if (this.#drainedSince === undefined && now - this.#rttAt > RTT_FRESH_MS) this.#drainedSince = now
    const delayMs = WINDOW_GAIN * (this.#rttMs ?? 0) + JITTER_MS
    const window = this.#drainedSince === undefined ? (this.#best * delayMs) / 1000 + request : 2 * request
    return Math.min(Math.max(window, Math.min(2 * request, windowBytesStart)), inFlightBytesMax)
  }

  /** Bytes of the next request: no more than comes within the time that one should take, and no more than half the window. */
  requestBytes(now: number): number {
    if (this.isSnubbed) return BLOCK_BYTES
    const half = this.windowBytes(now) / 2
    const rate = this.#best === 0 ? half : Math.min(this.#sizeFor(this.#best), half)
    return Math.max(powerOfTwoBelow(rate), BLOCK_BYTES)
  }

  /** More could have been asked for: what comes in this round is what the channel can give. */
  wasFull(): void {
    this.#round.wasFull = true
  }

  /** @param sentAt when the answer was asked for; undefined: it came too late to say anything of the way */
  arrived(bytes: number, sentAt: number | undefined, now: number): void {
    this.#meter.add(bytes, now)
    if (this.#stalls > 0) this.#recover(now)
    if (sentAt !== undefined) this.#measureWay(sentAt, now)
    this.#round.bytes += bytes
    if (this.#slowStartBytes !== undefined && this.#round.wasFull)
      this.#slowStartBytes = Math.min(this.#slowStartBytes + bytes, this.#settings.inFlightBytesMax)
    if (now - this.#round.startedAt >= Math.max(ROUND_MS_MIN, this.#rttMs ?? 0)) this.#endRound(now)
  }

  /** An answer did not come in time. @returns whether it counts: many that were asked for together are one stall */
  stalled(now: number): boolean {
    if (now - this.#stalledAt < this.#settings.timeoutMsMin) return false
    this.#stalledAt = now
    this.#stalls++
    return true
  }

  /** How long it takes until so many bytes have come, all that are under way before them included. */
  etaMs(bytes: number): number {
    if (this.#best === 0) return this.#settings.timeoutMsStart / this.#settings.timeoutFactor
    return (bytes / this.#best) * 1000 + Math.min(this.#rttMs ?? 0, this.#settings.timeoutMsMax)
  }

  /** How long an answer may take, when so many bytes are under way with it. */
  timeoutMs(bytes: number, now: number): number {
    const { timeoutMsMin, timeoutMsMax, timeoutMsStart, timeoutFactor } = this.#settings
    const backOff = 2 ** Math.min(this.#stalls, STALL_DOUBLINGS_MAX)
    if (this.#best === 0) return Math.min(timeoutMsStart * backOff, timeoutMsMax)
    const slowest = Math.max(Math.min(this.#best, this.#meter.rate(now)), this.#best / 8)
    const expectedMs = (bytes / slowest) * 1000 + (this.#rttMs ?? 0)
    return Math.min(Math.max(timeoutFactor * expectedMs, timeoutMsMin) * backOff, timeoutMsMax)
  }

  #sizeFor(rate: number): number {
    return (rate * this.#settings.requestMs) / 1000
  }

  #recover(now: number): void {
    this.#stalls = 0
    this.#slowStartBytes = 2 * BLOCK_BYTES
    this.#flatRounds = 0
    this.#rounds.length = 0
    this.#round = { startedAt: now, bytes: 0, wasFull: false }
  }

  #measureWay(sentAt: number, now: number): void {
    const tookMs = now - sentAt
    const queuedMs = tookMs - WINDOW_GAIN * (this.#rttMs ?? tookMs)
    if (this.#best > 0 && queuedMs > QUEUE_MS_MAX) this.#slowStartBytes = undefined
    const isDrained = this.#drainedSince !== undefined && sentAt >= this.#drainedSince + (this.#rttMs ?? 0)
    if (this.#rttMs !== undefined && tookMs > this.#rttMs && !isDrained) return
    this.#rttMs = tookMs
    this.#rttAt = now
    this.#drainedSince = undefined
  }

  #endRound(now: number): void {
    const { startedAt, bytes, wasFull } = this.#round
    const rate = (bytes / (now - startedAt)) * 1000
    this.#round = { startedAt: now, bytes: 0, wasFull: false }
    // What came while little was asked for says nothing of what the channel can give, unless it was more.
    if (!wasFull && rate < this.#best) return
    const isMore = rate > this.#best * GROWTH_MIN
    this.#rounds.push(rate)
    if (this.#rounds.length > ROUNDS_REMEMBERED) this.#rounds.shift()
    this.#best = Math.max(...this.#rounds)
    if (this.#slowStartBytes === undefined) return
    this.#flatRounds = isMore ? 0 : this.#flatRounds + 1
    if (this.#flatRounds >= FLAT_ROUNDS) this.#slowStartBytes = undefined
  }
}

function powerOfTwoBelow(value: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(value, 1)))
}
