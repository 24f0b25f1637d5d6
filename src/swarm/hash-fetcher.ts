/**
 * Gets the hashes of the pieces that are wanted (BEP 52 hash requests), from several peers at once: before a piece's hash
 * is known nothing of it can be verified, so nothing of it is asked for. No I/O: peers are asked by functions.
 */
import { Bitfield, type Clock } from '#base'
import type { Torrent } from '#formats'
import { PIECE_LAYER } from './hash-answers.ts'
import {
  HASH_REQUEST_MS_MAX,
  HASH_REQUEST_MS_MIN,
  HASH_REQUESTS_MAX,
  HASH_REQUESTS_PER_PEER_MAX,
  HASHES_PER_REQUEST_MAX,
} from './limits.ts'
import type { PieceStore } from './types.ts'
import { HASH_BYTES, proofLayersFor } from './wire/protocol.ts'
import type { HashRange } from './wire/types.ts'

/** A peer that can be asked. */
export interface HashGiver {
  readonly party: string
  askHashes(range: HashRange): void
}

export type HashFetcherDeps = {
  readonly clock: Clock
  readonly torrent: Torrent
  readonly store: PieceStore
  /** What it gave is not of the file. */
  readonly onLie: (giver: HashGiver) => void
  /** Hashes of these wanted pieces are known now. */
  readonly onKnown: (pieces: Bitfield) => void
}

/** Hashes that are asked for together. */
type Window = {
  readonly key: string
  readonly file: number
  readonly range: HashRange
  /** The pieces of it that are wanted, counted over the torrent. */
  readonly wanted: Bitfield
  asked: { readonly giver: HashGiver; readonly until: number } | undefined
  /** How often an answer was waited for in vain. */
  late: number
  /** Who has none of it, or did not answer. */
  readonly refusing: Set<string>
}

export class HashFetcher {
  readonly #deps: HashFetcherDeps
  readonly #windows = new Map<string, Window>()
  readonly #givers = new Map<HashGiver, number>()

  constructor(deps: HashFetcherDeps) {
    this.#deps = deps
  }

  /** Wanted pieces whose hashes are not known. */
  get missingCount(): number {
    let count = 0
    for (const { wanted } of this.#windows.values()) count += wanted.count
    return count
  }

  join(giver: HashGiver): void {
    this.#givers.set(giver, 0)
    this.#assign()
  }

  leave(giver: HashGiver): void {
    this.#givers.delete(giver)
    for (const window of this.#windows.values()) if (window.asked?.giver === giver) window.asked = undefined
    this.#assign()
  }

  /** Replaces what was wanted. What is known is told at once. */
  want(pieces: Bitfield): void {
    const { store, torrent } = this.#deps
    const known = new Bitfield(torrent.pieceCount)
    const missing = new Map<string, Window>()
    for (const window of this.#windowsOf(pieces)) {
      if (store.knowsHashes(window.wanted)) for (const piece of window.wanted.numbers()) known.set(piece)
      else missing.set(window.key, this.#carriedOver(window))
    }
    for (const [key, { asked }] of this.#windows) if (asked !== undefined && !missing.has(key)) this.#free(asked.giver)
    this.#windows.clear()
    for (const [key, window] of missing) this.#windows.set(key, window)
    if (!known.isEmpty) this.#deps.onKnown(known)
    this.#assign()
  }

  /** Hashes have come: `range.length` of them, then the uncles. */
  answered(giver: HashGiver, range: HashRange, hashes: Uint8Array): void {
    const window = this.#windowAsked(giver, range)
    if (window === undefined) return
    const end = range.length * HASH_BYTES
    const proven = { first: range.index, hashes: hashes.subarray(0, end), proof: hashes.subarray(end) }
    if (this.#deps.store.putHashes(window.file, proven)) {
      this.#windows.delete(window.key)
      this.#deps.onKnown(window.wanted)
    } else {
      window.refusing.add(giver.party)
      this.#deps.onLie(giver)
    }
    this.#assign()
  }

  rejected(giver: HashGiver, range: HashRange): void {
    this.#windowAsked(giver, range)?.refusing.add(giver.party)
    this.#assign()
  }

  /** Asks others where an answer is late. */
  round(): void {
    const now = this.#deps.clock.monotonic()
    for (const window of this.#windows.values()) {
      const { asked } = window
      if (asked === undefined || asked.until > now) continue
      window.refusing.add(asked.giver.party)
      window.asked = undefined
      window.late++
      this.#free(asked.giver)
    }
    this.#assign()
  }

  #assign(): void {
    let under = 0
    for (const { asked } of this.#windows.values()) if (asked !== undefined) under++
    for (const window of this.#windows.values()) {
      if (under >= HASH_REQUESTS_MAX) return
      if (window.asked !== undefined) continue
      const giver = this.#giverFor(window)
      if (giver === undefined) continue
      this.#givers.set(giver, (this.#givers.get(giver) ?? 0) + 1)
      const waitMs = Math.min(HASH_REQUEST_MS_MAX, HASH_REQUEST_MS_MIN * 2 ** window.late)
      window.asked = { giver, until: this.#deps.clock.monotonic() + waitMs }
      giver.askHashes(window.range)
      under++
    }
  }

  /** The one that is asked for the least. Where all have refused, all may be asked again in the next round. */
  #giverFor(window: Window): HashGiver | undefined {
    let best: HashGiver | undefined
    let fewest = HASH_REQUESTS_PER_PEER_MAX
    let refused = 0
    for (const [giver, open] of this.#givers) {
      if (window.refusing.has(giver.party)) refused++
      else if (open < fewest) {
        best = giver
        fewest = open
      }
    }
    if (refused > 0 && refused === this.#givers.size) window.refusing.clear()
    return best
  }

  #windowAsked(giver: HashGiver, range: HashRange): Window | undefined {
    for (const window of this.#windows.values()) {
      if (window.asked?.giver !== giver || !isSame(window.range, range)) continue
      window.asked = undefined
      this.#free(giver)
      return window
    }
    return undefined
  }

  #free(giver: HashGiver): void {
    const open = this.#givers.get(giver)
    if (open !== undefined) this.#givers.set(giver, Math.max(0, open - 1))
  }

  /** A window that was asked for already stays asked for. */
  #carriedOver(window: Window): Window {
    const before = this.#windows.get(window.key)
    return before === undefined
      ? window
      : { ...window, asked: before.asked, late: before.late, refusing: before.refusing }
  }

  *#windowsOf(pieces: Bitfield): Generator<Window> {
    const { torrent } = this.#deps
    for (const [file, { root, firstPiece, pieceCount }] of torrent.files.entries()) {
      const height = Math.ceil(Math.log2(Math.max(1, pieceCount)))
      const length = Math.max(2, Math.min(HASHES_PER_REQUEST_MAX, 2 ** height))
      for (let index = 0; index < pieceCount; index += length) {
        const wanted = new Bitfield(torrent.pieceCount)
        const end = Math.min(pieceCount, index + length)
        for (let at = index; at < end; at++) if (pieces.has(firstPiece + at)) wanted.set(firstPiece + at)
        if (wanted.isEmpty) continue
        const range = { root, baseLayer: PIECE_LAYER, index, length, proofLayers: proofLayersFor(height) }
        yield { key: `${file}:${index}`, file, range, wanted, asked: undefined, late: 0, refusing: new Set() }
      }
    }
  }
}

function isSame(a: HashRange, b: HashRange): boolean {
  if (a.index !== b.index || a.length !== b.length || a.baseLayer !== b.baseLayer) return false
  return a.root.byteLength === b.root.byteLength && a.root.every((byte, at) => byte === b.root[at])
}
