/**
 * Queries of ours that wait for their answers. An answer is taken from the address that was asked only, under a number
 * that cannot be guessed, once. Bounded in number and in time.
 */
import { type CancelTimer, type Clock, type Random, toHex } from '#base'
import { keyOf } from './address.ts'
import type { KrpcResponse } from './krpc.ts'
import { QUERIES_IN_FLIGHT_MAX, QUERY_MS_MAX } from './limits.ts'
import type { Endpoint } from './types.ts'

const TRANSACTION_BYTES = 4

/** How a query ended. `unanswered`: nothing in time, nothing that could be understood, or somebody else. */
export type Answer =
  | { readonly kind: 'response'; readonly response: KrpcResponse }
  | { readonly kind: 'error'; readonly code: number }
  | { readonly kind: 'unanswered' }
  /** It was never sent: too many wait, or we have stopped. */
  | { readonly kind: 'unsent' }

type Waiting = { readonly endpoint: string; readonly settle: (answer: Answer) => void; readonly cancel: CancelTimer }

export class Transactions {
  readonly #clock: Clock
  readonly #random: Random
  readonly #waiting = new Map<string, Waiting>()
  /** How many wait for each endpoint. */
  readonly #asked = new Map<string, number>()
  #isClosed = false

  constructor(deps: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = deps.clock
    this.#random = deps.random
  }

  get size(): number {
    return this.#waiting.size
  }

  /** Whether we wait for somebody there: then a datagram from there may be worth a look. */
  isAsked(endpoint: Endpoint): boolean {
    return this.#asked.has(keyOf(endpoint))
  }

  /** @param send is given the transaction id, once. The promise never rejects. */
  begin(to: Endpoint, send: (transaction: Uint8Array) => void): Promise<Answer> {
    if (this.#isClosed || this.#waiting.size >= QUERIES_IN_FLIGHT_MAX) return Promise.resolve({ kind: 'unsent' })
    let transaction = this.#random.bytes(TRANSACTION_BYTES)
    while (this.#waiting.has(toHex(transaction))) transaction = this.#random.bytes(TRANSACTION_BYTES)
    const name = toHex(transaction)
    return new Promise(settle => {
      const cancel = this.#clock.after(QUERY_MS_MAX, () => this.#settle(name, { kind: 'unanswered' }))
      const endpoint = keyOf(to)
      this.#waiting.set(name, { endpoint, settle, cancel })
      this.#asked.set(endpoint, (this.#asked.get(endpoint) ?? 0) + 1)
      send(transaction)
    })
  }

  /** False where nobody at that address was asked under that number. */
  end(from: Endpoint, transaction: Uint8Array, answer: Answer): boolean {
    const name = toHex(transaction)
    if (this.#waiting.get(name)?.endpoint !== keyOf(from)) return false
    this.#settle(name, answer)
    return true
  }

  /** Ends them all. */
  close(): void {
    this.#isClosed = true
    for (const name of this.#waiting.keys()) this.#settle(name, { kind: 'unanswered' })
  }

  #settle(name: string, answer: Answer): void {
    const waiting = this.#waiting.get(name)
    if (waiting === undefined) return
    this.#waiting.delete(name)
    const others = (this.#asked.get(waiting.endpoint) ?? 1) - 1
    if (others === 0) this.#asked.delete(waiting.endpoint)
    else this.#asked.set(waiting.endpoint, others)
    waiting.cancel()
    waiting.settle(answer)
  }
}
