/** What is known of one channel that we may give to: what waits for it, what it gave us and what it took. */
import { RateMeter } from './rate-meter.ts'
import type { UploadSettings } from './settings.ts'
import type { ChannelFacts, ChannelId } from './types.ts'

export type PieceRequest = { readonly piece: number; readonly offset: number; readonly length: number }

export type Waiting = PieceRequest & { readonly askedAt: number }

export class UploadChannel {
  readonly id: ChannelId
  readonly requestBytesMax: number
  readonly joinedAt: number
  /** What we got of it, and what it got of us. */
  readonly given: RateMeter
  readonly taken: RateMeter
  isInterested = false
  isChoked = true
  isWritable = true
  /** Since when it has a slot, or had one last. */
  unchokedAt = Number.NEGATIVE_INFINITY
  /** When it lost its slot last: who waits longest is next while seeding. */
  chokedAt = Number.NEGATIVE_INFINITY
  /** When it gave us something last; when it asked for, or took, something last. */
  gaveAt = Number.NEGATIVE_INFINITY
  activeAt: number
  /** Requests that wait, in the order in which they came. */
  waiting: Waiting[] = []
  /** Requests that are read and sent now. */
  sends = 0
  sendBytes = 0
  /** The piece that it is being given. */
  piece = -1
  floodAt: number
  floodRejects = 0

  constructor(
    id: ChannelId,
    facts: Pick<ChannelFacts, 'requestBytesMax'>,
    start: { settings: UploadSettings; now: number },
  ) {
    const { settings, now } = start
    this.id = id
    this.requestBytesMax = facts.requestBytesMax
    this.joinedAt = now
    this.activeAt = now
    this.floodAt = now
    this.given = new RateMeter(settings.rateMs, now)
    this.taken = new RateMeter(settings.rateMs, now)
  }

  /** It takes what it may. */
  get isBusy(): boolean {
    return this.sends > 0 || this.waiting.length > 0
  }
}
