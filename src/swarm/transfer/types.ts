/**
 * The two state machines of a transfer, without any I/O: `Download` decides what is asked of whom, `Uploads` who is given
 * what. Both are told of everything that happens, with the time, and answer with orders.
 */
import type { Bitfield } from '#base'
import type { BlockRun } from '../types.ts'

/** Something that has pieces: a peer on a stream, or an origin. */
export type ChannelId = number

export type ChannelFacts = {
  /** Who is blamed: two channels of one party share its blame. A peer id, `bt:HOST`, or the name of an origin. */
  readonly party: string
  /** An origin has everything, chokes nobody, and is asked at once for all that is missing of a piece, which is its alone. */
  readonly kind: 'peer' | 'origin'
  /** Bytes of the largest request: a multiple of a block. 16 KiB for stock clients. */
  readonly requestBytesMax: number
  /** Requests that may be under way. */
  readonly requestsMax: number
  /** Whether it can be asked for the hashes of a piece's blocks. */
  readonly hasLeaves: boolean
}

export type DownloadOrder =
  | { readonly kind: 'request'; readonly channel: ChannelId; readonly run: BlockRun }
  | { readonly kind: 'cancel'; readonly channel: ChannelId; readonly run: BlockRun }
  /** Ask for the hashes of the piece's blocks; before the first request for the piece on that channel. */
  | { readonly kind: 'leaves'; readonly channel: ChannelId; readonly piece: number }
  /**
   * Whoever gave blocks of the piece gives no more: the store must hold none of what came of it and was not verified, and
   * take none of it later. What is dropped on its way there is told by `stored`.
   */
  | { readonly kind: 'forget'; readonly piece: number }
  | { readonly kind: 'interest'; readonly channel: ChannelId; readonly isInterested: boolean }
  /** End the channel. `isBan`: nothing more from its party. The channel may have left by then: the ban counts all the same. */
  | {
      readonly kind: 'close'
      /** It may have left already: what it gave is judged when it has been verified. */
      readonly channel: ChannelId
      /** The peer that is meant; undefined: an origin. */
      readonly peer: string | undefined
      readonly why: DownloadBlame
      readonly isBan: boolean
    }

/** What became of bytes that had arrived. */
export type StoreOutcome =
  | { readonly isPieceDone: boolean }
  | { readonly bad: readonly number[] }
  | { readonly isDropped: true }

export type DownloadBlame = 'bad-data' | 'unasked' | 'stalled' | 'lied' | 'useless'

export type DownloadFacts = {
  /** Of what is wanted. */
  readonly doneBytes: number
  readonly wantedBytes: number
  readonly receivedBytes: number
  /** Bytes that came and were no use: bad, twice, or after they were cancelled. */
  readonly wastedBytes: number
  /** Bytes a second, smoothed. */
  readonly rate: number
  readonly channels: readonly {
    readonly channel: ChannelId
    readonly party: string
    readonly rate: number
    readonly receivedBytes: number
    readonly inFlight: number
  }[]
  /** Wanted pieces that nobody who is connected has. */
  readonly unavailable: number
}

/** Times are Clock.monotonic(), in milliseconds. */
export interface DownloadMachine {
  joined(channel: ChannelId, facts: ChannelFacts, now: number): void
  left(channel: ChannelId, now: number): void
  /** The whole set, in place of what it had before; 'all' for seeds. An origin has all from the start. */
  hasPieces(channel: ChannelId, pieces: Bitfield | 'all'): void
  hasPiece(channel: ChannelId, piece: number): void
  choked(channel: ChannelId, isChoked: boolean, now: number): void
  /** It will not answer this request. */
  rejected(channel: ChannelId, run: BlockRun, now: number): void
  /** It will not tell the hashes of the piece's blocks: then one channel alone gives the whole piece. */
  leavesRejected(channel: ChannelId, piece: number, now: number): void
  /**
   * The hashes of the piece's blocks are known from now on, whoever gave them: held blocks are checked with them, and those
   * that are bad are told by `heldLost`. From then on several channels may give the piece.
   */
  leavesKnown(piece: number, now: number): void
  /** Blocks that the store had held are lost. `isBad`: they are not the file's, and who gave them is blamed. */
  heldLost(piece: number, blocks: readonly number[], how: { readonly isBad: boolean }): void
  /** The caller found a fault that only it can see: hashes that are not the file's, or a message that makes no sense. */
  blame(channel: ChannelId, fault: { readonly why: DownloadBlame; readonly isBan: boolean }): void
  /** The bytes of a request have come. @returns whether they are wanted: else they are dropped, and count as waste */
  arrived(channel: ChannelId, run: BlockRun, now: number): boolean
  /**
   * What became of bytes that had arrived. `bad`: these blocks, and who gave them is blamed. Of a piece whose blocks could not
   * be verified alone, the store holds none after that. `isDropped`: after an order to forget the piece.
   */
  stored(channel: ChannelId, run: BlockRun, outcome: StoreOutcome, now: number): void
  /** The disk took nothing: what has arrived and is not stored is wanted again, and nothing is asked for until `resume`. */
  suspend(): void
  resume(now: number): void
  want(pieces: Bitfield): void
  /**
   * Bytes that may be asked for from now on, in place of what was left (a limit on the rate); infinity without one. The
   * last request may go over it, so that any limit lets something through: the caller keeps the debt.
   */
  allow(bytes: number): void
  /**
   * To be called at least every TICK_MS, and after every batch of the above. Where it was called later, this side stood still,
   * and requests get as much longer. @returns what is to be done, in order
   */
  orders(now: number): readonly DownloadOrder[]
  readonly isComplete: boolean
  facts(now: number): DownloadFacts
}

export type UploadOrder =
  | { readonly kind: 'choke'; readonly channel: ChannelId; readonly isChoked: boolean }
  /** Read and send. Then `sent`. */
  | {
      readonly kind: 'send'
      readonly channel: ChannelId
      readonly piece: number
      readonly offset: number
      readonly length: number
    }
  | {
      readonly kind: 'reject'
      readonly channel: ChannelId
      readonly piece: number
      readonly offset: number
      readonly length: number
    }
  | { readonly kind: 'close'; readonly channel: ChannelId; readonly why: 'flood'; readonly isBan: boolean }

export interface UploadMachine {
  /** @param facts `requestBytesMax`: the longest request that it may make of us; longer ones are rejected */
  joined(channel: ChannelId, facts: Pick<ChannelFacts, 'party' | 'requestBytesMax'>, now: number): void
  left(channel: ChannelId, now: number): void
  interested(channel: ChannelId, isInterested: boolean, now: number): void
  requested(
    channel: ChannelId,
    request: { readonly piece: number; readonly offset: number; readonly length: number },
    now: number,
  ): void
  cancelled(
    channel: ChannelId,
    request: { readonly piece: number; readonly offset: number; readonly length: number },
  ): void
  /** The channel can take more, or cannot. */
  writable(channel: ChannelId, isWritable: boolean): void
  /** Once for each `send`, when its bytes have left: 0 where nothing could be read (the caller rejects it then). */
  sent(channel: ChannelId, bytes: number, now: number): void
  /** What this node got from the channel, for tit for tat. */
  received(channel: ChannelId, bytes: number, now: number): void
  /** Whether this node has all that it wants: then those are served who take the fastest. */
  setSeeding(isSeeding: boolean): void
  /**
   * Bytes that may be sent from now on, in place of what was left (a limit on the rate); infinity without one. The last
   * request may go over it: the caller keeps the debt.
   */
  allow(bytes: number): void
  orders(now: number): readonly UploadOrder[]
}
