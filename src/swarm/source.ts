/** Something that a download asks: a link to a peer, or an origin. What the orders of the state machine are carried out on. */
import { BLOCK_BYTES, type BlockRun } from './types.ts'
import type { ChannelFacts, ChannelId, DownloadBlame } from './transfer/types.ts'

export interface Source {
  readonly channel: ChannelId
  readonly facts: ChannelFacts
  /** Bytes of blocks that have come from it. */
  receivedBytes: number
  request(run: BlockRun, length: number): void
  cancel(run: BlockRun, length: number): void
  askLeaves(piece: number): void
  setInterested(isInterested: boolean): void
  end(why: DownloadBlame, isBan: boolean): void
}

/** The blocks that bytes of a piece are; undefined: they do not begin with one. */
export function runOf(piece: number, offset: number, length: number): BlockRun | undefined {
  if (offset % BLOCK_BYTES !== 0 || length < 1) return undefined
  return { piece, firstBlock: offset / BLOCK_BYTES, blockCount: Math.ceil(length / BLOCK_BYTES) }
}

/** Bytes of blocks; the last block of a piece may be shorter. @param pieceBytes of the run's piece */
export function bytesOfRun(run: BlockRun, pieceBytes: number): number {
  const offset = run.firstBlock * BLOCK_BYTES
  return Math.min(pieceBytes - offset, run.blockCount * BLOCK_BYTES)
}
