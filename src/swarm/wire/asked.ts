/**
 * What this side has asked the other for. Whatever comes without being in here was not asked for; since its size follows from
 * the request, memory for it can be taken when its header has come.
 */
import { ASKED_MAX, WITHDRAWN_REQUESTS_MAX } from './limits.ts'
import { HASH_BYTES, HASH_RANGE_BYTES, hashKey, uncleCount } from './protocol.ts'
import type { BlockSpan, HashRange } from './types.ts'

export class Asked {
  readonly #isFast: boolean
  /** How often each span was asked for and not answered. */
  readonly #open = new Map<string, number>()
  /** Those that the other side may answer and need not: without BEP 6 nobody says that a request is dropped. */
  readonly #withdrawn = new Map<string, number>()
  #openCount = 0
  /** The same may be asked for again while it is on its way: then it comes as often. */
  readonly #hashes = new Map<string, number>()
  readonly #hashesBytes = new Map<string, number>()
  readonly #chunks = new Map<string, number>()
  #votes = 0

  /** @param isFast whether the other side says what it does not answer (BEP 6) */
  constructor(isFast: boolean) {
    this.#isFast = isFast
  }

  get openCount(): number {
    return this.#openCount
  }

  request(span: BlockSpan): void {
    add(this.#open, spanKey(span))
    this.#openCount++
  }

  /** @returns whether there is anything to cancel */
  cancel(span: BlockSpan): boolean {
    const key = spanKey(span)
    if (!this.#open.has(key)) return false
    if (!this.#isFast) {
      take(this.#open, key)
      this.#openCount--
      this.#withdraw(key)
    }
    return true
  }

  /** The other side chokes. @returns nothing more is open then, except with BEP 6, where each request is rejected by itself */
  choked(): void {
    if (this.#isFast) return
    for (const [key, count] of this.#open) for (let left = count; left > 0; left--) this.#withdraw(key)
    this.#open.clear()
    this.#openCount = 0
  }

  /** A block has come, or will not. @returns whether it had been asked for */
  answered(span: BlockSpan): boolean {
    const key = spanKey(span)
    if (take(this.#open, key)) {
      this.#openCount--
      return true
    }
    return take(this.#withdrawn, key)
  }

  askHashes(range: HashRange): void {
    const key = hashKey(range)
    add(this.#hashes, key)
    this.#hashesBytes.set(key, HASH_RANGE_BYTES + HASH_BYTES * (range.length + uncleCount(range)))
    dropOldest(this.#hashes, ASKED_MAX)
    dropOldest(this.#hashesBytes, ASKED_MAX)
  }

  /** @returns whether they had been asked for */
  answeredHashes(range: HashRange): boolean {
    const key = hashKey(range)
    const wasAsked = take(this.#hashes, key)
    if (!this.#hashes.has(key)) this.#hashesBytes.delete(key)
    return wasAsked
  }

  /** Bytes of the body of the largest answer that is still to come. */
  get hashesBytesMax(): number {
    return Math.max(0, ...this.#hashesBytes.values())
  }

  askChunk(document: string, chunk: number): void {
    add(this.#chunks, `${document}:${chunk}`)
    dropOldest(this.#chunks, ASKED_MAX)
  }

  /** @returns whether it had been asked for */
  answeredChunk(document: string, chunk: number): boolean {
    return take(this.#chunks, `${document}:${chunk}`)
  }

  askVotes(): void {
    this.#votes = Math.min(this.#votes + 1, ASKED_MAX)
  }

  /** @returns whether they had been asked for */
  answeredVotes(): boolean {
    if (this.#votes === 0) return false
    this.#votes--
    return true
  }

  #withdraw(key: string): void {
    add(this.#withdrawn, key)
    dropOldest(this.#withdrawn, WITHDRAWN_REQUESTS_MAX)
  }
}

function spanKey({ piece, offset, length }: BlockSpan): string {
  return `${piece}:${offset}:${length}`
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

function take(counts: Map<string, number>, key: string): boolean {
  const count = counts.get(key)
  if (count === undefined) return false
  if (count === 1) counts.delete(key)
  else counts.set(key, count - 1)
  return true
}

function dropOldest<T>(map: Map<string, T>, sizeMax: number): void {
  for (const key of map.keys()) {
    if (map.size <= sizeMax) return
    map.delete(key)
  }
}
