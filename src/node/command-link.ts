/**
 * Commands over sessions: turns the messages of joined peers into calls of the dispatcher and answers for the requester,
 * and back. Attachments that are too large for a message are offered, and fetched when somebody reads them.
 */
import { type CancelTimer, type Clock, type Logger, messageOf, sleep, toHex } from '#base'
import type { Host, HostMessage } from '#net'
import {
  type AnswerError,
  type AnswerSink,
  type Attachment,
  type Caller,
  type CommandRegistry,
  type DigestedAttachment,
  type Dispatcher,
  isPeerToBlame,
  type OutgoingCancel,
  type OutgoingRequest,
  type Penalties,
  type RateLimits,
  type RequestConnection,
  type Requester,
  toldOf,
  type Transfers,
} from '#protocol'
import {
  type AttachmentHeader,
  cancelSchema,
  COMMAND_TYPE_MIN,
  decodeBody,
  errorSchema,
  eventSchema,
  FRAME_TYPES,
  INLINE_ATTACHMENT_BYTES_MAX,
  type Priority,
  requestSchema,
  responseSchema,
} from '#wire'
import { CALLER_GONE_MS } from './limits.ts'

export type CommandLinkDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly host: Pick<Host, 'onMessage' | 'onPeer' | 'sendMessage' | 'room'>
  readonly registry: CommandRegistry
  readonly dispatcher: Dispatcher
  readonly requester: Requester
  readonly transfers: Pick<Transfers, 'offer' | 'receive' | 'decline' | 'withdraw' | 'withdrawAll'>
  readonly limiter: Pick<RateLimits, 'chargeBytes'>
  readonly penalties: Penalties
  /** Whether the owner of this node has named the peer. */
  readonly isTrusted: (peer: string) => boolean
}

export class CommandLink {
  readonly #deps: CommandLinkDeps
  /** Peers whose connection is gone, until they are back or given up. */
  readonly #away = new Map<string, CancelTimer>()
  /** What was offered with our requests that are not answered yet, by peer and request. */
  readonly #offered = new Map<string, AttachmentHeader>()

  constructor(deps: CommandLinkDeps) {
    this.#deps = deps
    deps.host.onMessage(message => this.#receive(message))
    deps.host.onPeer(event => {
      if (event.kind === 'joined') this.#joined(event.peer.id)
      else if (event.kind === 'left') this.#left(event.peer.id)
    })
  }

  /** The way to a joined peer, as the requester wants it. */
  connectionTo(peer: string): RequestConnection {
    return { peer, send: message => this.#ask(peer, message) }
  }

  #joined(peer: string): void {
    this.#away.get(peer)?.()
    this.#away.delete(peer)
    this.#deps.requester.reconnected(this.connectionTo(peer))
  }

  #left(peer: string): void {
    const { clock, dispatcher, requester, transfers } = this.#deps
    requester.lost(peer)
    this.#away.set(
      peer,
      clock.after(CALLER_GONE_MS, () => {
        this.#away.delete(peer)
        dispatcher.callerGone(peer)
        requester.gone(peer)
        // Answers that wait to be fetched hold their bytes, and a place that others may need.
        transfers.withdrawAll(peer)
      }),
    )
  }

  #receive({ peer, type, body }: HostMessage): void {
    if (type >= COMMAND_TYPE_MIN) this.#receiveRequest(peer, type, body)
    else if (!this.#receiveAnswer(peer, type, body)) this.#deps.penalties.add(peer, 'malformed')
  }

  #receiveRequest(peer: string, type: number, bytes: Uint8Array): void {
    const { dispatcher, limiter, penalties } = this.#deps
    limiter.chargeBytes(peer, 'in', bytes.byteLength)
    const request = decodeBody(requestSchema, bytes)
    if ('code' in request) {
      penalties.add(peer, 'malformed')
      return
    }
    const { id, body, deadlineMs, eventsFrom, attachment } = request.body
    dispatcher.receive(
      {
        id,
        command: { type },
        body,
        caller: this.#callerOf(peer),
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
        ...(eventsFrom === undefined ? {} : { eventsFrom }),
        ...(attachment === undefined ? {} : { attachment: this.#announced(peer, attachment) }),
      },
      this.#sinkFor(peer, id, this.#deps.registry.byType(type)?.priority ?? 'normal'),
    )
  }

  #callerOf(peer: string): Caller {
    return { peer, right: this.#deps.isTrusted(peer) ? 'trusted' : 'member' }
  }

  /** @returns whether it was an answer or a cancellation that could be read */
  #receiveAnswer(peer: string, type: number, bytes: Uint8Array): boolean {
    const { dispatcher, requester } = this.#deps
    const log = (error: unknown): void => this.#deps.log.debug('an answer was not taken', { error: messageOf(error) })
    if (type === FRAME_TYPES.response) {
      const decoded = decodeBody(responseSchema, bytes)
      if ('code' in decoded) return false
      const { id, body, attachment } = decoded.body
      this.#withdraw(peer, id)
      const rest = attachment === undefined ? {} : { attachment: this.#announced(peer, attachment, { isAnswer: true }) }
      Promise.resolve(requester.receive(peer, { kind: 'response', id, body, ...rest })).catch(log)
    } else if (type === FRAME_TYPES.event) {
      const decoded = decodeBody(eventSchema, bytes)
      if ('code' in decoded) return false
      Promise.resolve(requester.receive(peer, { kind: 'event', ...decoded.body })).catch(log)
    } else if (type === FRAME_TYPES.error) {
      const decoded = decodeBody(errorSchema, bytes)
      if ('code' in decoded) return false
      this.#withdraw(peer, decoded.body.id)
      Promise.resolve(requester.receive(peer, { kind: 'error', ...decoded.body })).catch(log)
    } else if (type === FRAME_TYPES.cancel) {
      const decoded = decodeBody(cancelSchema, bytes)
      if ('code' in decoded) return false
      dispatcher.cancel(peer, decoded.body.id)
    } else return false
    return true
  }

  #sinkFor(peer: string, id: Uint8Array, priority: Priority): AnswerSink {
    const { host, dispatcher } = this.#deps
    const sayError = (error: AnswerError): void =>
      this.#say(peer, { type: FRAME_TYPES.error, body: { id, ...error } }, priority)
    return {
      event: async (body, index) => {
        try {
          this.#say(peer, { type: FRAME_TYPES.event, body: { id, index, body } }, priority)
        } catch (error) {
          // What cannot be sent now can never be: the caller hears why, and the handler is told to end.
          sayError(this.#toldOf(error))
          dispatcher.cancel(peer, id)
          return
        }
        await host.room(peer)
      },
      response: async (body, attachment) => {
        try {
          await this.#respond(peer, { id, body, attachment, priority })
        } catch (error) {
          sayError(this.#toldOf(error))
        }
      },
      error: sayError,
    }
  }

  /** What the caller is told where its answer cannot be sent. @throws the error where it is the connection that is lost */
  #toldOf(error: unknown): AnswerError {
    if (error instanceof ConnectionLost) throw error
    const known = toldOf(error)
    if (known !== undefined) return known
    this.#deps.log.error('an answer could not be sent', { error: messageOf(error) })
    return { code: 'PROTOCOL_INTERNAL', message: 'a fault of this node' }
  }

  /** @throws ConnectionLost, SessionError where the message is too long */
  #say(peer: string, message: { readonly type: number; readonly body: unknown }, priority: Priority): void {
    if (!this.#deps.host.sendMessage(peer, message, { priority })) throw new ConnectionLost()
  }

  /** Resolves when the peer has the attachment too, or will not get it. */
  async #respond(
    peer: string,
    answer: {
      readonly id: Uint8Array
      readonly body: unknown
      readonly attachment: Attachment | undefined
      readonly priority: Priority
    },
  ): Promise<void> {
    const { transfers } = this.#deps
    const { id, body, attachment, priority } = answer
    if (attachment === undefined) {
      this.#say(peer, { type: FRAME_TYPES.response, body: { id, body } }, priority)
      return
    }
    await this.#pace(peer, 'out', attachment.sizeBytes)
    const settled = Promise.withResolvers<void>()
    const header = await transfers.offer(peer, borrowed(attachment), { onSettled: () => settled.resolve() })
    try {
      this.#say(peer, { type: FRAME_TYPES.response, body: { id, body, attachment: header } }, priority)
    } catch (error) {
      transfers.withdraw(peer, header)
      throw error
    }
    if ('transfer' in header) await settled.promise
  }

  async #ask(peer: string, message: OutgoingRequest | OutgoingCancel): Promise<void> {
    const { host, transfers } = this.#deps
    const { id } = message
    if (message.kind === 'cancel') {
      this.#withdraw(peer, id)
      host.sendMessage(peer, { type: FRAME_TYPES.cancel, body: { id } }, { priority: 'high' })
      return
    }
    const { type, body, deadlineMs, eventsFrom, attachment, name } = message
    const header = attachment === undefined ? undefined : await transfers.offer(peer, borrowed(attachment))
    this.#withdraw(peer, id)
    if (header !== undefined) this.#offered.set(keyOf(peer, id), header)
    const request = { id, body, deadlineMs: Math.max(1, Math.ceil(deadlineMs)), eventsFrom, attachment: header }
    const priority = this.#deps.registry.byName(name)?.priority ?? 'normal'
    try {
      this.#say(peer, { type, body: request }, priority)
    } catch (error) {
      this.#withdraw(peer, id)
      throw error
    }
  }

  /** Bytes beyond a peer's allowance wait until it has them. */
  async #pace(peer: string, direction: 'in' | 'out', sizeBytes: number): Promise<void> {
    const { clock, limiter } = this.#deps
    const waitMs = limiter.chargeBytes(peer, direction, sizeBytes)
    if (waitMs > 0) await sleep(clock, waitMs)
  }

  /** The request has ended, or is sent again: nobody fetches what was offered with it. */
  #withdraw(peer: string, id: Uint8Array): void {
    const key = keyOf(peer, id)
    const header = this.#offered.get(key)
    this.#offered.delete(key)
    if (header !== undefined) this.#deps.transfers.withdraw(peer, header)
  }

  /**
   * Fetched when it is first read, so that nothing is fetched for a request that is refused.
   * @param options.isAnswer we have asked for it: where it is not read, the peer is told so
   */
  #announced(peer: string, header: AttachmentHeader, { isAnswer = false } = {}): Attachment {
    const { transfers, penalties } = this.#deps
    const sizeBytes = 'bytes' in header ? header.bytes.byteLength : header.sizeBytes
    let fetched: Promise<Attachment> | undefined
    const fetch = (signal: AbortSignal): Promise<Attachment> => {
      if (fetched === undefined) {
        const maxBytes = Math.max(sizeBytes, INLINE_ATTACHMENT_BYTES_MAX)
        fetched = this.#pace(peer, 'in', sizeBytes).then(() => transfers.receive(peer, header, { maxBytes, signal }))
        fetched.catch((error: unknown) => isPeerToBlame(error) && penalties.add(peer, 'bad-response'))
      }
      return fetched
    }
    return {
      sizeBytes,
      read: async function* ({ from, signal }) {
        yield* (await fetch(signal)).read({ from, signal })
      },
      release: async () => {
        if (fetched === undefined && isAnswer) transfers.decline(peer, header)
        fetched ??= Promise.reject(new Error('the attachment has been released'))
        await fetched.then(
          attachment => attachment.release(),
          () => undefined, // What could not be fetched holds nothing.
        )
      },
    }
  }
}

function keyOf(peer: string, id: Uint8Array): string {
  return `${peer} ${toHex(id)}`
}

/** The peer is not here, or does not read; it may come back, and be asked or answered again. */
class ConnectionLost extends Error {
  constructor() {
    super('the connection to the peer was lost')
  }
}

/** An attachment that its reader must not release: it stays its owner's. */
function borrowed(attachment: DigestedAttachment): DigestedAttachment {
  const { sizeBytes, sha256 } = attachment
  return {
    sizeBytes,
    ...(sha256 === undefined ? {} : { sha256 }),
    read: options => attachment.read(options),
    release: async () => undefined,
  }
}
