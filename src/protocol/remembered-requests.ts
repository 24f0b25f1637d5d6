/**
 * Requests that have ended: their ids, so that none runs twice, and for a while their answers, for callers that lost the
 * connection before they had them. Each peer has a share, so none can push out what is kept for the others.
 */
import type { CancelTimer, Clock } from '#base'
import type { AnswerStream } from './answer-stream.ts'
import {
  ANSWER_BYTES_KEPT_MAX,
  ANSWER_KEPT_MS_MAX,
  ANSWERS_KEPT_MAX,
  ANSWERS_KEPT_PER_PEER_MAX,
  REQUESTS_REMEMBERED_MAX,
  REQUESTS_REMEMBERED_PER_PEER_MAX,
} from './limits.ts'

/** One peer's share of the bytes. */
const PEER_BYTES_MAX = ANSWER_BYTES_KEPT_MAX / 8

type Entry = {
  /** Frame type of the command. */
  readonly type: number
  answer: AnswerStream | undefined
  readonly sizeBytes: number
  readonly cancelTimer: CancelTimer
}

/** By id (hexadecimal), the oldest first. */
type Share = { readonly entries: Map<string, Entry>; answers: number; bytes: number }

export class RememberedRequests {
  readonly #clock: Clock
  readonly #shares = new Map<string, Share>()
  #count = 0
  #answers = 0
  #bytes = 0

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
  }

  get count(): number {
    return this.#count
  }

  get answers(): number {
    return this.#answers
  }

  find(peer: string, id: string): { readonly type: number; readonly answer: AnswerStream | undefined } | undefined {
    return this.#shares.get(peer)?.entries.get(id)
  }

  /** Remembers a request that is not remembered yet. */
  add(peer: string, id: string, ended: { readonly type: number; readonly answer: AnswerStream }): void {
    const share = this.#shares.get(peer) ?? { entries: new Map<string, Entry>(), answers: 0, bytes: 0 }
    this.#shares.set(peer, share)
    const { sizeBytes } = ended.answer
    const cancelTimer = this.#clock.after(ANSWER_KEPT_MS_MAX, () => this.dropAnswer(peer, id))
    share.entries.set(id, { ...ended, sizeBytes, cancelTimer })
    share.answers++
    share.bytes += sizeBytes
    this.#count++
    this.#answers++
    this.#bytes += sizeBytes
    this.#bound(peer, share)
  }

  /** Keeps the id alone. */
  dropAnswer(peer: string, id: string): void {
    const share = this.#shares.get(peer)
    const entry = share?.entries.get(id)
    if (share === undefined || entry?.answer === undefined) return
    entry.cancelTimer()
    entry.answer.dispose()
    entry.answer = undefined
    share.answers--
    share.bytes -= entry.sizeBytes
    this.#answers--
    this.#bytes -= entry.sizeBytes
  }

  forgetPeer(peer: string): void {
    for (const id of this.#shares.get(peer)?.entries.keys() ?? []) this.#forget(peer, id)
  }

  #bound(peer: string, share: Share): void {
    while (share.answers > ANSWERS_KEPT_PER_PEER_MAX || share.bytes > PEER_BYTES_MAX) this.#dropOldestAnswer(peer)
    while (share.entries.size > REQUESTS_REMEMBERED_PER_PEER_MAX) this.#forgetOldest(peer)
    while (this.#answers > ANSWERS_KEPT_MAX || this.#bytes > ANSWER_BYTES_KEPT_MAX) {
      this.#dropOldestAnswer(this.#largest(other => other.answers))
    }
    while (this.#count > REQUESTS_REMEMBERED_MAX) this.#forgetOldest(this.#largest(other => other.entries.size))
  }

  /** The peer that has most: what is dropped is dropped from its share. */
  #largest(size: (share: Share) => number): string {
    let largest = ''
    let most = 0
    for (const [peer, share] of this.#shares) {
      if (size(share) <= most) continue
      largest = peer
      most = size(share)
    }
    return largest
  }

  #dropOldestAnswer(peer: string): void {
    for (const [id, { answer }] of this.#shares.get(peer)?.entries ?? []) {
      if (answer === undefined) continue
      this.dropAnswer(peer, id)
      return
    }
  }

  #forgetOldest(peer: string): void {
    const [oldest] = this.#shares.get(peer)?.entries.keys() ?? []
    if (oldest !== undefined) this.#forget(peer, oldest)
  }

  #forget(peer: string, id: string): void {
    this.dropAnswer(peer, id)
    const share = this.#shares.get(peer)
    if (share?.entries.delete(id) !== true) return
    this.#count--
    if (share.entries.size === 0) this.#shares.delete(peer)
  }
}
