/** What a transfer may be tuned by, with the reason for each default. Hard bounds are in `limits.ts`. */

const KIB = 1024
const MIB = 1024 * KIB

/** The caller asks for orders at least so often: half of the shortest wait that anything here decides about. */
export const TICK_MS = 250

export type DownloadSettings = {
  /** Bytes under way on one channel: 80 MiB/s at a round trip of 100 ms. @default 8 MiB */
  readonly inFlightBytesMax: number
  /** Bytes under way on all channels: what a slow disk and late answers may cost in memory. @default 48 MiB */
  readonly inFlightBytesTotal: number
  /** What a channel may have under way before anything is known of it: slow start doubles it each round trip. @default 256 KiB */
  readonly windowBytesStart: number
  /** A request is to take no longer than this: a lost one costs as much, and while one waits another could have it. @default 200 ms */
  readonly requestMs: number
  /** Bounds of the wait for an answer, whatever was measured. @default 2 s, 60 s */
  readonly timeoutMsMin: number
  readonly timeoutMsMax: number
  /** The wait before anything was measured: a slow line's first answer takes a few seconds. @default 15 s */
  readonly timeoutMsStart: number
  /** How many times longer than measured an answer may take: others may come and share the line. @default 4 */
  readonly timeoutFactor: number
  /** Answers that were waited for in vain, in a row, before a channel is ended. @default 4 */
  readonly stallsMax: number
  /** Pieces that are chosen by chance before the rarest: the first thing to trade should come soon. @default 4 */
  readonly randomPieces: number
  /** Share of the wanted bytes that may be wasted on asking twice. @default 0.012 */
  readonly wasteShare: number
  /** And this many bytes at least, so that a small download has an end game too. @default 256 KiB */
  readonly wasteBytesMin: number
  /** A second request is made where the first will take so many times longer than the second. @default 2 */
  readonly secondFactor: number
  /** Rejections of pieces that a channel said it has, beyond what it gave, before it is ended as a liar. @default 16 */
  readonly rejectsMax: number
  /** How long a piece is not asked for again of a channel that rejected it, or let it wait. @default 30 s */
  readonly refusedMs: number
  /** Beyond this many channels, those that were of no use for long are ended. @default 48 */
  readonly channelsWanted: number
  /** What is long for that. @default 2 min */
  readonly uselessMs: number
}

export const DOWNLOAD_DEFAULTS: DownloadSettings = {
  inFlightBytesMax: 8 * MIB,
  inFlightBytesTotal: 48 * MIB,
  windowBytesStart: 256 * KIB,
  requestMs: 200,
  timeoutMsMin: 2_000,
  timeoutMsMax: 60_000,
  timeoutMsStart: 15_000,
  timeoutFactor: 4,
  stallsMax: 4,
  randomPieces: 4,
  wasteShare: 0.012,
  wasteBytesMin: 256 * KIB,
  secondFactor: 2,
  rejectsMax: 16,
  refusedMs: 30_000,
  channelsWanted: 48,
  uselessMs: 120_000,
}

export type UploadSettings = {
  /** Channels that are given something at once. @default 8 */
  readonly slots: number
  /** And at most so many, while each takes a lot or the line is idle. @default 64 */
  readonly slotsMax: number
  /** Bytes a second that each slot takes before there is one more: a fast line feeds more. @default 1 MiB/s */
  readonly slotRate: number
  /** How often it is decided anew who is given something (BEP 3: 10 s, so that TCP comes up to speed). @default 10 s */
  readonly chokeMs: number
  /** How often the optimistic slot goes to another (BEP 3: 30 s). @default 30 s */
  readonly optimisticMs: number
  /** How much more likely a newcomer is to get it (BEP 3: three times). @default 3 */
  readonly newcomerWeight: number
  /** For how long a channel is a newcomer. @default 60 s */
  readonly newcomerMs: number
  /** What was got from a channel counts for so long (Cohen 2003: a rolling mean of 20 s). @default 20 s */
  readonly rateMs: number
  /** Who was given something and gave nothing for so long gets the optimistic slot alone (Cohen 2003). @default 60 s */
  readonly snubbedMs: number
  /** How long a turn is while seeding, where others wait. @default 30 s */
  readonly turnMs: number
  /** Requests of one channel that are read and sent at once: the next is read while one is sent. @default 3 */
  readonly readsPerChannel: number
  /** Bytes of these, beyond the first. @default 2 MiB */
  readonly readBytesPerChannel: number
  /** Bytes that are read and sent at once for all channels: what uploads cost in memory. @default 24 MiB */
  readonly readBytesTotal: number
  /** A request waits no longer than this for others that go first because nobody has got their piece yet. @default 3 s */
  readonly reorderMs: number
}

export const UPLOAD_DEFAULTS: UploadSettings = {
  slots: 8,
  slotsMax: 64,
  slotRate: MIB,
  chokeMs: 10_000,
  optimisticMs: 30_000,
  newcomerWeight: 3,
  newcomerMs: 60_000,
  rateMs: 20_000,
  snubbedMs: 60_000,
  turnMs: 30_000,
  readsPerChannel: 3,
  readBytesPerChannel: 2 * MIB,
  readBytesTotal: 24 * MIB,
  reorderMs: 3_000,
}
