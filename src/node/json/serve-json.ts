/**
 * Serves `/json-message/1.0` over the same dispatcher as frames, so that a peer that speaks nothing but JSON can list
 * capabilities, find nodes, fetch pieces and run a task. Beside the commands there are HELLO, AUTH and CANCEL.
 */
import {
  abortable,
  type ByteStream,
  type CancelTimer,
  type Clock,
  type Logger,
  messageOf,
  type Random,
  withDeadline,
} from '#base'
import { type Attachment, attachmentOfBytes, type Dispatcher, readAll, type Right, TokenBucket } from '#protocol'
import { LengthPrefixReader } from '#wire'
import {
  JSON_ADMISSION_MS_MAX,
  JSON_ATTACHMENT_BYTES_MAX,
  JSON_FAULTS_MAX,
  JSON_IDLE_MS_MAX,
  JSON_LINGER_MS_MAX,
  JSON_MESSAGE_BYTES_MAX,
  JSON_MESSAGE_MS_MAX,
  JSON_REQUEST_BYTES_MAX,
  JSON_REQUESTS_MAX,
  JSON_RETRY_MS,
  JSON_STALL_MS_MAX,
  JSON_UNPROVEN_BYTES_MAX,
} from '../limits.ts'
import { Admission } from './admission.ts'
import { toBase64 } from './dag-json.ts'
import type { JsonFault } from './errors.ts'
import { decodeJsonRequest, encodeJson, errorMessage, type JsonError, type JsonRequest } from './messages.ts'

export type JsonDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly dispatcher: Pick<Dispatcher, 'receive' | 'cancel'>
  /** Our own peer id. */
  readonly self: string
  /** The swarm secret; undefined: an open swarm. */
  readonly secret?: Uint8Array | undefined
  /** What an admitted peer may do. */
  readonly rightOf: (peer: string) => Exclude<Right, 'guest'>
  /** Hears of what no honest peer does. */
  readonly misbehaved?: (peer: string, what: 'malformed' | 'authentication') => void
}

/** Serves a stream until it ends. Resolves when nothing of it is left; never rejects. */
export async function serveJson(stream: ByteStream, deps: JsonDeps): Promise<void> {
  await new JsonConnection(stream, deps).run()
}

type OpenRequest = { readonly key: Uint8Array; readonly bytes: number }

/** Our refusal of the whole stream: said once, then it is closed. */
type Ending = JsonFault & { readonly id?: string | undefined }

class JsonConnection {
  readonly #stream: ByteStream
  readonly #deps: JsonDeps
  readonly #admission: Admission
  readonly #reader = new LengthPrefixReader(JSON_MESSAGE_BYTES_MAX)
  /** By the id that the peer gave. */
  readonly #open = new Map<string, OpenRequest>()
  #onEmpty: () => void = () => undefined
  readonly #gone = new AbortController()
  readonly #startedAt: number
  /** What bounds messages that the dispatcher's own limits do not. */
  readonly #spare: TokenBucket
  /** When the message that is arriving began. */
  #messageSince: number | undefined
  #idleSince: number
  #cancelTimer: CancelTimer = () => undefined

  constructor(stream: ByteStream, deps: JsonDeps) {
    const { random, self, secret, clock } = deps
    this.#stream = stream
    this.#deps = deps
    this.#spare = new TokenBucket(deps, { tokensMax: JSON_FAULTS_MAX, perSecond: 1 })
    this.#admission = new Admission({ random, self, peer: stream.peer, secret })
    this.#startedAt = clock.monotonic()
    this.#idleSince = this.#startedAt
  }

  async run(): Promise<void> {
    const input = this.#stream.received[Symbol.asyncIterator]()
    try {
      this.#watch()
      const ending = await this.#read(input)
      if (ending === undefined) await this.#untilAnswered()
      else await this.#write(errorMessage(ending.id, ending))
      this.#cancelTimer()
      await this.#close(input)
    } catch (error) {
      this.#deps.log.debug('a JSON stream ended', { peer: this.#stream.peer, reason: messageOf(error) })
      this.#stream.abort(error instanceof Error ? error : new Error(messageOf(error)))
    } finally {
      this.#cancelTimer()
      this.#gone.abort(new Error('the stream has ended'))
      for (const { key } of this.#open.values()) this.#deps.dispatcher.cancel(this.#stream.peer, key)
      this.#open.clear()
    }
  }

  /** Reads until the peer has said everything, or cannot go on. */
  async #read(input: AsyncIterator<Uint8Array>): Promise<Ending | undefined> {
    for (let next = await input.next(); next.done !== true; next = await input.next()) {
      const bodies = this.#reader.push(next.value)
      if (!Array.isArray(bodies)) {
        const max = this.#admission.isAdmitted ? JSON_MESSAGE_BYTES_MAX : JSON_UNPROVEN_BYTES_MAX
        return { code: 'JSON_LENGTH', message: `a message has ${max} bytes at most` }
      }
      for (const body of bodies) {
        const ending = await this.#take(body)
        if (ending !== undefined) return ending
      }
      if (!this.#admission.isAdmitted && this.#reader.pendingBytes > JSON_UNPROVEN_BYTES_MAX) return tooLongUnproven
      this.#noteArrival(bodies.length > 0)
    }
    // What is left of a message never comes: that is the peer's own loss.
    this.#messageSince = undefined
    return undefined
  }

  async #take(body: Uint8Array): Promise<Ending | undefined> {
    if (!this.#admission.isAdmitted && body.byteLength > JSON_UNPROVEN_BYTES_MAX) return tooLongUnproven
    const request = decodeJsonRequest(body)
    if ('fault' in request) return this.#refuse(request.id, request.fault)
    const { id, command, params } = request
    if (command === 'HELLO') {
      if (!this.#spare.take(1)) return { ...tooMany, id }
      await this.#write(encodeJson({ id: id ?? null, status: 'ok', result: this.#admission.hello() }))
      return undefined
    }
    if (command === 'AUTH') {
      const result = this.#admission.authenticate(params)
      if ('code' in result) {
        this.#deps.misbehaved?.(this.#stream.peer, 'authentication')
        return { ...result, id }
      }
      await this.#write(encodeJson({ id: id ?? null, status: 'ok', result }))
      return undefined
    }
    if (!this.#admission.isAdmitted) {
      return this.#refuse(id, { code: 'JSON_NOT_ADMITTED', message: 'this swarm has a secret: say HELLO, then AUTH' })
    }
    if (command === 'CANCEL') return this.#cancel(request)
    return this.#dispatch(request, body.byteLength)
  }

  async #dispatch(request: JsonRequest, bytes: number): Promise<Ending | undefined> {
    const { id, command, params, deadlineMs, attachment } = request
    if (id === undefined) return this.#refuse(id, { code: 'JSON_MALFORMED', message: 'id: a command needs one' })
    if (this.#open.has(id)) return this.#refuse(id, { code: 'JSON_ID_IN_USE', message: 'a request has this id' })
    const used = [...this.#open.values()].reduce((sum, open) => sum + open.bytes, 0)
    if (this.#open.size >= JSON_REQUESTS_MAX || used + bytes > JSON_REQUEST_BYTES_MAX) {
      const message = `a stream has ${JSON_REQUESTS_MAX} open requests at most`
      await this.#write(errorMessage(id, { code: 'JSON_BUSY', message, retryAfterMs: JSON_RETRY_MS }))
      return undefined
    }
    const { dispatcher, random, rightOf } = this.#deps
    const { peer } = this.#stream
    // The peer's own ids are of any form, and two of its streams may use the same.
    const key = random.bytes(16)
    this.#open.set(id, { key, bytes })
    dispatcher.receive(
      {
        id: key,
        command: { name: command },
        body: params,
        caller: { peer, right: rightOf(peer) },
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
        ...(attachment === undefined ? {} : { attachment: attachmentOfBytes(attachment) }),
      },
      {
        event: body => this.#write(encodeJson({ id, status: 'event', event: body })),
        response: (body, attached) => this.#respond(id, body, attached),
        error: error => this.#fail(id, error),
      },
    )
    return undefined
  }

  /** Rejects where the peer has not got it: it has gone, or does not read. */
  async #respond(id: string, body: unknown, attachment: Attachment | undefined): Promise<void> {
    const message = await this.#encodeResponse(id, body, attachment)
    if (message === undefined || message.byteLength > JSON_MESSAGE_BYTES_MAX) {
      const text = `the answer is longer than ${JSON_MESSAGE_BYTES_MAX} bytes: ask for less, or over frames`
      await this.#answer(id, errorMessage(id, { code: 'JSON_ANSWER_SIZE', message: text }))
    } else await this.#answer(id, message)
  }

  async #encodeResponse(
    id: string,
    result: unknown,
    attachment: Attachment | undefined,
  ): Promise<Uint8Array | undefined> {
    if (attachment === undefined) return encodeJson({ id, status: 'ok', result })
    if (attachment.sizeBytes > JSON_ATTACHMENT_BYTES_MAX) return undefined
    const bytes = await readAll(attachment, { maxBytes: JSON_ATTACHMENT_BYTES_MAX, signal: this.#gone.signal })
    return encodeJson({ id, status: 'ok', result, attachment: toBase64(bytes) })
  }

  #fail(id: string, error: JsonError): void {
    // Where it cannot be said the stream has failed, and everything of it ends.
    this.#answer(id, errorMessage(id, error)).catch(() => undefined)
  }

  /** The last message of a request. */
  async #answer(id: string, message: Uint8Array): Promise<void> {
    try {
      await this.#write(message)
    } finally {
      this.#open.delete(id)
      this.#idleSince = this.#deps.clock.monotonic()
      this.#watch()
      if (this.#open.size === 0) this.#onEmpty()
    }
  }

  async #cancel({ id, params }: JsonRequest): Promise<Ending | undefined> {
    const target = typeof params['id'] === 'string' ? this.#open.get(params['id']) : undefined
    if (target !== undefined) this.#deps.dispatcher.cancel(this.#stream.peer, target.key)
    else if (!this.#spare.take(1)) return { ...tooMany, id }
    if (id !== undefined)
      await this.#write(encodeJson({ id, status: 'ok', result: { cancelled: target !== undefined } }))
    return undefined
  }

  /** Answers a message that was of no use. @returns what ends the stream, where it was one too many */
  async #refuse(id: string | undefined, fault: JsonFault): Promise<Ending | undefined> {
    if (fault.code === 'JSON_MALFORMED' || fault.code === 'JSON_SHAPE') {
      this.#deps.misbehaved?.(this.#stream.peer, 'malformed')
    }
    if (!this.#spare.take(1)) return { ...fault, id }
    await this.#write(errorMessage(id, fault))
    return undefined
  }

  /** Resolves when there is room for more. Ends the stream where there is none for too long. */
  async #write(message: Uint8Array): Promise<void> {
    this.#gone.signal.throwIfAborted()
    const options = { what: 'a peer reading JSON', timeoutMs: JSON_STALL_MS_MAX, signal: this.#gone.signal }
    try {
      if (!this.#stream.send(message)) await withDeadline(this.#deps.clock, options, () => this.#stream.drained())
    } catch (error) {
      const reason = error instanceof Error ? error : new Error(messageOf(error))
      this.#stream.abort(reason)
      this.#gone.abort(reason)
      throw reason
    }
  }

  /** The peer may end its direction and wait for answers. */
  async #untilAnswered(): Promise<void> {
    if (this.#open.size === 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#onEmpty = resolve
    await abortable(promise, this.#gone.signal)
  }

  /** Lets the peer hear the last word before the stream goes. */
  async #close(input: AsyncIterator<Uint8Array>): Promise<void> {
    const options = { what: 'closing a JSON stream', timeoutMs: JSON_LINGER_MS_MAX }
    await withDeadline(this.#deps.clock, options, async () => {
      await this.#stream.close()
      while ((await input.next()).done !== true);
    })
  }

  #noteArrival(isComplete: boolean): void {
    const now = this.#deps.clock.monotonic()
    if (isComplete) this.#idleSince = now
    if (this.#reader.pendingBytes === 0) this.#messageSince = undefined
    else this.#messageSince = isComplete ? now : (this.#messageSince ?? now)
    this.#watch()
  }

  /** Sets the timer to the first moment at which the peer will have been too slow. */
  #watch(): void {
    const { clock } = this.#deps
    this.#cancelTimer()
    const ends: number[] = []
    if (!this.#admission.isAdmitted) ends.push(this.#startedAt + JSON_ADMISSION_MS_MAX)
    if (this.#messageSince !== undefined) ends.push(this.#messageSince + JSON_MESSAGE_MS_MAX)
    else if (this.#open.size === 0) ends.push(this.#idleSince + JSON_IDLE_MS_MAX)
    if (ends.length === 0) return
    this.#cancelTimer = clock.after(Math.max(0, Math.min(...ends) - clock.monotonic()), () => this.#tooSlow())
  }

  #tooSlow(): void {
    const message = 'the peer took too long'
    try {
      this.#stream.send(errorMessage(undefined, { code: 'JSON_SLOW', message }))
    } catch {
      // It is gone: nobody is left to be told.
    }
    this.#stream.abort(new Error(message))
  }
}

const tooMany: Ending = { code: 'JSON_BUSY', message: 'too many messages that ask for nothing' }

const tooLongUnproven: Ending = {
  code: 'JSON_LENGTH',
  message: `a message has ${JSON_UNPROVEN_BYTES_MAX} bytes at most before AUTH`,
}
