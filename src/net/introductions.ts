/**
 * Peers of peers, waiting to be dialled, so that everybody in a small swarm meets. Only ids and addresses that somebody
 * claims: bounded in number, tried a few at a time, left alone where their circuit breaker says so, and forgotten with ease.
 */
import { type CancelTimer, type Clock, type Random, uniform } from '#base'
import { type Address, addressesOf } from './address.ts'
import { INTRODUCTION_DIALS_MAX, INTRODUCTION_WAIT_MS, INTRODUCTIONS_MAX } from './limits.ts'

export type IntroductionDeps = {
  readonly clock: Clock
  readonly random: Random
  /** Whether the peer is us, is here, finds no room, or could not be reached lately. */
  readonly isUnwanted: (peer: string) => boolean
  readonly connect: (peer: string, addresses: readonly Address[]) => Promise<unknown>
}

/** Somebody, and where it says or shows that it is. */
export type Introduced = { readonly id: string; readonly addresses: readonly string[] }

export class Introductions {
  readonly #deps: IntroductionDeps
  /** In order of arrival; the newest news about a peer replaces older news. */
  readonly #waiting = new Map<string, readonly Address[]>()
  /** Who is being dialled, and at which addresses. */
  readonly #dialling = new Map<string, Set<string>>()
  #timer: CancelTimer | undefined

  constructor(deps: IntroductionDeps) {
    this.#deps = deps
  }

  /**
   * @param options.isNews the peer has just come to somebody we both know. It has heard of us too and is about to dial,
   * so we wait a little: two dials at once would make two connections.
   */
  add(peers: readonly Introduced[], options: { readonly isNews: boolean }): void {
    for (const { id, addresses: texts } of peers) {
      if (this.#deps.isUnwanted(id)) continue
      if (this.#waiting.size >= INTRODUCTIONS_MAX && !this.#waiting.has(id)) continue
      // A WebSocket is dialled where somebody here has asked for it: Node sets no bound to what one message of it may hold.
      const addresses = addressesOf(id, texts).filter(({ transport }) => transport !== 'ws')
      const dialled = this.#dialling.get(id)
      // A node that has found a relay says so while others still dial it where nobody answers.
      const isNew = addresses.some(({ text }) => dialled?.has(text) !== true)
      if (isNew) this.#waiting.set(id, addresses)
    }
    if (!options.isNews) this.#next()
    else
      this.#timer ??= this.#deps.clock.after(INTRODUCTION_WAIT_MS * (0.5 + uniform(this.#deps.random)), () => {
        this.#timer = undefined
        this.#next()
      })
  }

  get hasWaiting(): boolean {
    return this.#waiting.size > 0
  }

  /** Forgets everybody: nothing more is dialled. */
  clear(): void {
    this.#timer?.()
    this.#waiting.clear()
  }

  #next(): void {
    for (const [id, addresses] of this.#waiting) {
      if (this.#dialling.size >= INTRODUCTION_DIALS_MAX) return
      this.#waiting.delete(id)
      if (!this.#deps.isUnwanted(id)) void this.#dial(id, addresses)
    }
  }

  async #dial(id: string, addresses: readonly Address[]): Promise<void> {
    const dialled = this.#dialling.get(id) ?? new Set<string>()
    this.#dialling.set(id, dialled)
    for (const { text } of addresses) dialled.add(text)
    try {
      await this.#deps.connect(id, addresses)
    } catch {
      // An introduction is a hint. That it led nowhere is what the breaker remembers.
    } finally {
      if (this.#dialling.get(id) === dialled) this.#dialling.delete(id)
    }
    this.#next()
  }
}
