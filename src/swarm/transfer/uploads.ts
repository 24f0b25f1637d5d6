/**
 * The state machine of uploads: it is told what is asked for and what was sent, and orders who is given what. No I/O. Who gets
 * a slot is decided in `choker.ts`; here are the queues and whose turn it is to send.
 *
 * A seeder that hands the same piece to two is slower for all than one that hands two pieces to two, who then trade them. So
 * of what waits for a channel, pieces that the fewest others were given come first; what it was given a part of goes on.
 */
import type { Random } from '#base'
import { Choker } from './choker.ts'
import {
  TRANSFER_CHANNELS_MAX,
  UPLOAD_FLOOD_REJECTS_MAX,
  UPLOAD_FLOOD_WINDOW_MS,
  UPLOAD_PIECES_REMEMBERED_MAX,
  UPLOAD_QUEUE_REQUESTS_MAX,
} from './limits.ts'
import { UPLOAD_DEFAULTS, type UploadSettings } from './settings.ts'
import type { ChannelFacts, ChannelId, UploadMachine, UploadOrder } from './types.ts'
import { type PieceRequest, UploadChannel, type Waiting } from './upload-channel.ts'

/** Nobody who may took anything for so long: then others may too. */
const IDLE_MS = 1_000

/** What this node gives to all who ask for pieces of one torrent. */
export function createUploads(
  deps: { readonly random: Random },
  options: { readonly settings?: Partial<UploadSettings> } = {},
): UploadMachine {
  return new Uploads(deps, options)
}

class Uploads implements UploadMachine {
  readonly #settings: UploadSettings
  readonly #choker: Choker
  readonly #channels = new Map<ChannelId, UploadChannel>()
  /** To how many each piece was given, or a part of it. */
  readonly #handedOut = new Map<number, number>()
  #orders: UploadOrder[] = []
  #sendBytes = 0
  #allowedBytes = Number.POSITIVE_INFINITY
  #isSeeding = false
  #busyAt = Number.NEGATIVE_INFINITY
  /** Who is next, counted in channels. */
  #turn = 0

  constructor(deps: { readonly random: Random }, options: { readonly settings?: Partial<UploadSettings> }) {
    this.#settings = { ...UPLOAD_DEFAULTS, ...options.settings }
    this.#choker = new Choker(deps.random, this.#settings)
  }

  joined(id: ChannelId, facts: Pick<ChannelFacts, 'party' | 'requestBytesMax'>, now: number): void {
    this.left(id)
    // One too many simply stays choked: it asks in vain.
    if (this.#channels.size >= TRANSFER_CHANNELS_MAX) return
    this.#channels.set(id, new UploadChannel(id, facts, { settings: this.#settings, now }))
  }

  left(id: ChannelId): void {
    const channel = this.#channels.get(id)
    if (channel === undefined) return
    this.#channels.delete(id)
    this.#sendBytes -= channel.sendBytes
    this.#choker.left(channel)
  }

  interested(id: ChannelId, isInterested: boolean, now: number): void {
    const channel = this.#channels.get(id)
    if (channel === undefined || channel.isInterested === isInterested) return
    channel.isInterested = isInterested
    channel.activeAt = now
    // A slot that was just given is not idle before its first request can have come.
    this.#busyAt = now
    this.#choker.changed()
  }

  requested(id: ChannelId, request: PieceRequest, now: number): void {
    const channel = this.#channels.get(id)
    if (channel === undefined) {
      this.#orders.push({ kind: 'reject', channel: id, ...bare(request) })
      return
    }
    channel.activeAt = now
    const { piece, offset, length } = request
    const isSound = [piece, offset, length].every(Number.isSafeInteger) && piece >= 0 && offset >= 0
    const isFit = isSound && length > 0 && length <= channel.requestBytesMax
    if (!isFit || channel.isChoked || channel.waiting.length >= UPLOAD_QUEUE_REQUESTS_MAX) {
      this.#refuse(channel, request, now)
    } else if (!channel.waiting.some(waiting => isSame(waiting, request))) {
      channel.waiting.push({ ...bare(request), askedAt: now })
    }
  }

  cancelled(id: ChannelId, request: PieceRequest): void {
    const channel = this.#channels.get(id)
    const at = channel?.waiting.findIndex(waiting => isSame(waiting, request)) ?? -1
    if (at < 0) return
    channel?.waiting.splice(at, 1)
    // BEP 6: each request is answered, also one that is cancelled. Who knows no rejections is not told.
    this.#orders.push({ kind: 'reject', channel: id, ...bare(request) })
  }

  writable(id: ChannelId, isWritable: boolean): void {
    const channel = this.#channels.get(id)
    if (channel !== undefined) channel.isWritable = isWritable
  }

  sent(id: ChannelId, bytes: number, now: number): void {
    const channel = this.#channels.get(id)
    if (channel === undefined || channel.sends === 0) return
    channel.sends--
    const done = channel.sends === 0 ? channel.sendBytes : Math.min(bytes, channel.sendBytes)
    channel.sendBytes -= done
    this.#sendBytes -= done
    channel.activeAt = now
    channel.taken.add(bytes, now)
  }

  received(id: ChannelId, bytes: number, now: number): void {
    const channel = this.#channels.get(id)
    if (channel === undefined) return
    channel.given.add(bytes, now)
    channel.gaveAt = now
  }

  setSeeding(isSeeding: boolean): void {
    this.#isSeeding = isSeeding
  }

  allow(bytes: number): void {
    this.#allowedBytes = bytes
  }

  orders(now: number): readonly UploadOrder[] {
    this.#choke(now)
    this.#send(now)
    const orders = this.#orders
    if (orders.length > 0) this.#orders = []
    return orders
  }

  #choke(now: number): void {
    if (this.#allowedBytes <= 0 || [...this.#channels.values()].some(channel => channel.isBusy)) this.#busyAt = now
    const isIdle = now - this.#busyAt > IDLE_MS
    const chosen = this.#choker.decide(this.#channels.values(), { isSeeding: this.#isSeeding, isIdle, now })
    if (chosen === undefined) return
    for (const channel of this.#channels.values()) {
      const isChoked = !chosen.has(channel)
      if (channel.isChoked === isChoked) continue
      channel.isChoked = isChoked
      if (isChoked) channel.chokedAt = now
      else channel.unchokedAt = now
      this.#orders.push({ kind: 'choke', channel: channel.id, isChoked })
      if (!isChoked) continue
      for (const waiting of channel.waiting)
        this.#orders.push({ kind: 'reject', channel: channel.id, ...bare(waiting) })
      channel.waiting = []
    }
  }

  /** One request each in turn, while there is room. The turn goes on where it was, so that a small limit starves nobody. */
  #send(now: number): void {
    const channels = [...this.#channels.values()]
    let idle = 0
    while (idle < channels.length && this.#allowedBytes > 0 && this.#sendBytes < this.#settings.readBytesTotal) {
      this.#turn = (this.#turn + 1) % channels.length
      const channel = channels[this.#turn]
      const next = channel !== undefined && this.#canSend(channel) ? this.#next(channel, now) : undefined
      idle = next === undefined ? idle + 1 : 0
      if (channel !== undefined && next !== undefined) this.#give(channel, next)
    }
  }

  #canSend(channel: UploadChannel): boolean {
    const { readsPerChannel, readBytesPerChannel } = this.#settings
    if (!channel.isWritable || channel.waiting.length === 0) return false
    return channel.sends === 0 || (channel.sends < readsPerChannel && channel.sendBytes < readBytesPerChannel)
  }

  /** The rest of what it has a part of; then what the fewest were given; but nothing waits for too long. */
  #next(channel: UploadChannel, now: number): Waiting | undefined {
    const [oldest] = channel.waiting
    if (oldest === undefined || now - oldest.askedAt > this.#settings.reorderMs) return oldest
    let best: Waiting | undefined
    let fewest = Number.POSITIVE_INFINITY
    for (const waiting of channel.waiting) {
      const count = waiting.piece === channel.piece ? -1 : (this.#handedOut.get(waiting.piece) ?? 0)
      if (count >= fewest) continue
      best = waiting
      fewest = count
    }
    return best
  }

  #give(channel: UploadChannel, request: Waiting): void {
    channel.waiting.splice(channel.waiting.indexOf(request), 1)
    if (channel.piece !== request.piece) {
      channel.piece = request.piece
      if (this.#handedOut.size >= UPLOAD_PIECES_REMEMBERED_MAX) this.#handedOut.clear()
      this.#handedOut.set(request.piece, (this.#handedOut.get(request.piece) ?? 0) + 1)
    }
    channel.sends++
    channel.sendBytes += request.length
    this.#sendBytes += request.length
    this.#allowedBytes -= request.length
    this.#orders.push({ kind: 'send', channel: channel.id, ...bare(request) })
  }

  #refuse(channel: UploadChannel, request: PieceRequest, now: number): void {
    if (now - channel.floodAt > UPLOAD_FLOOD_WINDOW_MS) {
      channel.floodAt = now
      channel.floodRejects = 0
    }
    this.#orders.push({ kind: 'reject', channel: channel.id, ...bare(request) })
    if (++channel.floodRejects <= UPLOAD_FLOOD_REJECTS_MAX) return
    this.#orders.push({ kind: 'close', channel: channel.id, why: 'flood', isBan: false })
    this.left(channel.id)
  }
}

function bare({ piece, offset, length }: PieceRequest): PieceRequest {
  return { piece, offset, length }
}

function isSame(a: PieceRequest, b: PieceRequest): boolean {
  return a.piece === b.piece && a.offset === b.offset && a.length === b.length
}
