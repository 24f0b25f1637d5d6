/**
 * An origin as a channel of a download: what the state machine asks for is gathered, neighbouring pieces become one range,
 * and what comes is cut into pieces again. An origin that fails time and again is given up for this pull.
 */
import { type CancelTimer, type Clock, messageOf } from '#base'
import type { Torrent } from '#formats'
import { TORRENT_MODEL_FILE } from '#formats'
import type { Intake } from './intake.ts'
import { ORIGIN_FAILURES_MAX, ORIGIN_PARALLEL_MAX, ORIGIN_PIECES_PER_FETCH_MAX, ORIGIN_RETRY_MS_MIN } from './limits.ts'
import type { Source } from './source.ts'
import type { ChannelFacts, ChannelId, DownloadBlame } from './transfer/types.ts'
import { BLOCK_BYTES, type BlockRun, type Origin } from './types.ts'

export type OriginChannelDeps = {
  readonly clock: Clock
  readonly intake: Intake
  readonly torrent: Torrent
  /** It is given up, or is of no use; it has left the download. */
  readonly onEnd: (channel: OriginChannel, why: string) => void
}

/** Bytes of the model's file that were asked for: a piece, or what is missing of one. */
type Ask = { readonly run: BlockRun; readonly offset: number; readonly length: number; isCancelled: boolean }

type Fetch = { readonly asks: readonly Ask[]; readonly abort: AbortController }

export class OriginChannel implements Source {
  readonly channel: ChannelId
  readonly facts: ChannelFacts
  receivedBytes = 0
  readonly #deps: OriginChannelDeps
  readonly #origin: Origin
  readonly #parallel: number
  readonly #waiting: Ask[] = []
  readonly #fetches = new Set<Fetch>()
  readonly #tasks = new Set<Promise<void>>()
  /** Where the last fetch ends: the next begins there if it can, as origins read in order. */
  #end = 0
  #failures = 0
  #isResting = false
  #cancelRest: CancelTimer = () => undefined
  #hasEnded = false

  constructor(deps: OriginChannelDeps, { channel, origin }: { readonly channel: ChannelId; readonly origin: Origin }) {
    this.#deps = deps
    this.#origin = origin
    this.channel = channel
    this.#parallel = Math.max(1, Math.min(ORIGIN_PARALLEL_MAX, origin.parallel))
    this.facts = {
      party: origin.name,
      kind: 'origin',
      requestBytesMax: deps.torrent.pieceBytes,
      requestsMax: this.#parallel * ORIGIN_PIECES_PER_FETCH_MAX,
      hasLeaves: false,
    }
  }

  get name(): string {
    return this.#origin.name
  }

  start(): void {
    const { intake } = this.#deps
    intake.join(this)
    intake.hasPieces(this, 'all')
    intake.choked(this, false)
  }

  request(run: BlockRun, length: number): void {
    const { firstPiece = 0 } = this.#deps.torrent.files[TORRENT_MODEL_FILE] ?? {}
    const offset = (run.piece - firstPiece) * this.#deps.torrent.pieceBytes + run.firstBlock * BLOCK_BYTES
    this.#waiting.push({ run, offset, length, isCancelled: false })
    // The orders of one round come one by one: what they can be merged to shows when all are here.
    queueMicrotask(() => this.#startFetches())
  }

  cancel(run: BlockRun): void {
    const isIt = (ask: Ask): boolean => ask.run.piece === run.piece && ask.run.firstBlock === run.firstBlock
    const waiting = this.#waiting.findIndex(isIt)
    if (waiting !== -1) this.#waiting.splice(waiting, 1)
    for (const { asks, abort } of this.#fetches) {
      for (const ask of asks) if (isIt(ask)) ask.isCancelled = true
      if (asks.every(ask => ask.isCancelled)) abort.abort(new Error('not needed any more'))
    }
  }

  askLeaves(): void {
    // It has said that it has none, so it is not asked.
  }

  setInterested(): void {
    // Nobody has to know.
  }

  end(why: DownloadBlame): void {
    this.stop(why === 'bad-data' ? 'it gives what is not the model' : why)
  }

  /** Ends what runs and leaves the download. Idempotent. */
  stop(why: string): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#cancelRest()
    this.#waiting.length = 0
    for (const { abort } of this.#fetches) abort.abort(new Error(why))
    this.#deps.intake.leave(this)
    this.#deps.onEnd(this, why)
  }

  /** Resolves when nothing of it runs any more, and the origin is closed. */
  async settled(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks)
    await this.#origin.close()
  }

  #startFetches(): void {
    while (!this.#hasEnded && !this.#isResting && this.#fetches.size < this.#parallel) {
      const asks = this.#nextAsks()
      if (asks.length === 0) return
      const fetch: Fetch = { asks, abort: new AbortController() }
      this.#fetches.add(fetch)
      const task = this.#run(fetch).finally(() => this.#tasks.delete(task))
      this.#tasks.add(task)
    }
  }

  /** What waits at or behind the end of the last fetch, else the lowest; and what follows it without a gap. */
  #nextAsks(): Ask[] {
    this.#waiting.sort((a, b) => a.offset - b.offset)
    // Others that can run beside this one get their share of what waits.
    const free = Math.max(1, this.#parallel - this.#fetches.size)
    const most = Math.min(ORIGIN_PIECES_PER_FETCH_MAX, Math.ceil(this.#waiting.length / free))
    const behind = this.#waiting.findIndex(({ offset }) => offset >= this.#end)
    const first = Math.max(0, behind)
    let count = 0
    let end = this.#waiting[first]?.offset ?? this.#end
    for (const ask of this.#waiting.slice(first)) {
      if (count >= most || ask.offset !== end) break
      end = ask.offset + ask.length
      count++
    }
    this.#end = end
    return this.#waiting.splice(first, count)
  }

  async #run(fetch: Fetch): Promise<void> {
    const left = [...fetch.asks]
    try {
      await this.#receive(fetch, left)
      if (left.length > 0) throw new Error('it ended early')
      this.#failures = 0
    } catch (error) {
      const wanted = left.filter(ask => !ask.isCancelled)
      this.#waiting.push(...wanted)
      this.#end = wanted[0]?.offset ?? this.#end
      if (wanted.length > 0) this.#failed(messageOf(error))
    }
    this.#fetches.delete(fetch)
    this.#startFetches()
  }

  /** @param left what has not come yet; shortened on the way */
  async #receive({ asks, abort }: Fetch, left: Ask[]): Promise<void> {
    const [first] = asks
    if (first === undefined) return
    const length = asks.reduce((sum, ask) => sum + ask.length, 0)
    let into = new Uint8Array(first.length)
    let filled = 0
    for await (const part of this.#origin.fetch({ offset: first.offset, length }, { signal: abort.signal })) {
      for (let at = 0; at < part.byteLength; ) {
        const [ask] = left
        if (ask === undefined) throw new Error('it gave more than was asked for')
        const taken = part.subarray(at, at + into.byteLength - filled)
        into.set(taken, filled)
        filled += taken.byteLength
        at += taken.byteLength
        if (filled < into.byteLength) continue
        left.shift()
        if (!this.#hasEnded) this.#give(ask, into)
        into = new Uint8Array(left[0]?.length ?? 0)
        filled = 0
      }
    }
  }

  #give({ run }: Ask, bytes: Uint8Array<ArrayBuffer>): void {
    const { piece, firstBlock } = run
    this.#deps.intake.arrived(this, { piece, offset: firstBlock * BLOCK_BYTES, bytes })
  }

  #failed(why: string): void {
    if (this.#hasEnded) return
    this.#failures++
    if (this.#failures >= ORIGIN_FAILURES_MAX) {
      this.stop(why)
      return
    }
    this.#isResting = true
    this.#cancelRest()
    this.#cancelRest = this.#deps.clock.after(ORIGIN_RETRY_MS_MIN * 2 ** (this.#failures - 1), () => {
      this.#isResting = false
      this.#startFetches()
    })
  }
}
