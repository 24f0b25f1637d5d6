/**
 * Asks peers: sends requests, matches answers to them, checks what comes. Requests outlive a lost connection for a while
 * and are sent again when it is back; the peer attaches them to the first run, so none runs twice.
 */
import type { z } from 'zod'
import { abortError, type CancelTimer, type Clock, KoinonError, type Random, toHex } from '#base'
import { ERROR_SENTENCE_CHARS_MAX, type ErrorMessage, type EventMessage } from '#wire'
import { giveBack } from './answer-stream.ts'
import type { Attachment, Command } from './command.ts'
import { ProtocolError, type ProtocolFault } from './errors.ts'
import { EVENTS_UNREAD_MAX, RECONNECT_MS_MAX, REQUESTS_PENDING_MAX } from './limits.ts'
import type { Penalties } from './penalties.ts'

/** A request that goes out; `attachment` becomes a header and, where it is large, chunks. */
export type OutgoingRequest = {
  readonly kind: 'request'
  readonly type: number
  readonly name: string
  readonly id: Uint8Array
  readonly body: unknown
  readonly deadlineMs: number
  /** Set where the request is sent again. */
  readonly eventsFrom?: number
  readonly attachment?: Attachment
}
export type OutgoingCancel = { readonly kind: 'cancel'; readonly id: Uint8Array }

/** What comes back, when the transport has decoded it. */
export type IncomingAnswer =
  | ({ readonly kind: 'event' } & EventMessage)
  | { readonly kind: 'response'; readonly id: Uint8Array; readonly body: unknown; readonly attachment?: Attachment }
  | ({ readonly kind: 'error' } & ErrorMessage)

/**
 * The way to one peer. `send` throws or rejects where the connection is lost: `reconnected` brings another. A KoinonError
 * says that the message itself cannot be sent, and ends the request.
 */
export type RequestConnection = {
  readonly peer: string
  send(message: OutgoingRequest | OutgoingCancel): void | Promise<void>
}

export type RequestOptions<Event = unknown> = {
  readonly signal?: AbortSignal
  /** @default the command's own */
  readonly deadlineMs?: number
  /** Called in order. A promise that it returns is waited for before the next event. */
  readonly onEvent?: (event: Event) => void | Promise<void>
  /** Stays the caller's, who releases it when the request has ended. */
  readonly attachment?: Attachment
}

/** The receiver of `attachment` releases it. */
export type Answer<Body> = { readonly body: Body; readonly attachment?: Attachment }

export type RequesterDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly penalties: Penalties
}

type Pending = {
  readonly id: Uint8Array
  readonly command: Command
  readonly body: unknown
  readonly options: RequestOptions
  /** By the monotonic clock. */
  readonly endsAt: number
  connection: RequestConnection
  isLost: boolean
  /** The response is here, and events before it are still being handled. */
  isAnswered: boolean
  eventsSeen: number
  eventsUnread: number
  /** Settles when the events so far have been handled; never rejects. */
  handled: Promise<void>
  cancelReconnect: CancelTimer
  readonly resolve: (answer: Answer<unknown>) => void
  readonly reject: (error: Error) => void
}

export class Requester {
  readonly #deps: RequesterDeps
  readonly #pendingMax: number
  /** By peer and id: nobody can answer in another's name. */
  readonly #pending = new Map<string, Pending>()
  #unknownAnswers = 0

  constructor(deps: RequesterDeps, options: { readonly pendingMax?: number } = {}) {
    this.#deps = deps
    this.#pendingMax = options.pendingMax ?? REQUESTS_PENDING_MAX
  }

  /** Requests that wait for answers. */
  get pending(): number {
    return this.#pending.size
  }

  /** Answers that belonged to no request of ours: late ones, mostly. */
  get unknownAnswers(): number {
    return this.#unknownAnswers
  }

  /**
   * Asks, and settles with the answer.
   *
   * @throws ProtocolError `PROTOCOL_REMOTE` with the peer's own code; `PROTOCOL_DEADLINE`, `PROTOCOL_CONNECTION_LOST`,
   *   `PROTOCOL_BAD_RESPONSE`; `PROTOCOL_BAD_REQUEST` and `PROTOCOL_REQUESTS_FULL` before anything is sent
   * @throws KoinonError of the connection where the request cannot be sent: too long, for one
   * @throws the signal's reason; the peer is told to stop
   */
  async request<Request extends z.ZodType, Response extends z.ZodType, Event extends z.ZodType>(
    connection: RequestConnection,
    asked: { readonly command: Command<Request, Response, Event>; readonly body: z.input<Request> },
    options: RequestOptions<z.infer<Event>> = {},
  ): Promise<Answer<z.infer<Response>>> {
    const { command, body } = asked
    const { signal, deadlineMs = command.deadlineMs } = options
    if (signal?.aborted === true) throw abortError(signal)
    const problem = command.request.safeParse(body).error?.issues[0]
    if (problem !== undefined) {
      const path = problem.path.join('.')
      throw new ProtocolError({ code: 'PROTOCOL_BAD_REQUEST', path }, `${command.name}: ${path}: ${problem.message}`)
    }
    if (this.#pending.size >= this.#pendingMax) {
      const fault = { code: 'PROTOCOL_REQUESTS_FULL', pending: this.#pending.size } as const
      throw new ProtocolError(fault, `${fault.pending} requests wait for answers already`)
    }
    const id = uuidV4(this.#deps.random)
    const key = keyOf(connection.peer, id)
    let cancelDeadline: CancelTimer | undefined
    let onAbort: (() => void) | undefined
    try {
      const answer = await new Promise<Answer<unknown>>((resolve, reject) => {
        const pending: Pending = {
          id,
          command,
          body,
          options: options as RequestOptions,
          endsAt: this.#deps.clock.monotonic() + deadlineMs,
          connection,
          isLost: false,
          isAnswered: false,
          eventsSeen: 0,
          eventsUnread: 0,
          handled: Promise.resolve(),
          cancelReconnect: () => undefined,
          resolve,
          reject,
        }
        this.#pending.set(key, pending)
        cancelDeadline = this.#deps.clock.after(deadlineMs, () => {
          const fault = { code: 'PROTOCOL_DEADLINE', deadlineMs } as const
          this.#giveUp(pending, new ProtocolError(fault, `${command.name} was not answered within ${deadlineMs} ms`))
        })
        onAbort = () => signal !== undefined && this.#giveUp(pending, abortError(signal))
        signal?.addEventListener('abort', onAbort, { once: true })
        this.#send(pending)
      })
      return answer as Answer<z.infer<Response>>
    } finally {
      cancelDeadline?.()
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
      this.#pending.get(key)?.cancelReconnect()
      this.#pending.delete(key)
    }
  }

  /**
   * Takes what a peer answered. A promise means that the request's caller is slow: whoever can should read nothing more
   * from this peer until it resolves. It never rejects. A request whose events pile up nevertheless is given up.
   */
  receive(peer: string, answer: IncomingAnswer): void | Promise<void> {
    const pending = this.#pending.get(keyOf(peer, answer.id))
    if (pending === undefined || pending.isAnswered) {
      this.#unknownAnswers++
      if (answer.kind === 'response' && answer.attachment !== undefined) giveBack(answer.attachment)
      return undefined
    }
    if (answer.kind === 'event') return this.#event(pending, answer)
    if (answer.kind === 'error') this.#settle(pending, () => pending.reject(remoteError(peer, answer)))
    else this.#response(pending, answer)
    return undefined
  }

  /** The connection to the peer is lost. Its requests wait for another, `RECONNECT_MS_MAX` at most. */
  lost(peer: string): void {
    for (const pending of this.#of(peer)) this.#lose(pending)
  }

  /** There is a connection again, in the same session: sends the open requests again. */
  reconnected(connection: RequestConnection): void {
    for (const pending of this.#of(connection.peer)) {
      pending.cancelReconnect()
      pending.connection = connection
      pending.isLost = false
      this.#send(pending, { isAgain: true })
    }
  }

  /** The session is over: nobody at the other side knows of the requests any more. */
  gone(peer: string): void {
    for (const pending of this.#of(peer)) this.#settle(pending, () => pending.reject(connectionLost(peer)))
  }

  #of(peer: string): Pending[] {
    return [...this.#pending.values()].filter(({ connection, isAnswered }) => connection.peer === peer && !isAnswered)
  }

  #send(pending: Pending, { isAgain = false } = {}): void {
    const { id, command, body, options, eventsSeen, connection } = pending
    const deadlineMs = Math.max(1, Math.floor(pending.endsAt - this.#deps.clock.monotonic()))
    this.#transmit(connection, {
      message: {
        kind: 'request',
        type: command.type,
        name: command.name,
        id,
        body,
        deadlineMs,
        ...(isAgain ? { eventsFrom: eventsSeen } : {}),
        ...(options.attachment === undefined ? {} : { attachment: options.attachment }),
      },
      onUnsent: error => {
        if (error instanceof KoinonError) this.#settle(pending, () => pending.reject(error))
        else if (pending.connection === connection) this.#lose(pending)
      },
    })
  }

  #transmit(
    connection: RequestConnection,
    {
      message,
      onUnsent,
    }: { readonly message: OutgoingRequest | OutgoingCancel; readonly onUnsent: (error: unknown) => void },
  ): void {
    try {
      connection.send(message)?.catch(onUnsent)
    } catch (error) {
      onUnsent(error)
    }
  }

  #lose(pending: Pending): void {
    if (pending.isLost || pending.isAnswered || !this.#isOpen(pending)) return
    pending.isLost = true
    const { peer } = pending.connection
    pending.cancelReconnect = this.#deps.clock.after(RECONNECT_MS_MAX, () => {
      this.#settle(pending, () => pending.reject(connectionLost(peer)))
    })
  }

  #event(pending: Pending, { index, body }: EventMessage): void | Promise<void> {
    // Sent again after a reconnect, though it had come.
    if (index < pending.eventsSeen) return undefined
    const { command, options } = pending
    const parsed = command.event?.safeParse(body)
    if (index > pending.eventsSeen || parsed?.success !== true) {
      this.#badAnswer(pending, 'an event that breaks its schema or its order')
      return undefined
    }
    pending.eventsSeen++
    const { onEvent } = options
    if (onEvent === undefined) return undefined
    if (pending.eventsUnread >= EVENTS_UNREAD_MAX) {
      const fault = { code: 'PROTOCOL_EVENTS_UNREAD', unread: pending.eventsUnread } as const
      this.#giveUp(pending, new ProtocolError(fault, `${command.name}: its events come faster than they are taken`))
      return undefined
    }
    pending.eventsUnread++
    pending.handled = pending.handled.then(async () => {
      try {
        if (this.#isOpen(pending)) await onEvent(parsed.data)
      } catch (error) {
        this.#giveUp(pending, error instanceof Error ? error : new Error(String(error)))
      } finally {
        pending.eventsUnread--
      }
    })
    return pending.eventsUnread >= EVENTS_UNREAD_MAX / 4 ? pending.handled : undefined
  }

  #response(pending: Pending, { body, attachment }: Answer<unknown>): void {
    const parsed = pending.command.response.safeParse(body)
    if (!parsed.success) {
      if (attachment !== undefined) giveBack(attachment)
      this.#badAnswer(pending, 'a response that breaks its schema')
      return
    }
    const answer = { body: parsed.data, ...(attachment === undefined ? {} : { attachment }) }
    pending.isAnswered = true
    const settle = (): void => {
      if (this.#settle(pending, () => pending.resolve(answer))) return
      // The caller gave up while it was still busy with the events before.
      if (attachment !== undefined) giveBack(attachment)
    }
    if (pending.eventsUnread === 0) settle()
    else pending.handled = pending.handled.then(settle)
  }

  #badAnswer(pending: Pending, what: string): void {
    const { peer } = pending.connection
    this.#deps.penalties.add(peer, 'bad-response')
    const fault = { code: 'PROTOCOL_BAD_RESPONSE', peer } as const
    this.#giveUp(pending, new ProtocolError(fault, `${pending.command.name}: the peer sent ${what}`))
  }

  /** Ends a request from this side, and tells the peer. */
  #giveUp(pending: Pending, error: Error): void {
    if (!this.#isOpen(pending)) return
    this.#settle(pending, () => pending.reject(error))
    if (pending.isLost || pending.isAnswered) return
    this.#transmit(pending.connection, { message: { kind: 'cancel', id: pending.id }, onUnsent: () => undefined })
  }

  /** False: the request has been settled before. */
  #settle(pending: Pending, settle: () => void): boolean {
    if (!this.#pending.delete(keyOf(pending.connection.peer, pending.id))) return false
    pending.cancelReconnect()
    settle()
    return true
  }

  #isOpen(pending: Pending): boolean {
    return this.#pending.get(keyOf(pending.connection.peer, pending.id)) === pending
  }
}

function remoteError(peer: string, { code, message, retryAfterMs }: ErrorMessage): ProtocolError {
  const fault: ProtocolFault = {
    code: 'PROTOCOL_REMOTE',
    peer,
    remoteCode: code,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  }
  // A stranger's sentence must not steer a terminal or a log.
  const sentence = message.slice(0, ERROR_SENTENCE_CHARS_MAX).replaceAll(/\p{C}/gu, '\ufffd')
  return new ProtocolError(fault, `the peer answered ${code}: ${sentence}`)
}

function connectionLost(peer: string): ProtocolError {
  return new ProtocolError({ code: 'PROTOCOL_CONNECTION_LOST', peer }, 'the connection to the peer was lost')
}

/** RFC 9562, version 4: 122 unpredictable bits. */
function uuidV4(random: Random): Uint8Array {
  const bytes = random.bytes(16)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  return bytes
}

function keyOf(peer: string, id: Uint8Array): string {
  return `${peer} ${toHex(id)}`
}
