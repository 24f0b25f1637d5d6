/** One wish for pieces of a model: what of it is still missing, how far it is, and when it has to be given up. No I/O. */
import type { Bitfield } from '#base'
import { SwarmError } from './errors.ts'
import type { PieceStore } from './types.ts'

export type PullEnds = {
  /** Everything is here. */
  readonly onDone: () => void
  readonly onFailed: (error: Error) => void
}

/** What the swarm knows at a moment. */
export type PullView = {
  /** Peers and origins that are connected, and whether more are being looked for. */
  readonly sources: number
  /** Wanted pieces that nobody has who is connected. */
  readonly unavailable: number
}

export class Pull {
  /** All of what is wanted, counted over the torrent. */
  readonly wanted: Bitfield
  readonly wantedBytes: number
  /** What was here when it began. */
  readonly hadBytes: number
  readonly #store: PieceStore
  readonly #ends: PullEnds
  readonly #missing: Bitfield
  readonly #waits: { readonly noPeersMs: number; readonly piecesMissingMs: number }
  #doneBytes = 0
  #aloneSince: number | undefined
  #unavailableSince: number | undefined
  #hasEnded = false

  constructor(
    deps: { readonly store: PieceStore; readonly ends: PullEnds },
    options: { readonly wanted: Bitfield; readonly noPeersMs: number; readonly piecesMissingMs: number },
  ) {
    this.#store = deps.store
    this.#ends = deps.ends
    this.#waits = options
    this.wanted = options.wanted
    this.#missing = options.wanted.clone()
    let wantedBytes = 0
    for (const piece of options.wanted.numbers()) {
      const bytes = deps.store.pieceBytes(piece)
      wantedBytes += bytes
      if (!deps.store.has.has(piece)) continue
      this.#missing.clear(piece)
      this.#doneBytes += bytes
    }
    this.wantedBytes = wantedBytes
    this.hadBytes = this.#doneBytes
  }

  get doneBytes(): number {
    return this.#doneBytes
  }

  get missingBytes(): number {
    return this.wantedBytes - this.#doneBytes
  }

  get missing(): Bitfield {
    return this.#missing
  }

  /** Ends at once where nothing is missing. */
  start(): void {
    if (this.#missing.isEmpty) this.#done()
  }

  pieceDone(piece: number): void {
    if (!this.#missing.clear(piece)) return
    this.#doneBytes += this.#store.pieceBytes(piece)
    if (this.#missing.isEmpty) this.#done()
  }

  fail(error: Error): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#ends.onFailed(error)
  }

  /** Gives up where nobody can give what is missing, and nobody came for long enough who can. */
  round(view: PullView, now: number): void {
    if (view.sources === 0) this.#aloneSince ??= now
    else this.#aloneSince = undefined
    if (view.unavailable > 0 && view.sources > 0) this.#unavailableSince ??= now
    else this.#unavailableSince = undefined
    if (this.#aloneSince !== undefined && now - this.#aloneSince >= this.#waits.noPeersMs) this.fail(noPeers())
    const hasWaited =
      this.#unavailableSince !== undefined && now - this.#unavailableSince >= this.#waits.piecesMissingMs
    if (hasWaited) this.fail(piecesMissing(Math.min(view.unavailable, this.#missing.count)))
  }

  #done(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#ends.onDone()
  }
}

export function noPeers(): SwarmError {
  return new SwarmError({ code: 'SWARM_NO_PEERS' }, 'nobody was found who has anything of this model')
}

export function diskFull(neededBytes: number): SwarmError {
  const mebibytes = Math.ceil(neededBytes / 2 ** 20)
  return new SwarmError(
    { code: 'SWARM_DISK_FULL', neededBytes },
    `the disk or the quota is full: ${mebibytes} MiB are still to come; what is here stays, and the next pull goes on from there`,
  )
}

function piecesMissing(pieces: number): SwarmError {
  return new SwarmError(
    { code: 'SWARM_PIECES_MISSING', pieces },
    `${pieces} pieces are with nobody who is connected; what is here stays, and the next pull goes on from there`,
  )
}
