/**
 * Who is asked for what next. A channel with room goes on with a piece that is begun, so that few are half here; begins the
 * rarest that it has; and where nothing is left for it, asks a second time for what is late elsewhere.
 */
import { uniform, type Random } from '#base'
import { BLOCK_BYTES, type BlockRun } from '../types.ts'
import type { Begun, Request } from './begun.ts'
import type { Channel } from './channel.ts'
import type { Pieces } from './pieces.ts'
import type { Requests } from './requests.ts'
import type { DownloadSettings } from './settings.ts'

/** How long nothing is looked for again where nothing was found and nothing changed. */
const DRY_MS = 1_000
const SECOND_MS = 20
/** What a second request must gain at least. */
const SECOND_GAIN_MS = 30

type Choice = { readonly begun: Begun; readonly run: BlockRun; readonly isSecond: boolean }

export type AssignDeps = {
  readonly pieces: Pieces
  readonly requests: Requests
  readonly settings: DownloadSettings
  readonly random: Random
}

export class Assigner {
  readonly #deps: AssignDeps

  constructor(deps: AssignDeps) {
    this.#deps = deps
  }

  /** One request each in turn, until nobody has room or work; who let us wait comes last. */
  assign(now: number): void {
    const { requests, random } = this.#deps
    let ready = this.#ready(now)
    if (ready.length > 1) {
      const first = Math.floor(uniform(random) * ready.length)
      ready = [...ready.slice(first), ...ready.slice(0, first)].sort(
        (a, b) => Number(a.pace.isSnubbed) - Number(b.pace.isSnubbed),
      )
    }
    while (ready.length > 0 && requests.hasRoom) {
      ready = ready.filter(channel => {
        if (!requests.hasRoom || !this.#hasRoom(channel, now)) return false
        const choice = this.#choose(channel, now)
        if (choice !== undefined) requests.send(channel, choice.begun, { ...choice, now })
        return choice !== undefined
      })
    }
  }

  #ready(now: number): Channel[] {
    const { pieces, requests } = this.#deps
    if (!requests.hasRoom || pieces.needed.isEmpty) return []
    return [...pieces.channels].filter(
      channel => !channel.isChoked && pieces.neededOf(channel) > 0 && this.#hasRoom(channel, now),
    )
  }

  #hasRoom(channel: Channel, now: number): boolean {
    if (channel.requests.size === 0) return true
    if (channel.requests.size >= channel.facts.requestsMax || channel.pace.isSnubbed) return false
    const bytes = channel.isOrigin ? this.#deps.pieces.facts.pieceBytes(0) : channel.pace.requestBytes(now)
    if (channel.inFlightBytes + bytes <= channel.pace.windowBytes(now)) return true
    channel.pace.wasFull()
    return false
  }

  #choose(channel: Channel, now: number): Choice | undefined {
    const { pieces, settings } = this.#deps
    const bytesMax = Math.min(channel.pace.requestBytes(now), channel.facts.requestBytesMax, settings.inFlightBytesMax)
    // An origin takes long to begin with anything, so it gets all that is missing at once.
    const blocksMax = channel.isOrigin ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(bytesMax / BLOCK_BYTES))
    const isDry = channel.dryAt === pieces.version && channel.dryUntil > now
    if (!isDry) {
      const begun = this.#begun(channel, now)
      const run = begun?.nextRun(blocksMax)
      if (begun !== undefined && run !== undefined) return { begun, run, isSecond: false }
      channel.dryAt = pieces.version
      channel.dryUntil = now + DRY_MS
    }
    if (channel.secondAt > now || channel.pace.isSnubbed) return undefined
    const second = this.#second(channel, { blocksMax, now })
    if (second === undefined) channel.secondAt = now + SECOND_MS
    return second
  }

  #begun(channel: Channel, now: number): Begun | undefined {
    const { pieces } = this.#deps
    const { current } = channel
    if (current !== undefined && pieces.open.has(current) && this.#canGive(channel, current, now)) return current
    for (const begun of pieces.open) if (this.#canGive(channel, begun, now)) return begun
    const fresh = this.#fresh(channel, now)
    if (fresh !== undefined) return pieces.begin(fresh)
    // Of two that do not answer, neither takes over from the other.
    if (channel.pace.isSnubbed) return undefined
    // Somebody's alone, who does not answer now: what came of it is lost, as nobody could say whose fault a bad piece is.
    for (const begun of pieces.open) {
      const { owner } = begun
      if (begun.isVerifiable || owner === undefined || owner === channel) continue
      if (!owner.isChoked && !owner.pace.isSnubbed) continue
      if (!channel.has(begun.piece) || channel.refuses(begun.piece, now)) continue
      this.#takeOver(begun, now)
      return pieces.begun.get(begun.piece) ?? pieces.begin(begun.piece)
    }
    return undefined
  }

  #canGive(channel: Channel, begun: Begun, now: number): boolean {
    if (!begun.isVerifiable && begun.owner !== undefined && begun.owner !== channel) return false
    return channel.has(begun.piece) && !channel.refuses(begun.piece, now)
  }

  #fresh(channel: Channel, now: number): number | undefined {
    const { pieces, settings } = this.#deps
    if (pieces.freshOf(channel) === 0) return undefined
    const canTake = (piece: number): boolean => channel.has(piece) && !channel.refuses(piece, now)
    const next = channel.lastPiece + 1
    if (channel.isOrigin && channel.lastPiece >= 0) {
      if (pieces.picker.isAmongRarest(next) && canTake(next)) return next
      return pieces.picker.rarestAfter(channel.lastPiece, canTake)
    }
    if (pieces.completed < settings.randomPieces && !channel.isOrigin) return pieces.picker.any(canTake)
    return pieces.picker.rarest(canTake)
  }

  /** What is late elsewhere, and would come much sooner from here. */
  #second(channel: Channel, { blocksMax, now }: { blocksMax: number; now: number }): Choice | undefined {
    const { pieces, requests } = this.#deps
    let best: { readonly request: Request; readonly leftMs: number } | undefined
    for (const begun of pieces.begun.values()) {
      if (begun.requests.size === 0 || !channel.has(begun.piece) || channel.refuses(begun.piece, now)) continue
      for (const request of begun.requests) {
        if (request.channel === channel || request.channel.party === channel.party) continue
        const leftMs = Math.abs(request.expectedAt - now)
        if (best === undefined || leftMs > best.leftMs)
          if (!begun.isVerifiable || begun.isAskedOnce(request.run)) best = { request, leftMs }
      }
    }
    if (best === undefined) return undefined
    const { begun, run: late } = best.request
    if (!begun.isVerifiable) return this.#wholeAgain(channel, begun, { blocksMax, now })
    const run = { ...late, blockCount: Math.min(late.blockCount, blocksMax) }
    const bytes = begun.bytesOf(run)
    if (!this.#isWorth(channel, { bytes, leftMs: best.leftMs })) return undefined
    return requests.canRepeat(bytes, now) ? { begun, run, isSecond: true } : undefined
  }

  /** A piece that another gives alone, and slowly, is begun again here. */
  #wholeAgain(
    channel: Channel,
    begun: Begun,
    { blocksMax, now }: { blocksMax: number; now: number },
  ): Choice | undefined {
    const { pieces, requests } = this.#deps
    const { owner } = begun
    if (owner === undefined || begun.wantedBlocks + begun.storedBlocks === begun.blockCount) return undefined
    const leftMs = owner.pace.etaMs(begun.bytes - begun.storedBytes())
    if (!this.#isWorth(channel, { bytes: begun.bytes, leftMs })) return undefined
    // What may come twice: what is here and counts for nothing then, and what its owner is still asked for.
    let repeated = begun.hereBytes() - (pieces.facts.blocksOf(begun.piece)?.count ?? 0) * BLOCK_BYTES
    for (const { bytes } of begun.requests) repeated += bytes
    if (!requests.canRepeat(Math.max(0, repeated), now)) return undefined
    this.#takeOver(begun, now)
    const again = pieces.begun.get(begun.piece) ?? pieces.begin(begun.piece)
    const run = again.nextRun(blocksMax)
    return run === undefined ? undefined : { begun: again, run, isSecond: false }
  }

  #isWorth(channel: Channel, { bytes, leftMs }: { bytes: number; leftMs: number }): boolean {
    const mineMs = channel.pace.etaMs(channel.inFlightBytes + bytes)
    return leftMs > mineMs * this.#deps.settings.secondFactor + SECOND_GAIN_MS
  }

  /** Ends what its owner was to give. */
  #takeOver(begun: Begun, now: number): void {
    const { requests } = this.#deps
    for (const request of begun.requests) requests.takeBack(request, now)
    disown(this.#deps, begun)
  }
}

/** The piece is nobody's: what came of it and was not verified counts for nothing. */
export function disown({ pieces, requests }: Pick<AssignDeps, 'pieces' | 'requests'>, begun: Begun): void {
  const before = begun.hereBytes()
  begun.owner = undefined
  begun.reset(pieces.facts.blocksOf(begun.piece))
  const lost = Math.max(0, before - begun.hereBytes())
  requests.forget(begun)
  requests.cameTwice(lost)
  pieces.touch(begun)
}
