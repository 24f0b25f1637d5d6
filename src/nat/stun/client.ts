/**
 * Asks STUN servers where this node's packets are seen to come from (RFC 8489, binding; RFC 5780, CHANGE-REQUEST).
 *
 * A request goes out again at 0.5, 1.5, 3.5 s and so on, as the RFC says, within a bound of ours. An answer counts only with
 * the transaction id of a request that is under way and from the address that must send it; everything else is dropped
 * without a trace, since anybody can send anything to a UDP port.
 */
import type { CancelTimer, Clock, Random } from '#base'
import { abortError, toHex } from '#base'
import { closed } from '../errors.ts'
import { STUN_LAST_WAIT_FACTOR, STUN_PENDING_MAX, STUN_RTO_MS, STUN_SENDS_MAX, STUN_TIMEOUT_MS } from '../limits.ts'
import type { Endpoint, UdpSocket } from '../types.ts'
import { decodeStun, encodeStun, STUN_BINDING, STUN_TRANSACTION_BYTES, type StunMessage } from './codec.ts'

export type StunClientDeps = { readonly socket: UdpSocket; readonly clock: Clock; readonly random: Random }

export type BindingOptions = {
  /** How long to wait in milliseconds. @default STUN_TIMEOUT_MS */
  readonly timeoutMs?: number
  /** Asks for an answer from another address or port of the server (RFC 5780, 7.2), which is `from`. */
  readonly change?: { readonly address: boolean; readonly port: boolean; readonly from: Endpoint }
  readonly signal?: AbortSignal
}

export type BindingAnswer =
  | {
      readonly kind: 'seen'
      /** Where the server sees this socket. */
      readonly mapped: Endpoint
      /** The server's other address, with another port, where it has them. */
      readonly otherAddress?: Endpoint
      /** From the last sending to the answer, in milliseconds. */
      readonly roundTripMs: number
    }
  /** The server answered, with an error (RFC 8489, 14.8), or without an address: then the code is 0. */
  | { readonly kind: 'refused'; readonly errorCode: number }
  /** No answer in time. */
  | { readonly kind: 'silent' }

type Pending = {
  readonly from: Endpoint
  sentAt: number
  cancelTimer: CancelTimer
  readonly settle: (answer: BindingAnswer) => void
  readonly fail: (error: Error) => void
}

export class StunClient {
  readonly #deps: StunClientDeps
  readonly #pending = new Map<string, Pending>()
  readonly #unlisten: () => void
  #isClosed = false

  /** The socket stays the caller's, who closes it. */
  constructor(deps: StunClientDeps) {
    this.#deps = deps
    this.#unlisten = deps.socket.onMessage((bytes, from) => this.#receive(bytes, from))
  }

  /** Requests under way. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * Asks one server.
   * @throws NatError NAT_CLOSED; the signal's reason where it aborts
   */
  binding(server: Endpoint, options: BindingOptions = {}): Promise<BindingAnswer> {
    if (this.#isClosed) return Promise.reject(closed('the STUN client'))
    const { signal, change } = options
    if (signal?.aborted === true) return Promise.reject(abortError(signal))
    // Nobody asks that many at once on purpose: an answer that will not come is the honest one.
    if (this.#pending.size >= STUN_PENDING_MAX) return Promise.resolve({ kind: 'silent' })
    const transactionId = this.#deps.random.bytes(STUN_TRANSACTION_BYTES)
    const key = toHex(transactionId)
    const request = encodeStun({
      class: 'request',
      transactionId,
      attributes: change === undefined ? {} : { changeRequest: { address: change.address, port: change.port } },
      hasFingerprint: true,
    })
    return new Promise((resolve, reject) => {
      const onAbort = (): void => pending.fail(signal === undefined ? closed('the STUN client') : abortError(signal))
      const end = (): void => {
        pending.cancelTimer()
        cancelDeadline()
        this.#pending.delete(key)
        signal?.removeEventListener('abort', onAbort)
      }
      const pending: Pending = {
        from: change?.from ?? server,
        sentAt: 0,
        cancelTimer: () => undefined,
        settle: answer => {
          end()
          resolve(answer)
        },
        fail: error => {
          end()
          reject(error)
        },
      }
      const cancelDeadline = this.#deps.clock.after(options.timeoutMs ?? STUN_TIMEOUT_MS, () => {
        pending.settle({ kind: 'silent' })
      })
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#pending.set(key, pending)
      this.#send(pending, { request, server, sends: 0 })
    })
  }

  /** Requests that are under way reject with NAT_CLOSED. Idempotent. */
  close(): void {
    this.#isClosed = true
    this.#unlisten()
    for (const pending of this.#pending.values()) pending.fail(closed('the STUN client'))
  }

  #send(
    pending: Pending,
    turn: { readonly request: Uint8Array; readonly server: Endpoint; readonly sends: number },
  ): void {
    if (turn.sends === STUN_SENDS_MAX) {
      pending.settle({ kind: 'silent' })
      return
    }
    pending.sentAt = this.#deps.clock.monotonic()
    const isLast = turn.sends === STUN_SENDS_MAX - 1
    const waitMs = STUN_RTO_MS * (isLast ? STUN_LAST_WAIT_FACTOR : 2 ** turn.sends)
    pending.cancelTimer = this.#deps.clock.after(waitMs, () => this.#send(pending, { ...turn, sends: turn.sends + 1 }))
    this.#deps.socket.send(turn.request, turn.server)
  }

  #receive(bytes: Uint8Array, from: Endpoint): void {
    const message = decodeStun(bytes)
    if ('code' in message || message.method !== STUN_BINDING) return
    if (message.class !== 'success' && message.class !== 'error') return
    const pending = this.#pending.get(toHex(message.transactionId))
    if (pending === undefined || pending.from.address !== from.address || pending.from.port !== from.port) return
    pending.settle(this.#answerOf(message, pending))
  }

  #answerOf(message: StunMessage, pending: Pending): BindingAnswer {
    const { mapped, otherAddress, error } = message.attributes
    if (message.class === 'error' || mapped === undefined || message.notUnderstood.length > 0) {
      return { kind: 'refused', errorCode: error?.code ?? 0 }
    }
    const roundTripMs = this.#deps.clock.monotonic() - pending.sentAt
    return { kind: 'seen', mapped, roundTripMs, ...(otherAddress === undefined ? {} : { otherAddress }) }
  }
}
