/** What is known of one channel of a download: whose it is, what it has, what is asked of it and how fast it answers. */
import { Bitfield } from '#base'
import type { BlockRun } from '../types.ts'
import type { Begun, Request } from './begun.ts'
import { GIVEN_UP_REQUESTS_MAX } from './limits.ts'
import { Pace } from './pace.ts'
import type { DownloadSettings } from './settings.ts'
import type { ChannelFacts, ChannelId } from './types.ts'

/** Who is blamed: all channels of one share it. */
export type Party = { readonly name: string; isBanned: boolean; unaskedBytes: number }

/** Bytes that may come twice: from when they are asked for again until the loser has answered. */
export type Risk = { readonly bytes: number; until: number; isOver: boolean }

/** The same may have been asked for, and given up, more than once. */
type GivenUp = { answers: number; readonly risk: Risk | undefined }

export type ChannelStart = {
  readonly id: ChannelId
  readonly facts: ChannelFacts
  readonly party: Party
  readonly pieceCount: number
  readonly settings: DownloadSettings
  readonly now: number
}

export class Channel {
  readonly id: ChannelId
  readonly facts: ChannelFacts
  readonly party: Party
  readonly pace: Pace
  /** What it has; undefined: everything. */
  pieces: Bitfield | undefined
  isChoked: boolean
  /** What it was told last. */
  isInterested = false
  /** When it had something last that is needed. */
  interestingAt = Number.NEGATIVE_INFINITY
  /** It has left, or was told to. */
  isGone = false
  /** Pieces that it has and that are needed; those of them that nobody has begun. Not kept for one that has everything. */
  needed = 0
  fresh = 0
  inFlightBytes = 0
  receivedBytes = 0
  /** Bytes that have arrived and are being stored. */
  writes = 0
  /** Rejections of what it said it has, less what it gave. */
  rejects = 0
  asksLeaves: boolean
  leavesRejects = 0
  /** When it gave something last, or let ask again. */
  usefulAt: number
  /** What it gave last: it goes on with that. */
  current: Begun | undefined
  /** An origin's last piece: the next ones in the file come cheaper than others. */
  lastPiece = -1
  /** Not before this time is it looked for something to ask twice, or something at all. */
  secondAt = 0
  dryUntil = 0
  dryAt = -1
  readonly #requests = new Map<number, Request>()
  readonly #givenUp = new Map<number, GivenUp>()
  readonly #refused = new Map<number, number>()

  constructor({ id, facts, party, pieceCount, settings, now }: ChannelStart) {
    this.id = id
    this.facts = facts
    this.party = party
    this.pace = new Pace(settings, now)
    const isOrigin = facts.kind === 'origin'
    this.pieces = isOrigin ? undefined : new Bitfield(pieceCount)
    this.isChoked = !isOrigin
    this.asksLeaves = facts.hasLeaves && !isOrigin
    this.usefulAt = now
  }

  get isOrigin(): boolean {
    return this.facts.kind === 'origin'
  }

  get requests(): ReadonlyMap<number, Request> {
    return this.#requests
  }

  has(piece: number): boolean {
    return this.pieces === undefined || this.pieces.has(piece)
  }

  asked(request: Request): void {
    this.#requests.set(keyOf(request.run), request)
    this.inFlightBytes += request.bytes
  }

  /** The request of exactly this run. */
  requestOf(run: BlockRun): Request | undefined {
    const request = this.#requests.get(keyOf(run))
    return request?.run.blockCount === run.blockCount ? request : undefined
  }

  released(request: Request): void {
    if (this.#requests.delete(keyOf(request.run))) this.inFlightBytes -= request.bytes
  }

  /** Nothing waits for the answer, but it may come. @param risk that ends with the answer */
  giveUp({ run }: Request, risk?: Risk): void {
    const key = exactKeyOf(run)
    const before = this.#givenUp.get(key)
    this.#givenUp.delete(key)
    this.#givenUp.set(key, { answers: (before?.answers ?? 0) + 1, risk: risk ?? before?.risk })
    const [oldest] = this.#givenUp.keys()
    if (this.#givenUp.size > GIVEN_UP_REQUESTS_MAX && oldest !== undefined) this.#givenUp.delete(oldest)
  }

  /** A request that was given up is answered late, or rejected. @returns whether there was one */
  takeGivenUp(run: BlockRun): boolean {
    const key = exactKeyOf(run)
    const entry = this.#givenUp.get(key)
    if (entry === undefined) return false
    if (entry.risk !== undefined) entry.risk.isOver = true
    if (--entry.answers === 0) this.#givenUp.delete(key)
    return true
  }

  refuses(piece: number, now: number): boolean {
    const until = this.#refused.get(piece)
    if (until === undefined) return false
    if (until > now) return true
    this.#refused.delete(piece)
    return false
  }

  refused(piece: number, until: number): void {
    this.#refused.set(piece, until)
  }
}

/** Two requests of one channel never begin at the same block. A piece has fewer than 2^16 blocks. */
function keyOf({ piece, firstBlock }: BlockRun): number {
  return piece * 65_536 + firstBlock
}

/** Of a run that may have been asked for in another length before. Exact up to 2^21 pieces. */
function exactKeyOf(run: BlockRun): number {
  return keyOf(run) * 65_536 + run.blockCount
}
