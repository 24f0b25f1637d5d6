/**
 * Who is given something: choking against leeches (BEP 3; Cohen 2003, "Incentives build robustness in BitTorrent").
 *
 * While this node downloads, the slots go to those who gave the most in the last 20 s (tit for tat), but for one that goes to
 * another every 30 s, whoever it is (optimistic unchoke): so newcomers get something to trade, and better partners are found.
 * While it seeds there is nothing to be had in return: turns of 30 s, to who has waited longest, and of those to who takes
 * the fastest. Slots that nobody better wants go to anybody.
 */
import { type Random, uniform } from '#base'
import type { UploadSettings } from './settings.ts'
import type { UploadChannel } from './upload-channel.ts'

/** A slot is not taken back from who got it so recently, unless it wants nothing: a request must be able to come. */
const IDLE_MS = 5_000
/** A slot more or less at a time; less where each takes less than this share of what calls for one more. */
const SLOT_RATE_LOW = 0.25

export class Choker {
  readonly #random: Random
  readonly #settings: UploadSettings
  #slots: number
  #optimistic: UploadChannel | undefined
  #optimisticAt = Number.NEGATIVE_INFINITY
  #decidedAt = Number.NEGATIVE_INFINITY
  #isDue = true

  constructor(random: Random, settings: UploadSettings) {
    this.#random = random
    this.#settings = settings
    this.#slots = settings.slots
  }

  get slots(): number {
    return this.#slots
  }

  /** Somebody came who wants something, or a slot is free. */
  changed(): void {
    this.#isDue = true
  }

  left(channel: UploadChannel): void {
    if (this.#optimistic === channel) this.#optimistic = undefined
    if (!channel.isChoked) this.#isDue = true
  }

  /** @returns who is to have a slot; undefined: nothing changes now */
  decide(
    channels: Iterable<UploadChannel>,
    { isSeeding, isIdle, now }: { readonly isSeeding: boolean; readonly isIdle: boolean; readonly now: number },
  ): ReadonlySet<UploadChannel> | undefined {
    const isTurn = now - this.#decidedAt >= this.#settings.chokeMs
    const all = [...channels]
    const isWaste = isIdle && all.some(channel => channel.isInterested && channel.isChoked)
    if (!isTurn && !this.#isDue && !isWaste) return undefined
    this.#isDue = false
    const interested = all.filter(channel => channel.isInterested)
    if (isTurn) {
      this.#decidedAt = now
      this.#fitSlots(interested, now)
    } else if (isWaste) {
      this.#slots = Math.min(this.#slots + 1, this.#settings.slotsMax)
    }
    // Who wants nothing keeps what it has until the next turn, and no slot is counted for it: it may want something soon.
    const resting = isTurn ? [] : all.filter(channel => !channel.isInterested && !channel.isChoked)
    if (interested.length <= this.#slots) return new Set([...interested, ...resting])
    // Between the turns nobody loses a slot: only those that are free are given away.
    const chosen = new Set(isTurn ? [] : interested.filter(channel => !channel.isChoked))
    this.#chooseOptimistic(interested, now)
    if (this.#optimistic !== undefined) chosen.add(this.#optimistic)
    for (const channel of isSeeding ? this.#byTurn(interested, now) : this.#byWorth(interested, now)) {
      if (chosen.size >= this.#slots) break
      chosen.add(channel)
    }
    for (const channel of resting) chosen.add(channel)
    return chosen
  }

  /** One slot more while each takes much: a fast line is shared by more. */
  #fitSlots(interested: readonly UploadChannel[], now: number): void {
    const { slots, slotsMax, slotRate } = this.#settings
    let taken = 0
    for (const channel of interested) if (!channel.isChoked) taken += channel.taken.rate(now)
    if (taken > this.#slots * slotRate && this.#slots < interested.length) this.#slots++
    else if (taken < this.#slots * slotRate * SLOT_RATE_LOW) this.#slots--
    this.#slots = Math.min(Math.max(this.#slots, slots), slotsMax)
  }

  #chooseOptimistic(interested: readonly UploadChannel[], now: number): void {
    const { optimisticMs, newcomerMs, newcomerWeight } = this.#settings
    const isOver = now - this.#optimisticAt >= optimisticMs || this.#optimistic?.isInterested !== true
    if (!isOver) return
    const candidates = interested.filter(channel => channel.isChoked)
    const weightOf = (channel: UploadChannel): number => (now - channel.joinedAt < newcomerMs ? newcomerWeight : 1)
    let at = uniform(this.#random) * candidates.reduce((sum, channel) => sum + weightOf(channel), 0)
    this.#optimistic = candidates.find(channel => (at -= weightOf(channel)) < 0) ?? this.#optimistic
    this.#optimisticAt = now
  }

  /** Those who gave the most first, and last those who took for a minute and gave nothing. */
  #byWorth(interested: readonly UploadChannel[], now: number): readonly UploadChannel[] {
    const { snubbedMs } = this.#settings
    const isSnubbing = (channel: UploadChannel): boolean =>
      !channel.isChoked && now - Math.max(channel.gaveAt, channel.unchokedAt) > snubbedMs
    return this.#sorted(interested, channel => (isSnubbing(channel) ? -1 : channel.given.rate(now)))
  }

  /** Those whose turn is not over, then who has waited longest; of equals, who takes the fastest. */
  #byTurn(interested: readonly UploadChannel[], now: number): readonly UploadChannel[] {
    const { turnMs } = this.#settings
    const isInTurn = (channel: UploadChannel): boolean =>
      !channel.isChoked && now - channel.unchokedAt < turnMs && (channel.isBusy || now - channel.activeAt < IDLE_MS)
    const waitedMs = (channel: UploadChannel): number =>
      channel.isChoked ? Math.min(now - channel.chokedAt, Number.MAX_SAFE_INTEGER) : 0
    const byRate = this.#sorted(interested, channel => channel.taken.rate(now))
    return byRate.sort((a, b) => Number(isInTurn(b)) - Number(isInTurn(a)) || waitedMs(b) - waitedMs(a))
  }

  /** By a number, the highest first; by chance where it is the same. */
  #sorted(channels: readonly UploadChannel[], worth: (channel: UploadChannel) => number): UploadChannel[] {
    return channels
      .map(channel => ({ channel, worth: worth(channel), chance: this.#random.uint32() }))
      .sort((a, b) => b.worth - a.worth || a.chance - b.chance)
      .map(({ channel }) => channel)
  }
}
