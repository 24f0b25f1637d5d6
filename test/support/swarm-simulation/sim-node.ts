/** An honest node of a simulated world: both state machines against each other's, over a toy store. */
import { Bitfield, type Random } from '#base'
import { createDownload, type DownloadOptions } from '../../../src/swarm/transfer/download.ts'
import { TICK_MS } from '../../../src/swarm/transfer/settings.ts'
import type { DownloadMachine, DownloadOrder, UploadMachine, UploadOrder } from '../../../src/swarm/transfer/types.ts'
import { createUploads } from '../../../src/swarm/transfer/uploads.ts'
import { BLOCK_BYTES, type BlockRun } from '../../../src/swarm/types.ts'
import { Checks } from './checks.ts'
import type { End, Line, Message, Network, Party, Range } from './network.ts'
import { pieceBytesOf, type ToyStore } from './toy-store.ts'

export type SimNodeOptions = {
  readonly name: string
  readonly line: Line
  readonly store: ToyStore
  readonly wanted: Bitfield
  /** What it can be asked for at once: 16 KiB like a stock client, or more. */
  readonly requestBytesMax: number
  readonly givesLeaves: boolean
  /** Gives nothing to anybody. */
  readonly isFreeRider?: boolean
  readonly download?: DownloadOptions['settings']
  readonly uploads?: NonNullable<Parameters<typeof createUploads>[1]>['settings']
}

export type World = { readonly network: Network; readonly random: Random; isGuilty(name: string): boolean }

const READ_MS = 1
const FULL_MS = 2_000

export class SimNode implements Party {
  readonly name: string
  readonly line: Line
  readonly store: ToyStore
  readonly options: SimNodeOptions
  readonly checks: Checks
  wanted: Bitfield
  completedAt: number | undefined
  sentBytes = 0
  download: DownloadMachine
  #uploads: UploadMachine
  readonly ends = new Map<number, End>()
  readonly #world: World
  /** How often each piece was forgotten: what was on its way to the store then is dropped. */
  readonly #forgotten = new Map<number, number>()
  #isFlushing = false
  #isDown = false

  constructor(world: World, options: SimNodeOptions) {
    this.#world = world
    this.options = options
    this.name = options.name
    this.line = options.line
    this.store = options.store
    this.wanted = options.wanted
    this.checks = new Checks(this, world)
    this.download = this.#makeDownload()
    this.#uploads = this.#makeUploads()
    this.#tick()
  }

  get isComplete(): boolean {
    return this.store.has.contains(this.wanted)
  }

  /** What it says of itself when a channel opens. */
  get kind(): 'peer' {
    return 'peer'
  }

  /** The process is killed; another begins with what is on the disk. */
  restart(): void {
    this.#isDown = true
    for (const end of this.ends.values()) this.#world.network.close(end)
    this.#isDown = false
    this.store.restart()
    this.checks.restarted()
    this.download = this.#makeDownload()
    this.#uploads = this.#makeUploads()
    this.#flush()
  }

  want(wanted: Bitfield): void {
    this.wanted = wanted
    this.checks.wantedChanged()
    this.download.want(wanted)
    this.#flush()
  }

  opened(end: End): void {
    const { now } = this.#world.network.events
    this.ends.set(end.id, end)
    const other = end.other.owner as Partial<SimNode> & Party
    const isOrigin = (other.kind as string) === 'origin'
    const facts = {
      party: other.name.split('/')[0] ?? '',
      kind: isOrigin ? ('origin' as const) : ('peer' as const),
      requestBytesMax: other.options?.requestBytesMax ?? BLOCK_BYTES * 4,
      requestsMax: isOrigin ? 4 : 64,
      hasLeaves: other.options?.givesLeaves ?? !isOrigin,
    }
    this.checks.joined(end, facts)
    this.download.joined(end.id, facts, now)
    const { requestBytesMax } = this.options
    if (!isOrigin) this.#uploads.joined(end.id, { party: facts.party, requestBytesMax }, now)
    if (!isOrigin)
      this.#send(end, { kind: 'pieces', pieces: this.store.has.isFull ? 'all' : [...this.store.has.numbers()] })
    this.#flush()
  }

  closed(end: End): void {
    const { now } = this.#world.network.events
    this.ends.delete(end.id)
    this.checks.left(end)
    this.download.left(end.id, now)
    this.#uploads.left(end.id, now)
    if (!this.#isDown) this.#flush()
  }

  received(end: End, message: Message): void {
    const { now } = this.#world.network.events
    const { id } = end
    switch (message.kind) {
      case 'pieces': {
        const pieces = message.pieces === 'all' ? 'all' : Bitfield.of(this.store.file.pieceCount, message.pieces)
        this.checks.hasPieces(end, pieces)
        this.download.hasPieces(id, pieces)
        break
      }
      case 'have':
        this.checks.hasPiece(end, message.piece)
        this.download.hasPiece(id, message.piece)
        break
      case 'interest':
        this.#uploads.interested(id, message.isInterested, now)
        break
      case 'choke':
        this.checks.choked(end, message.isChoked)
        this.download.choked(id, message.isChoked, now)
        break
      case 'request':
        this.#uploads.requested(id, message.range, now)
        break
      case 'cancel':
        this.#uploads.cancelled(id, message.range)
        break
      case 'reject':
        this.checks.rejected(end, runOf(message.range))
        this.download.rejected(id, runOf(message.range), now)
        break
      case 'data':
        this.#data(end, message)
        break
      case 'ask-leaves':
        this.#send(end, { kind: this.options.givesLeaves ? 'leaves' : 'no-leaves', piece: message.piece })
        break
      case 'leaves':
        this.#leaves(message.piece)
        break
      case 'no-leaves':
        this.download.leavesRejected(id, message.piece, now)
    }
    this.#flush()
  }

  #leaves(piece: number): void {
    const { events } = this.#world.network
    const { download } = this
    const bad = this.store.putLeaves(piece)
    download.leavesKnown(piece, events.now)
    if (bad.length === 0) return
    events.after(READ_MS, () => {
      if (download !== this.download) return
      download.heldLost(piece, bad, { isBad: true })
      this.#flush()
    })
  }

  #data(end: End, { range, run, bad }: Extract<Message, { kind: 'data' }>): void {
    const { events } = this.#world.network
    this.checks.arrived(end, run)
    this.#uploads.received(end.id, range.length, events.now)
    const { download } = this
    if (!download.arrived(end.id, run, events.now)) return
    const forgotten = this.#forgotten.get(run.piece)
    events.after(READ_MS * (1 + (this.#world.random.uint32() % 3)), () => {
      if (download !== this.download) return // The process was killed.
      if (!this.store.leaves.has(run.piece) && forgotten !== this.#forgotten.get(run.piece)) {
        download.stored(end.id, run, { isDropped: true }, events.now)
        return
      }
      const isNew = !this.store.has.has(run.piece)
      const result = this.store.write(run, bad)
      if (result.kind === 'full') this.#full(download)
      else if (result.kind === 'bad') download.stored(end.id, run, { bad: result.blocks }, events.now)
      else if (result.kind === 'kept') {
        download.stored(end.id, run, result, events.now)
        if (isNew && result.isPieceDone) this.#tellAll(run.piece)
      }
      this.#flush()
    })
  }

  #full(download: DownloadMachine): void {
    const { events } = this.#world.network
    this.checks.isSuspended = true
    download.suspend()
    events.after(FULL_MS, () => {
      if (download !== this.download) return
      this.store.writesLeft = Number.POSITIVE_INFINITY
      this.checks.isSuspended = false
      download.resume(events.now)
      this.#flush()
    })
  }

  #tellAll(piece: number): void {
    for (const end of this.ends.values()) this.#send(end, { kind: 'have', piece })
    if (!this.isComplete) return
    this.completedAt ??= this.#world.network.events.now
    this.#uploads.setSeeding(true)
  }

  #flush(): void {
    if (this.#isFlushing) return
    this.#isFlushing = true
    const { now } = this.#world.network.events
    for (const order of this.download.orders(now)) this.#doDownload(order)
    for (const order of this.#uploads.orders(now)) this.#doUpload(order)
    this.checks.settled(this.download.facts(now))
    this.#isFlushing = false
  }

  #doDownload(order: DownloadOrder): void {
    if (order.kind === 'forget') {
      this.store.forgetHeld(order.piece)
      this.#forgotten.set(order.piece, (this.#forgotten.get(order.piece) ?? 0) + 1)
      return
    }
    this.checks.order(order)
    const end = this.ends.get(order.channel)
    if (end === undefined) return
    if (order.kind === 'request') this.#send(end, { kind: 'request', range: this.#rangeOf(order.run) })
    else if (order.kind === 'cancel') this.#send(end, { kind: 'cancel', range: this.#rangeOf(order.run) })
    else if (order.kind === 'leaves') this.#send(end, { kind: 'ask-leaves', piece: order.piece })
    else if (order.kind === 'interest') this.#send(end, { kind: 'interest', isInterested: order.isInterested })
    else this.#world.network.events.after(0, () => this.#world.network.close(end))
  }

  #doUpload(order: UploadOrder): void {
    const end = this.ends.get(order.channel)
    if (end === undefined) return
    if (order.kind === 'choke') {
      if (this.options.isFreeRider !== true || order.isChoked)
        this.#send(end, { kind: 'choke', isChoked: order.isChoked })
    } else if (order.kind === 'close') this.#world.network.events.after(0, () => this.#world.network.close(end))
    else {
      const range = { piece: order.piece, offset: order.offset, length: order.length }
      if (order.kind === 'reject') this.#send(end, { kind: 'reject', range })
      else this.#give(end, range)
    }
  }

  #give(end: End, range: Range): void {
    const { network } = this.#world
    const uploads = this.#uploads
    if (!this.store.has.has(range.piece)) {
      this.#send(end, { kind: 'reject', range })
      network.events.after(READ_MS, () => uploads.sent(end.id, 0, network.events.now))
      return
    }
    this.sentBytes += range.length
    const leftAt = network.send(end, { kind: 'data', range, run: runOf(range), bad: NONE })
    network.events.at(leftAt, () => {
      uploads.sent(end.id, range.length, network.events.now)
      if (uploads === this.#uploads) this.#flush()
    })
  }

  #send(end: End, message: Message): void {
    this.#world.network.send(end, message)
  }

  #rangeOf({ piece, firstBlock, blockCount }: BlockRun): Range {
    const offset = firstBlock * BLOCK_BYTES
    const bytes = pieceBytesOf(this.store.file, piece)
    return { piece, offset, length: Math.min(blockCount * BLOCK_BYTES, bytes - offset) }
  }

  #makeDownload(): DownloadMachine {
    const { store } = this
    return createDownload(
      { random: this.#world.random },
      {
        pieceCount: store.file.pieceCount,
        pieceBytes: piece => pieceBytesOf(store.file, piece),
        wanted: this.wanted,
        has: store.has,
        blocksOf: piece => store.blocksOf(piece),
        settings: this.options.download ?? {},
      },
    )
  }

  #makeUploads(): UploadMachine {
    const made = createUploads({ random: this.#world.random }, { settings: this.options.uploads ?? {} })
    made.setSeeding(this.isComplete)
    return made
  }

  #tick(): void {
    this.#flush()
    this.#world.network.events.after(TICK_MS, () => this.#tick())
  }
}

export const NONE: ReadonlySet<number> = new Set()

export function runOf({ piece, offset, length }: Range): BlockRun {
  return { piece, firstBlock: offset / BLOCK_BYTES, blockCount: Math.ceil(length / BLOCK_BYTES) }
}
