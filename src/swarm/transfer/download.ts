/**
 * The state machine of a download: it is told what channels have, say and give, and orders what is asked of whom. No I/O; the
 * same calls give the same orders. How it decides is in `docs/reference/transfer.md`; in code, `picker.ts` says which piece,
 * `pace.ts` how much of a channel, `assign.ts` who and when.
 *
 * Blame is exact. Bytes that cannot be verified block by block come from one channel alone, so whoever gave a bad block, or a
 * bad piece, did it and nobody else; its party is banned, and all of its channels end.
 */
import type { Bitfield, Random } from '#base'
import { BLOCK_BYTES, type BlockRun } from '../types.ts'
import { Assigner, disown } from './assign.ts'
import type { Begun, Request } from './begun.ts'
import { Channel } from './channel.ts'
import { TRANSFER_CHANNELS_MAX } from './limits.ts'
import { Parties } from './parties.ts'
import { type PieceFacts, Pieces } from './pieces.ts'
import { RateMeter } from './rate-meter.ts'
import { Requests } from './requests.ts'
import { DOWNLOAD_DEFAULTS, type DownloadSettings, TICK_MS } from './settings.ts'
import type {
  ChannelFacts,
  ChannelId,
  DownloadBlame,
  DownloadFacts,
  DownloadMachine,
  DownloadOrder,
  StoreOutcome,
} from './types.ts'

const SWEEP_MS = 100
const RATE_SPAN_MS = 5_000
const BORED_MS = 10_000
/** Rejections of hashes in a row after which a channel is not asked for any. */
const LEAVES_REJECTS_MAX = 3

export type DownloadOptions = PieceFacts & {
  /** Pieces that are to be here. */
  readonly wanted: Bitfield
  readonly settings?: Partial<DownloadSettings>
}

/**
 * A download of the wanted pieces that the store does not have.
 * @param options `has` and `blocksOf` are the store's, and are read when it begins, when `want` is called and when a piece is
 * begun
 */
export function createDownload(deps: { readonly random: Random }, options: DownloadOptions): DownloadMachine {
  return new Download(deps, options)
}

class Download implements DownloadMachine {
  readonly #settings: DownloadSettings
  readonly #pieces: Pieces
  readonly #requests: Requests
  readonly #assigner: Assigner
  readonly #parties = new Parties()
  readonly #channels = new Map<ChannelId, Channel>()
  /** Left, while something that they gave is still being stored. */
  readonly #gone = new Map<ChannelId, Channel>()
  #meter: RateMeter | undefined
  #receivedBytes = 0
  #isSuspended = false
  #now = 0
  #sweptAt = Number.NEGATIVE_INFINITY
  #orderedAt = Number.POSITIVE_INFINITY

  constructor(deps: { readonly random: Random }, options: DownloadOptions) {
    this.#settings = { ...DOWNLOAD_DEFAULTS, ...options.settings }
    this.#pieces = new Pieces(options, deps.random)
    this.#requests = new Requests(this.#pieces, this.#settings)
    this.#assigner = new Assigner({
      pieces: this.#pieces,
      requests: this.#requests,
      settings: this.#settings,
      random: deps.random,
    })
    this.#pieces.want(options.wanted)
  }

  get isComplete(): boolean {
    return this.#pieces.needed.isEmpty
  }

  joined(id: ChannelId, facts: ChannelFacts, now: number): void {
    this.#now = now
    this.left(id)
    const party = this.#parties.of(facts.party)
    if (party.isBanned || this.#channels.size >= TRANSFER_CHANNELS_MAX) {
      const why = party.isBanned ? 'bad-data' : 'useless'
      const peer = facts.kind === 'peer' ? facts.party : undefined
      this.#requests.order({ kind: 'close', channel: id, peer, why, isBan: party.isBanned })
      return
    }
    const { pieceCount } = this.#pieces.facts
    const channel = new Channel({ id, facts, party, pieceCount, settings: this.#settings, now })
    this.#parties.joined(party)
    this.#channels.set(id, channel)
    this.#pieces.join(channel)
  }

  left(id: ChannelId): void {
    const channel = this.#channels.get(id)
    if (channel === undefined) return
    this.#channels.delete(id)
    if (channel.writes > 0) this.#gone.set(id, channel)
    channel.isGone = true
    this.#pieces.leave(channel)
    this.#forgetRequests(channel)
    this.#disownAll(channel, begun => begun.wantedBlocks > 0)
    this.#parties.left(channel.party)
  }

  hasPieces(id: ChannelId, pieces: Bitfield | 'all'): void {
    const channel = this.#channels.get(id)
    if (channel !== undefined && !channel.isOrigin) this.#pieces.setPieces(channel, pieces)
  }

  hasPiece(id: ChannelId, piece: number): void {
    const channel = this.#channels.get(id)
    if (channel !== undefined && this.#isPiece(piece)) this.#pieces.addPiece(channel, piece)
  }

  choked(id: ChannelId, isChoked: boolean, now: number): void {
    this.#now = now
    const channel = this.#channels.get(id)
    if (channel === undefined || channel.isOrigin) return
    channel.isChoked = isChoked
    // Without BEP 6 a choke drops all requests; with it, each is rejected or answered, and both are still understood.
    if (isChoked) {
      this.#forgetRequests(channel)
      this.#disownAll(channel, begun => begun.isUntouched)
    } else channel.usefulAt = now
    channel.dryAt = -1
  }

  rejected(id: ChannelId, run: BlockRun, now: number): void {
    this.#now = now
    const channel = this.#channels.get(id)
    // Each request is answered in its turn (BEP 6): where the same was asked for, given up and asked for again, this is about
    // the first. Who takes it for the second waits for a peer that is about to give.
    if (channel === undefined || channel.takeGivenUp(run)) return
    const request = channel.requestOf(run)
    if (request === undefined) return
    this.#requests.release(request, 'answered')
    this.#pieces.touch(request.begun)
    channel.refused(run.piece, now + this.#settings.refusedMs)
    if (request.begun.owner === channel && !request.begun.isVerifiable) this.#endTurn(request.begun)
    if (++channel.rejects > this.#settings.rejectsMax) this.blame(id, { why: 'lied', isBan: false })
  }

  leavesRejected(id: ChannelId, piece: number, now: number): void {
    this.#now = now
    const channel = this.#channels.get(id)
    if (channel === undefined || this.#pieces.begun.get(piece)?.owner !== channel) return
    channel.leavesRejects++
    if (channel.leavesRejects >= LEAVES_REJECTS_MAX) channel.asksLeaves = false
  }

  leavesKnown(piece: number, now: number): void {
    this.#now = now
    const begun = this.#pieces.begun.get(piece)
    if (begun === undefined || begun.isVerifiable) return
    begun.isVerifiable = true
    const { owner } = begun
    begun.owner = undefined
    if (owner !== undefined) owner.leavesRejects = 0
    // The owner alone had given what is held. The store tells of what was bad in it.
    begun.heldBy = owner
    begun.verified(this.#pieces.facts.blocksOf(piece))
    this.#pieces.version++
    this.#pieces.touch(begun)
  }

  heldLost(piece: number, blocks: readonly number[], { isBad }: { readonly isBad: boolean }): void {
    const begun = this.#pieces.begun.get(piece)
    if (begun === undefined) return
    this.#requests.wastedBytes += begun.unstored(blocks, this.#pieces.facts.blocksOf(piece))
    if (!begun.isVerifiable && begun.owner?.isGone === true) this.#endTurn(begun)
    else this.#pieces.touch(begun)
    if (isBad && begun.isVerifiable && begun.heldBy !== undefined) this.#ban(begun.heldBy, 'bad-data')
  }

  blame(id: ChannelId, { why, isBan }: { readonly why: DownloadBlame; readonly isBan: boolean }): void {
    const channel = this.#channels.get(id) ?? this.#gone.get(id)
    if (channel === undefined) return
    if (isBan) this.#ban(channel, why)
    else this.#close(channel, { why, isBan })
  }

  arrived(id: ChannelId, run: BlockRun, now: number): boolean {
    this.#now = now
    const channel = this.#channels.get(id)
    const bytes = this.#bytesOf(run)
    this.#meter ??= new RateMeter(RATE_SPAN_MS, now)
    this.#meter.add(bytes, now)
    this.#receivedBytes += bytes
    if (channel === undefined) {
      this.#requests.wastedBytes += bytes
      return false
    }
    const request = channel.requestOf(run)
    if (request !== undefined) this.#requests.release(request, 'answered')
    else if (!channel.takeGivenUp(run)) {
      this.#unasked(channel, bytes)
      return false
    }
    channel.receivedBytes += bytes
    channel.usefulAt = now
    channel.pace.arrived(bytes, request?.sentAt, now)
    const fresh = this.#take(channel, run)
    if (request !== undefined) this.#pieces.touch(request.begun)
    this.#requests.cameTwice(bytes - fresh)
    if (fresh > 0) channel.writes++
    return fresh > 0
  }

  stored(id: ChannelId, run: BlockRun, outcome: StoreOutcome): void {
    const channel = this.#channels.get(id) ?? this.#gone.get(id)
    if (channel !== undefined && channel.writes > 0) channel.writes--
    if (channel?.writes === 0) this.#gone.delete(id)
    const begun = this.#pieces.begun.get(run.piece)
    if ('isDropped' in outcome) return
    if ('bad' in outcome) {
      this.#bad(channel, { run, begun })
    } else if (outcome.isPieceDone) {
      if (channel !== undefined) channel.rejects = Math.max(0, channel.rejects - 1)
      this.#completed(run.piece)
    } else if (begun !== undefined) {
      // Of what a former owner gave, only what was verified counts.
      if (begun.isVerifiable || (channel !== undefined && begun.owner === channel)) begun.stored(run)
      else begun.verified(this.#pieces.facts.blocksOf(run.piece))
      this.#requests.cancelAnswered(begun, this.#now)
      // The store says when a piece is whole. It did not, so something of it was dropped on the way.
      if (begun.isAllStored) disown(this.#parts, begun)
      this.#pieces.touch(begun)
    }
  }

  suspend(): void {
    this.#isSuspended = true
    for (const channel of this.#channels.values())
      for (const request of channel.requests.values()) this.#requests.release(request, 'cancel')
    for (const begun of this.#pieces.begun.values()) {
      begun.loseArrived()
      if (!begun.isVerifiable && begun.owner?.isGone === true) this.#endTurn(begun)
      else this.#pieces.touch(begun)
    }
  }

  resume(now: number): void {
    this.#now = now
    this.#isSuspended = false
  }

  want(pieces: Bitfield): void {
    for (const begun of this.#pieces.want(pieces)) {
      for (const request of begun.requests) this.#requests.release(request, 'cancel')
      this.#requests.forget(begun)
    }
  }

  allow(bytes: number): void {
    this.#requests.allowedBytes = bytes
  }

  orders(now: number): readonly DownloadOrder[] {
    this.#now = now
    this.#excuse(now)
    if (now - this.#sweptAt >= SWEEP_MS) {
      this.#sweptAt = now
      this.#sweep(now)
    }
    for (const channel of this.#channels.values()) this.#tellInterest(channel, now)
    if (!this.#isSuspended) this.#assigner.assign(now)
    return this.#requests.takeOrders()
  }

  facts(now: number): DownloadFacts {
    let doneBytes = this.#pieces.doneBytes
    for (const begun of this.#pieces.begun.values()) doneBytes += begun.storedBytes()
    return {
      doneBytes,
      wantedBytes: this.#pieces.wantedBytes,
      receivedBytes: this.#receivedBytes,
      wastedBytes: this.#requests.wastedBytes,
      rate: this.#meter?.rate(now) ?? 0,
      channels: [...this.#channels.values()].map(channel => ({
        channel: channel.id,
        party: channel.party.name,
        rate: channel.pace.rate(now),
        receivedBytes: channel.receivedBytes,
        inFlight: channel.inFlightBytes,
      })),
      unavailable: this.#pieces.unavailable(),
    }
  }

  get #parts(): { readonly pieces: Pieces; readonly requests: Requests } {
    return { pieces: this.#pieces, requests: this.#requests }
  }

  /** @returns bytes of it that had not come before, and that this channel may give */
  #take(channel: Channel, run: BlockRun): number {
    const begun = this.#pieces.begun.get(run.piece)
    if (begun === undefined || this.#isSuspended) return 0
    if (!begun.isVerifiable && begun.owner !== channel) return 0
    const fresh = begun.arrived(run)
    if (!begun.isVerifiable) begun.mayBeHeld = true
    this.#requests.cancelAnswered(begun, this.#now)
    this.#pieces.touch(begun)
    return fresh
  }

  #bad(channel: Channel | undefined, { run, begun }: { run: BlockRun; begun: Begun | undefined }): void {
    this.#requests.wastedBytes += this.#bytesOf(run)
    // Nobody may want the piece any more.
    if (begun !== undefined) {
      // The store holds nothing of the piece any more but what was verified, and what it is being given now.
      begun.lost(numbers(run))
      begun.reconcile(this.#pieces.facts.blocksOf(run.piece))
      if (begun.isVerifiable) this.#pieces.touch(begun)
      else this.#endTurn(begun)
    }
    // What is held is of one channel alone, as all else was forgotten: of what was judged, it gave everything.
    if (channel !== undefined) this.#ban(channel, 'bad-data')
  }

  #completed(piece: number): void {
    const begun = this.#pieces.begun.get(piece)
    this.#pieces.complete(piece)
    if (begun === undefined) return
    begun.owner = undefined
    for (const request of begun.requests) this.#requests.release(request, 'cancel')
  }

  #unasked(channel: Channel, bytes: number): void {
    this.#requests.wastedBytes += bytes
    if (this.#parties.gaveUnasked(channel.party, Math.max(bytes, BLOCK_BYTES))) this.#ban(channel, 'unasked')
  }

  #ban(guilty: Channel, why: DownloadBlame): void {
    this.#parties.ban(guilty.party)
    this.#close(guilty, { why, isBan: true })
    for (const channel of this.#channels.values())
      if (channel.party === guilty.party) this.#close(channel, { why, isBan: true })
  }

  #close(channel: Channel, { why, isBan }: { why: DownloadBlame; isBan: boolean }): void {
    const peer = channel.isOrigin ? undefined : channel.party.name
    this.#requests.order({ kind: 'close', channel: channel.id, peer, why, isBan })
    this.left(channel.id)
  }

  #forgetRequests(channel: Channel): void {
    for (const request of channel.requests.values()) this.#requests.release(request, 'forget')
  }

  /** What it alone was giving, and cannot go on with. What has all come is left to the store. */
  #disownAll(channel: Channel, isOver: (begun: Begun) => boolean): void {
    for (const begun of this.#pieces.begun.values())
      if (begun.owner === channel && !begun.isVerifiable && isOver(begun)) this.#endTurn(begun)
  }

  #endTurn(begun: Begun): void {
    for (const request of begun.requests) this.#requests.release(request, 'cancel')
    disown(this.#parts, begun)
  }

  /** Where this side stood still, answers may lie here unread: that time counts against nobody. */
  #excuse(now: number): void {
    const lateMs = now - this.#orderedAt - TICK_MS
    this.#orderedAt = now
    if (lateMs <= 0) return
    for (const channel of this.#channels.values())
      for (const request of channel.requests.values()) this.#requests.postpone(request, lateMs)
  }

  /** It is told at once of interest, and later of none: a peer that chokes us at each pause drops what we asked for. */
  #tellInterest(channel: Channel, now: number): void {
    const isInterested = this.#pieces.neededOf(channel) > 0
    if (isInterested) channel.interestingAt = now
    if (channel.isOrigin || channel.isInterested === isInterested) return
    if (!isInterested && !this.isComplete && now - channel.interestingAt < BORED_MS) return
    channel.isInterested = isInterested
    this.#requests.order({ kind: 'interest', channel: channel.id, isInterested })
  }

  #sweep(now: number): void {
    for (const channel of this.#channels.values())
      for (const request of channel.requests.values()) if (this.#isLate(request, now)) this.#late(request, now)
    if (this.#channels.size <= this.#settings.channelsWanted) return
    let spare = this.#channels.size - this.#settings.channelsWanted
    for (const channel of this.#channels.values()) {
      if (channel.requests.size > 0 || channel.isOrigin || now - channel.usefulAt < this.#settings.uselessMs) continue
      this.#close(channel, { why: 'useless', isBan: false })
      if (--spare <= 0) return
    }
  }

  /** While others of the channel's answers come, this one may only be behind them: then a second request is the way. */
  #isLate({ channel, sentAt, deadline }: Request, now: number): boolean {
    if (now < deadline) return false
    const isQuiet = now - channel.usefulAt >= (deadline - sentAt) / 2
    return isQuiet || now - sentAt >= this.#settings.timeoutMsMax
  }

  #late(request: Request, now: number): void {
    const { channel } = request
    this.#requests.release(request, 'cancel')
    if (!channel.pace.stalled(now) || channel.pace.stalls < this.#settings.stallsMax) return
    this.#close(channel, { why: channel.receivedBytes === 0 ? 'lied' : 'stalled', isBan: false })
  }

  #isPiece(piece: number): boolean {
    return Number.isInteger(piece) && piece >= 0 && piece < this.#pieces.facts.pieceCount
  }

  /** Of a run that may be nonsense. */
  #bytesOf({ piece, firstBlock, blockCount }: BlockRun): number {
    if (!this.#isPiece(piece)) return 0
    const bytes = this.#pieces.facts.pieceBytes(piece)
    const at = firstBlock * BLOCK_BYTES
    return at >= 0 && at < bytes && blockCount > 0 ? Math.min(blockCount * BLOCK_BYTES, bytes - at) : 0
  }
}

function numbers({ firstBlock, blockCount }: BlockRun): number[] {
  return Array.from({ length: blockCount }, (_, index) => firstBlock + index)
}
