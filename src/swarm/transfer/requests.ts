/** What is asked of all channels: it is sent, answered, given up and counted here, and here the bounds on it hold. */
import type { BlockRun } from '../types.ts'
import type { Begun, Request } from './begun.ts'
import type { Channel, Risk } from './channel.ts'
import type { Pieces } from './pieces.ts'
import type { DownloadSettings } from './settings.ts'
import type { DownloadOrder } from './types.ts'

/** A loser that neither answers nor rejects is no risk any more after so long: a peer without BEP 6 never rejects. */
const RISK_MS_MAX = 5_000

export class Requests {
  /** Bytes that may still be asked for. */
  allowedBytes = Number.POSITIVE_INFINITY
  inFlightBytes = 0
  /** Bytes that came and were no use. */
  wastedBytes = 0
  /** Those of them that came because they were asked for twice: what the budget for that is used up by. */
  #twiceBytes = 0
  readonly #pieces: Pieces
  readonly #settings: DownloadSettings
  readonly #risks = new Set<Risk>()
  #orders: DownloadOrder[] = []

  constructor(pieces: Pieces, settings: DownloadSettings) {
    this.#pieces = pieces
    this.#settings = settings
  }

  order(order: DownloadOrder): void {
    this.#orders.push(order)
  }

  /** What is to be done since it was asked last. */
  takeOrders(): readonly DownloadOrder[] {
    const orders = this.#orders
    if (orders.length > 0) this.#orders = []
    return orders
  }

  /** Whether one more request may go out at all. */
  get hasRoom(): boolean {
    return this.allowedBytes > 0 && this.inFlightBytes < this.#settings.inFlightBytesTotal
  }

  send(
    channel: Channel,
    begun: Begun,
    { run, isSecond, now }: { run: BlockRun; isSecond: boolean; now: number },
  ): void {
    const bytes = begun.bytesOf(run)
    const ahead = channel.inFlightBytes + bytes
    const request: Request = {
      channel,
      begun,
      run,
      bytes,
      sentAt: now,
      expectedAt: now + channel.pace.etaMs(ahead),
      deadline: now + channel.pace.timeoutMs(ahead, now),
      risk: isSecond ? { bytes, until: Number.POSITIVE_INFINITY, isOver: false } : undefined,
    }
    if (request.risk !== undefined) this.#risks.add(request.risk)
    if (!begun.isVerifiable) this.#askLeaves(channel, begun)
    begun.asked(request)
    channel.asked(request)
    channel.current = begun
    channel.lastPiece = begun.piece
    this.inFlightBytes += bytes
    this.allowedBytes -= bytes
    this.#pieces.touch(begun)
    this.order({ kind: 'request', channel: channel.id, run })
  }

  /** It may take longer: what was waited for was not the answer. */
  postpone(request: Request, byMs: number): void {
    request.expectedAt += byMs
    request.deadline += byMs
  }

  /** Nobody waits for it any more. @param how `answered`; `cancel`: it is told so; `forget`: it knows, or is gone */
  release(request: Request, how: 'answered' | 'cancel' | 'forget', risk?: Risk): void {
    const { channel, begun, run, bytes } = request
    if (channel.requestOf(run) !== request) return
    channel.released(request)
    begun.released(request)
    this.inFlightBytes -= bytes
    if (how !== 'answered') channel.giveUp(request, risk)
    if (how === 'cancel') this.order({ kind: 'cancel', channel: channel.id, run })
    if (request.risk !== undefined) request.risk.isOver = true
    // What was answered is not wanted again before it is known what the answer was worth.
    if (how !== 'answered') this.#pieces.touch(begun)
  }

  /** All of a piece's requests whose blocks have come meanwhile from others. */
  cancelAnswered(begun: Begun, now: number): void {
    for (const request of begun.requests) {
      if (!begun.isOpen(request.run)) this.takeBack(request, now)
    }
  }

  /** The answer may come all the same: then it came twice. */
  takeBack(request: Request, now: number): void {
    const risk: Risk = { bytes: request.bytes, until: now + RISK_MS_MAX, isOver: false }
    this.release(request, 'cancel', risk)
    this.#risks.add(risk)
  }

  /** The store is to hold nothing of the piece that was not verified: the next who gives it is judged by that alone. */
  forget(begun: Begun): void {
    if (begun.mayBeHeld && !begun.isVerifiable) this.order({ kind: 'forget', piece: begun.piece })
    begun.mayBeHeld = false
  }

  /** These were here, or had to be asked for again. */
  cameTwice(bytes: number): void {
    this.wastedBytes += bytes
    this.#twiceBytes += bytes
  }

  /** Whether so many bytes may be asked for a second time. */
  canRepeat(bytes: number, now: number): boolean {
    const budget = Math.max(this.#pieces.wantedBytes * this.#settings.wasteShare, this.#settings.wasteBytesMin)
    let risked = this.#twiceBytes
    for (const risk of this.#risks) {
      if (risk.isOver || risk.until < now) this.#risks.delete(risk)
      else risked += risk.bytes
    }
    return risked + bytes <= budget
  }

  #askLeaves(channel: Channel, begun: Begun): void {
    if (begun.owner === channel) return
    begun.owner = channel
    if (channel.asksLeaves) this.order({ kind: 'leaves', channel: channel.id, piece: begun.piece })
  }
}
