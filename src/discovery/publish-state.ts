/**
 * When a node's metadata is published, and under which number. No I/O: the publisher asks what is due and says what came
 * of it.
 *
 *   held ──update──► due ──begin──► publishing ──succeeded──► published ──time──► due
 *                     ▲                  │ failed, superseded      │ update
 *                     └──────────────────┴────────────────────────┘
 *
 * Nodes behind NAT are held until a relay is there: nobody could use what they say. The same metadata is published every
 * half hour under the same number; a change takes the next number, at once.
 */
import { assert } from '#base'
import { PUBLISH_GAP_MS, PUBLISH_RETRY_MS_MAX, PUBLISH_RETRY_MS_MIN, REPUBLISH_MS } from './limits.ts'
import { encodePeerMetadata, type PeerMetadata, type VersionedMetadata } from './peer-metadata.ts'

/** What is true of this node now; when it became true is added. */
export type OwnFacts = Omit<PeerMetadata, 'version' | 'timestamp'>

export type PublishState =
  /** Nothing can be said yet. */
  | { readonly kind: 'held' }
  | { readonly kind: 'due'; readonly at: number }
  /** `hasChanged`: the facts are others by now. */
  | { readonly kind: 'publishing'; readonly hasChanged: boolean }
  /** Until it is due again. */
  | { readonly kind: 'published'; readonly until: number }

export type PublishOptions = {
  /** @default 30 min */
  readonly republishMs?: number
}

/** All times are of one monotonic clock, but for `nowUnixMs`. */
export class PublishPlan {
  readonly #republishMs: number
  #state: PublishState = { kind: 'held' }
  #facts: OwnFacts | undefined
  /** What was published last, or is on its way. */
  #current: VersionedMetadata | undefined
  /** The highest number that is taken. */
  #sequence: number
  #begunAt = Number.NEGATIVE_INFINITY
  #retryMs = PUBLISH_RETRY_MS_MIN
  #hasPublished = false

  /** @param sequence the last number that this node remembers; undefined: none */
  constructor(sequence: number | undefined, options: PublishOptions = {}) {
    this.#sequence = sequence ?? -1
    this.#republishMs = options.republishMs ?? REPUBLISH_MS
  }

  get state(): PublishState {
    return this.#state
  }

  /** The number of what was published last; undefined: nothing was. */
  get sequence(): number | undefined {
    return this.#current?.sequence
  }

  /** When `begin` is to be called; undefined: not before something else happens. */
  get dueAt(): number | undefined {
    if (this.#state.kind === 'due') return this.#state.at
    return this.#state.kind === 'published' ? this.#state.until : undefined
  }

  /** held -> due, published -> due, publishing -> publishing. Facts that are as before change nothing. */
  update(facts: OwnFacts, now: number): void {
    const isSame = this.#facts !== undefined && isEqual(this.#facts, facts)
    this.#facts = facts
    const isHeld = facts.nodeType === 'private' && facts.relay === undefined && !this.#hasPublished
    if (this.#state.kind === 'publishing') {
      this.#state = { kind: 'publishing', hasChanged: this.#state.hasChanged || !isSame }
    } else if (isHeld) {
      this.#state = { kind: 'held' }
    } else if (!isSame || this.#state.kind === 'held') {
      this.#retryMs = PUBLISH_RETRY_MS_MIN
      this.#state = { kind: 'due', at: Math.max(now, this.#begunAt + PUBLISH_GAP_MS) }
    }
  }

  /** What the network holds of an earlier life: its number counts on, and is kept where the metadata is the same. */
  learn(found: VersionedMetadata | undefined): void {
    if (found === undefined || found.sequence < this.#sequence) return
    this.#sequence = found.sequence
    this.#current ??= found
  }

  /** due -> publishing, published -> publishing. */
  begin(now: number, nowUnixMs: number): VersionedMetadata {
    const facts = this.#facts
    assert(facts !== undefined && this.dueAt !== undefined, 'nothing is due')
    this.#begunAt = now
    this.#state = { kind: 'publishing', hasChanged: false }
    // A number is given once: where a higher one was taken, what has the lower one is not good any more.
    if (this.#current?.sequence !== this.#sequence || !isEqual(this.#current.metadata, facts)) {
      const metadata: PeerMetadata = { ...facts, version: 1, timestamp: Math.floor(nowUnixMs / 1000) }
      this.#current = { metadata, sequence: ++this.#sequence }
    }
    return this.#current
  }

  /** publishing -> published; -> due where the facts have changed meanwhile. */
  succeeded(now: number): void {
    const hasChanged = this.#end()
    this.#hasPublished = true
    this.#retryMs = PUBLISH_RETRY_MS_MIN
    this.#state = hasChanged
      ? { kind: 'due', at: Math.max(now, this.#begunAt + PUBLISH_GAP_MS) }
      : { kind: 'published', until: this.#begunAt + this.#republishMs }
  }

  /** publishing -> due: the network holds this number, or a higher one, with other contents. */
  superseded(sequence: number, now: number): void {
    this.#end()
    this.#current = undefined
    this.#sequence = Math.max(this.#sequence, sequence)
    this.#state = { kind: 'due', at: Math.max(now, this.#begunAt + PUBLISH_GAP_MS) }
  }

  /** publishing -> due, after a wait that doubles. */
  failed(now: number): void {
    const hasChanged = this.#end()
    this.#state = { kind: 'due', at: now + (hasChanged ? PUBLISH_GAP_MS : this.#retryMs) }
    this.#retryMs = Math.min(2 * this.#retryMs, PUBLISH_RETRY_MS_MAX)
  }

  #end(): boolean {
    assert(this.#state.kind === 'publishing', 'nothing is being published')
    return this.#state.hasChanged
  }
}

/** Compares what would be published, but for its time. */
function isEqual(a: OwnFacts, b: OwnFacts): boolean {
  const [left, right] = [a, b].map(facts => encodePeerMetadata({ ...facts, version: 1, timestamp: 0 }).bytes)
  return left?.byteLength === right?.byteLength && left?.every((byte, i) => byte === right?.[i]) === true
}
