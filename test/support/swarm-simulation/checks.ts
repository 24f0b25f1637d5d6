/** What must hold at every step of one node's download, whatever the others do. A breach throws; the world says its seed. */
import assert from 'node:assert/strict'
import { Bitfield } from '#base'
import { DOWNLOAD_DEFAULTS } from '../../../src/swarm/transfer/settings.ts'
import type { ChannelFacts, DownloadFacts, DownloadOrder } from '../../../src/swarm/transfer/types.ts'
import { BLOCK_BYTES, type BlockRun } from '../../../src/swarm/types.ts'
import type { End } from './network.ts'
import type { SimNode, World } from './sim-node.ts'
import { pieceBytesOf } from './toy-store.ts'

type Seen = {
  readonly facts: ChannelFacts
  pieces: Bitfield | 'all'
  isChoked: boolean
  /** Asked, and neither answered nor taken back. */
  readonly asked: Map<number, BlockRun>
  /** How often the same was taken back, and is still to be answered. */
  readonly owed: Map<string, number>
  bytes: number
}

export class Checks {
  isSuspended = false
  /** Bytes that were asked for while others were asked for the same. */
  twiceBytes = 0
  bans = 0
  readonly #node: SimNode
  readonly #world: World
  readonly #seen = new Map<number, Seen>()

  constructor(node: SimNode, world: World) {
    this.#node = node
    this.#world = world
  }

  restarted(): void {
    this.#seen.clear()
    this.isSuspended = false
  }

  wantedChanged(): void {}

  joined(end: End, facts: ChannelFacts): void {
    const isOrigin = facts.kind === 'origin'
    const pieces = isOrigin ? 'all' : new Bitfield(this.#node.store.file.pieceCount)
    this.#seen.set(end.id, { facts, pieces, isChoked: !isOrigin, asked: new Map(), owed: new Map(), bytes: 0 })
  }

  left(end: End): void {
    this.#seen.delete(end.id)
  }

  hasPieces(end: End, pieces: Bitfield | 'all'): void {
    const seen = this.#seen.get(end.id)
    if (seen !== undefined) seen.pieces = pieces === 'all' ? pieces : pieces.clone()
  }

  hasPiece(end: End, piece: number): void {
    const seen = this.#seen.get(end.id)
    if (seen !== undefined && seen.pieces !== 'all') seen.pieces.set(piece)
  }

  choked(end: End, isChoked: boolean): void {
    const seen = this.#seen.get(end.id)
    if (seen === undefined) return
    seen.isChoked = isChoked
    if (isChoked) for (const run of seen.asked.values()) this.#takeBack(seen, run)
  }

  arrived(end: End, run: BlockRun): void {
    const seen = this.#seen.get(end.id)
    if (seen !== undefined && !this.#answer(seen, run)) this.#settleOwed(seen, run)
  }

  /** Answers come in their turn: what was taken back was asked for before what is asked for now. */
  rejected(end: End, run: BlockRun): void {
    const seen = this.#seen.get(end.id)
    if (seen !== undefined && !this.#settleOwed(seen, run)) this.#answer(seen, run)
  }

  order(order: Exclude<DownloadOrder, { kind: 'forget' }>): void {
    const seen = this.#seen.get(order.channel)
    if (order.kind === 'close') this.#close(order)
    if (seen === undefined) return
    if (order.kind === 'close') this.#seen.delete(order.channel)
    if (order.kind === 'cancel') this.#takeBack(seen, order.run)
    if (order.kind === 'request') this.#request(order.run, seen)
    if (order.kind === 'leaves') assert.ok(seen.facts.hasLeaves, 'hashes are asked of who has none')
  }

  settled(facts: DownloadFacts): void {
    const total = this.#node.options.download?.inFlightBytesTotal ?? DOWNLOAD_DEFAULTS.inFlightBytesTotal
    const inFlight = facts.channels.reduce((sum, channel) => sum + channel.inFlight, 0)
    assert.ok(inFlight <= total + this.#node.store.file.pieceBytes, `${inFlight} bytes in flight`)
    assert.ok(facts.doneBytes <= facts.wantedBytes, 'more is done than wanted')
    for (const { channel, inFlight: bytes } of facts.channels) {
      const seen = this.#seen.get(channel)
      assert.equal(bytes, seen?.bytes, 'bytes in flight are what was asked, less what was answered')
      if (seen?.isChoked === true) assert.equal(bytes, 0, 'a choked channel has nothing in flight')
    }
  }

  #request(run: BlockRun, seen: Seen): void {
    const { store, wanted } = this.#node
    const { facts } = seen
    assert.ok(!this.isSuspended, 'asked while the disk is full')
    assert.ok(!seen.isChoked, 'asked of who chokes')
    assert.ok(seen.pieces === 'all' || seen.pieces.has(run.piece), 'asked of who lacks it')
    assert.ok(wanted.has(run.piece) && !store.has.has(run.piece), 'asked for what is not needed')
    const bytes = this.#bytesOf(run)
    assert.ok(
      run.blockCount > 0 &&
        bytes > 0 &&
        (run.firstBlock + run.blockCount - 1) * BLOCK_BYTES < pieceBytesOf(store.file, run.piece),
    )
    assert.ok(
      facts.kind === 'origin' || run.blockCount * BLOCK_BYTES <= Math.max(facts.requestBytesMax, BLOCK_BYTES),
      'asked for too much at once',
    )
    assert.ok(!seen.asked.has(keyOf(run)), 'asked the same of the same')
    for (let block = run.firstBlock; block < run.firstBlock + run.blockCount; block++)
      assert.ok(!store.leaves.has(run.piece) || !store.hasBlock(run.piece, block), 'asked for a block that is verified')
    const others = [...this.#seen.values()].filter(
      other => other !== seen && [...other.asked.values()].some(asked => overlaps(asked, run)),
    )
    assert.ok(others.length <= 1, 'asked for more than twice')
    if (others.length > 0) this.twiceBytes += bytes
    if (!store.leaves.has(run.piece))
      assert.ok(
        [...this.#seen.values()].every(
          other => other === seen || ![...other.asked.values()].some(asked => asked.piece === run.piece),
        ),
        'asked for a piece of two without hashes',
      )
    seen.asked.set(keyOf(run), run)
    seen.bytes += bytes
    assert.ok(seen.asked.size <= facts.requestsMax, 'too many requests')
    const most = this.#node.options.download?.inFlightBytesMax ?? DOWNLOAD_DEFAULTS.inFlightBytesMax
    assert.ok(seen.bytes <= most + store.file.pieceBytes, 'too much in flight on a channel')
  }

  /** @returns whether it was asked for */
  #answer(seen: Seen, run: BlockRun): boolean {
    if (seen.asked.get(keyOf(run))?.blockCount !== run.blockCount) return false
    seen.asked.delete(keyOf(run))
    seen.bytes -= this.#bytesOf(run)
    return true
  }

  #takeBack(seen: Seen, run: BlockRun): void {
    if (this.#answer(seen, run)) seen.owed.set(exactKeyOf(run), (seen.owed.get(exactKeyOf(run)) ?? 0) + 1)
  }

  /** @returns whether an answer to it was still to come */
  #settleOwed(seen: Seen, run: BlockRun): boolean {
    const owed = seen.owed.get(exactKeyOf(run)) ?? 0
    if (owed > 0) seen.owed.set(exactKeyOf(run), owed - 1)
    return owed > 0
  }

  #close({ channel, peer, isBan, why }: Extract<DownloadOrder, { kind: 'close' }>): void {
    const name = this.#node.ends.get(channel)?.other.owner.name ?? peer
    if (!isBan || name === undefined) return
    this.bans++
    assert.ok(this.#world.isGuilty(name), `${this.#node.name} bans ${name}, who did nothing: ${why}`)
  }

  #bytesOf(run: BlockRun): number {
    const offset = run.firstBlock * BLOCK_BYTES
    return Math.min(run.blockCount * BLOCK_BYTES, pieceBytesOf(this.#node.store.file, run.piece) - offset)
  }
}

function keyOf({ piece, firstBlock }: BlockRun): number {
  return piece * 65_536 + firstBlock
}

function exactKeyOf(run: BlockRun): string {
  return `${keyOf(run)}+${run.blockCount}`
}

function overlaps(a: BlockRun, b: BlockRun): boolean {
  return a.piece === b.piece && a.firstBlock < b.firstBlock + b.blockCount && b.firstBlock < a.firstBlock + a.blockCount
}
