/**
 * Answers requests, whatever carried them: frames of a session, or lines of the JSON protocol. What is cheap to refuse is
 * refused first. Every request that is accepted gets exactly one final answer, and none of the waits and tables here is
 * without a bound.
 *
 * Requests are idempotent by (caller, id): one that is sent again, after a reconnect, is attached to the run or to the
 * answer of the first, and never runs twice.
 */
import type { z } from 'zod'
import { type CancelTimer, type Clock, type Logger, messageOf, toHex } from '#base'
import { ANSWER_LOST, type AnswerSink, AnswerStream, type FinalAnswer, giveBack } from './answer-stream.ts'
import { type CallBounds, CallQueue, DEFAULT_CALL_BOUNDS } from './call-queue.ts'
import { type Attachment, type Caller, type Command, type CommandAnswer, RIGHTS } from './command.ts'
import { ProtocolError, type ProtocolFault } from './errors.ts'
import { BUSY_RETRY_AFTER_MS, HANDLER_END_MS_MAX } from './limits.ts'
import type { Penalties } from './penalties.ts'
import type { RateLimits, Throttle } from './rate-limits.ts'
import type { CommandRegistry } from './registry.ts'
import { RememberedRequests } from './remembered-requests.ts'
import { type AnswerError, told, toldOf } from './told-error.ts'
import type { AuditLog } from './types.ts'

/** A request as a transport hands it over. The dispatcher releases the attachment. */
export type IncomingCall = {
  /** 16 bytes, chosen by the caller. */
  readonly id: Uint8Array
  readonly command: { readonly type: number } | { readonly name: string }
  readonly body: unknown
  /** How long the caller wants to wait, from now. */
  readonly deadlineMs?: number
  /** In a request that is sent again: how many events have come. */
  readonly eventsFrom?: number
  readonly attachment?: Attachment
  readonly caller: Caller
}

export type DispatcherDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly audit: AuditLog
  readonly registry: CommandRegistry
  readonly limiter: RateLimits
  readonly penalties: Penalties
}

export type DispatcherCounts = {
  readonly running: number
  readonly waiting: number
  /** Accepted and not yet answered: those that run and wait, and answers that a slow caller has not taken. */
  readonly open: number
  readonly remembered: number
  readonly answersKept: number
  readonly accepted: number
  /** Refusals before a request was accepted, by code. */
  readonly refused: Readonly<Record<string, number>>
}

/** A request that was accepted. */
type Call = {
  readonly key: string
  readonly id: string
  readonly peer: string
  readonly caller: Caller
  readonly priority: Command['priority']
  readonly command: Command
  readonly body: unknown
  readonly attachment?: Attachment
  readonly answer: AnswerStream
  readonly abort: AbortController
  /** The final answer is decided, though it may not have been taken. */
  isEnded: boolean
  hasPlace: boolean
  cancelDeadline: CancelTimer
  cancelWriteOff: CancelTimer
}

const ID_BYTES = 16
const PATH_CHARS_MAX = 100
const noTimer: CancelTimer = () => undefined

export class Dispatcher {
  readonly #deps: DispatcherDeps
  readonly #queue: CallQueue<Call>
  readonly #bounds: CallBounds
  readonly #open = new Map<string, Call>()
  readonly #openOf = new Map<string, Set<Call>>()
  readonly #remembered: RememberedRequests
  readonly #refused: Record<string, number> = {}
  #accepted = 0
  #isDraining = false
  #onEmpty: Array<() => void> = []

  constructor(deps: DispatcherDeps, options: { readonly bounds?: Partial<CallBounds> } = {}) {
    this.#deps = deps
    this.#bounds = { ...DEFAULT_CALL_BOUNDS, ...options.bounds }
    this.#queue = new CallQueue(this.#bounds)
    this.#remembered = new RememberedRequests(deps)
  }

  counts(): DispatcherCounts {
    return {
      running: this.#queue.running,
      waiting: this.#queue.waiting,
      open: this.#open.size,
      remembered: this.#remembered.count,
      answersKept: this.#remembered.answers,
      accepted: this.#accepted,
      refused: { ...this.#refused },
    }
  }

  /** Answers the request through `sink`: exactly one `response` or `error`, unless a later sink takes its place. */
  receive(call: IncomingCall, sink: AnswerSink): void {
    const refusal = this.#refusalOf(call, sink)
    if (refusal === undefined) return
    if (call.attachment !== undefined) giveBack(call.attachment)
    if (refusal === 'attached') return
    this.#refused[refusal.code] = (this.#refused[refusal.code] ?? 0) + 1
    tell(sink, refusal)
  }

  /** The caller no longer wants the answer. It gets `PROTOCOL_CANCELLED`, unless it has been answered. */
  cancel(peer: string, id: Uint8Array): void {
    const call = this.#open.get(keyOf(peer, toHex(id)))
    if (call !== undefined) this.#fail(call, { code: 'PROTOCOL_CANCELLED' }, 'the caller has cancelled the request')
    else this.#remembered.dropAnswer(peer, toHex(id))
  }

  /** The caller will not come back: its session is over. What it asked for ends, what was kept for it goes. */
  callerGone(peer: string): void {
    for (const call of this.#openOf.get(peer) ?? []) {
      this.#fail(call, { code: 'PROTOCOL_CANCELLED' }, 'the caller has gone')
    }
    this.#remembered.forgetPeer(peer)
  }

  /**
   * Takes no new requests and waits for the open ones, `timeoutMs` at most; those that are left then get
   * `PROTOCOL_STOPPING`.
   *
   * @returns how many were left
   */
  async drain(options: { readonly timeoutMs: number }): Promise<number> {
    this.#isDraining = true
    if (this.#open.size === 0) return 0
    await new Promise<void>(resolve => {
      const cancel = this.#deps.clock.after(options.timeoutMs, resolve)
      this.#onEmpty.push(() => {
        cancel()
        resolve()
      })
    })
    const left = [...this.#open.values()]
    for (const call of left) this.#fail(call, { code: 'PROTOCOL_STOPPING' }, 'the node is going down')
    return left.length
  }

  /** Checks a request, the cheap checks first, and accepts it where all hold. */
  #refusalOf(call: IncomingCall, sink: AnswerSink): AnswerError | 'attached' | undefined {
    const { caller, id } = call
    const command = this.#find(call)
    if (command === undefined || id.byteLength !== ID_BYTES) {
      // Nothing is free: a flood of nonsense runs into the same bounds as one of requests.
      const throttle = this.#deps.limiter.takeTokens(caller.peer, 1)
      if (throttle !== undefined) return this.#throttled(call, throttle)
      this.#deps.penalties.add(caller.peer, 'bad-request')
      if (command !== undefined) return told({ code: 'PROTOCOL_BAD_REQUEST', path: 'id' }, 'id: expected 16 bytes')
      return told({ code: 'PROTOCOL_UNKNOWN_TYPE' }, 'this node does not know the command')
    }
    return (
      this.#unauthorised(call, command) ??
      this.#sentAgain(call, command, sink) ??
      this.#overBounds(call, command) ??
      this.#accept(call, command, sink)
    )
  }

  #find({ command }: IncomingCall): Command | undefined {
    const { registry } = this.#deps
    return 'type' in command ? registry.byType(command.type) : registry.byName(command.name)
  }

  #unauthorised(call: IncomingCall, { name, right }: Command): AnswerError | undefined {
    const { peer, right: has } = call.caller
    if (RIGHTS.indexOf(has) >= RIGHTS.indexOf(right)) return undefined
    const throttle = this.#deps.limiter.takeTokens(peer, 1)
    if (throttle !== undefined) return this.#throttled(call, throttle)
    this.#deps.audit.record('not-authorised', { peer, command: name, has, needed: right })
    this.#deps.penalties.add(peer, 'not-authorised')
    return told({ code: 'PROTOCOL_NOT_AUTHORISED' }, `${name} takes the right "${right}"`)
  }

  /** A request that has been here before is attached to its first run. */
  #sentAgain(call: IncomingCall, command: Command, sink: AnswerSink): AnswerError | 'attached' | undefined {
    const { peer } = call.caller
    const id = toHex(call.id)
    const open = this.#open.get(keyOf(peer, id))
    const known =
      open === undefined ? this.#remembered.find(peer, id) : { type: open.command.type, answer: open.answer }
    if (known === undefined) return undefined
    // What is sent again may be many events: it is no free way to get bytes out of this node.
    const throttle = this.#deps.limiter.takeTokens(peer, 1)
    if (throttle !== undefined) return this.#throttled(call, throttle)
    if (known.type !== command.type) {
      return told({ code: 'PROTOCOL_DUPLICATE_ID' }, 'another request has this id')
    }
    if (known.answer?.attach(sink, call.eventsFrom ?? 0) === true) return 'attached'
    if (open !== undefined) this.#fail(open, { code: 'PROTOCOL_ANSWER_LOST' }, ANSWER_LOST.message)
    return ANSWER_LOST
  }

  #overBounds(call: IncomingCall, command: Command): AnswerError | undefined {
    const { peer } = call.caller
    if (this.#isDraining) return told({ code: 'PROTOCOL_STOPPING' }, 'the node is going down')
    const throttle = this.#deps.limiter.takeRequest(peer, command)
    if (throttle !== undefined) return this.#throttled(call, throttle)
    const { runningMax, waitingMax, runningPerPeerMax, waitingPerPeerMax } = this.#bounds
    const isFull =
      !this.#queue.hasRoom({ peer, priority: command.priority }) ||
      // Answers that slow callers do not take have no place, but they are held.
      this.#open.size >= runningMax + waitingMax ||
      (this.#openOf.get(peer)?.size ?? 0) >= runningPerPeerMax + waitingPerPeerMax
    if (!isFull) return undefined
    return told({ code: 'PROTOCOL_BUSY', retryAfterMs: BUSY_RETRY_AFTER_MS }, 'as many requests run as this node takes')
  }

  #accept(call: IncomingCall, command: Command, sink: AnswerSink): AnswerError | undefined {
    const { attachment, caller } = call
    const maxBytes = command.attachmentBytesMax ?? 0
    if (attachment !== undefined && attachment.sizeBytes > maxBytes) {
      const fault = { code: 'PROTOCOL_ATTACHMENT_SIZE', sizeBytes: attachment.sizeBytes, maxBytes } as const
      return told(fault, `${command.name} takes ${maxBytes} bytes of attachment`)
    }
    const parsed = parse(command.request, call.body)
    if ('path' in parsed) {
      this.#deps.penalties.add(caller.peer, 'bad-request')
      return told({ code: 'PROTOCOL_BAD_REQUEST', path: parsed.path }, `${parsed.path}: ${parsed.problem}`)
    }
    if (command.right === 'trusted') {
      this.#deps.audit.record('command', { peer: caller.peer, command: command.name })
    }
    this.#admit(call, { command, body: parsed.data, sink })
    return undefined
  }

  #admit(
    call: IncomingCall,
    { command, body, sink }: { readonly command: Command; readonly body: unknown; readonly sink: AnswerSink },
  ): void {
    const { peer } = call.caller
    const id = toHex(call.id)
    const opened: Call = {
      key: keyOf(peer, id),
      id,
      peer,
      caller: call.caller,
      priority: command.priority,
      command,
      body,
      ...(call.attachment === undefined ? {} : { attachment: call.attachment }),
      answer: new AnswerStream(sink, {
        onSettled: () => this.#settled(opened),
        onDelivered: () => this.#remembered.dropAnswer(peer, id),
      }),
      abort: new AbortController(),
      isEnded: false,
      hasPlace: false,
      cancelDeadline: noTimer,
      cancelWriteOff: noTimer,
    }
    this.#accepted++
    this.#open.set(opened.key, opened)
    this.#openOf.set(peer, (this.#openOf.get(peer) ?? new Set()).add(opened))
    const deadlineMs = Math.max(0, Math.min(command.deadlineMs, call.deadlineMs ?? Number.POSITIVE_INFINITY))
    opened.cancelDeadline = this.#deps.clock.after(deadlineMs, () => {
      this.#fail(opened, { code: 'PROTOCOL_DEADLINE', deadlineMs }, `not answered within ${deadlineMs} ms`)
    })
    this.#queue.push(opened)
    this.#startNext()
  }

  #startNext(): void {
    for (let call = this.#queue.next(); call !== undefined; call = this.#queue.next()) this.#start(call)
  }

  #start(call: Call): void {
    call.hasPlace = true
    this.#handle(call)
      .then(answer => this.#answered(call, answer))
      .catch((error: unknown) => this.#threw(call, error))
      .finally(() => this.#leave(call))
  }

  async #handle(call: Call): Promise<CommandAnswer<unknown>> {
    const { caller, command, abort, attachment } = call
    return await command.handle(call.body, {
      caller,
      signal: abort.signal,
      log: this.#deps.log.child(command.name),
      emit: event => this.#emit(call, event),
      ...(attachment === undefined ? {} : { attachment }),
    })
  }

  #emit(call: Call, event: unknown): Promise<void> {
    const { command, answer } = call
    const parsed = command.event === undefined ? { path: '', problem: 'has no events' } : parse(command.event, event)
    const problem =
      'path' in parsed ? `${parsed.path}: ${parsed.problem}` : answer.hasRoom ? undefined : 'does not wait'
    const sent =
      'data' in parsed && problem === undefined
        ? answer.emit(parsed.data)
        : Promise.reject(new TypeError(`the event of ${command.name}: ${problem}`))
    // A handler that does not wait must not end the process by it.
    sent.catch(() => undefined)
    return sent
  }

  #answered(call: Call, answer: CommandAnswer<unknown>): void {
    if (call.isEnded) {
      if (answer.attachment !== undefined) giveBack(answer.attachment)
      return
    }
    const parsed = parse(call.command.response, answer.body)
    if ('path' in parsed) {
      if (answer.attachment !== undefined) giveBack(answer.attachment)
      this.#threw(call, new TypeError(`the response breaks its schema at ${parsed.path}: ${parsed.problem}`))
      return
    }
    this.#end(call, { kind: 'response', answer: { ...answer, body: parsed.data } })
  }

  #threw(call: Call, error: unknown): void {
    if (call.isEnded) return
    const known = toldOf(error)
    if (known === undefined) {
      this.#deps.log.error('a command failed', { command: call.command.name, error: messageOf(error) })
    } else {
      this.#deps.log.debug('a command was refused', { command: call.command.name, code: known.code })
    }
    this.#end(call, { kind: 'error', error: known ?? told({ code: 'PROTOCOL_INTERNAL' }, 'a fault of this node') })
  }

  /** Ends a request for a reason that lies outside its handler, which hears of it by its signal. */
  #fail(call: Call, fault: ProtocolFault, message: string): void {
    call.abort.abort(new ProtocolError(fault, message))
    this.#queue.remove(call)
    if (!call.hasPlace && !call.isEnded && call.attachment !== undefined) giveBack(call.attachment)
    this.#end(call, { kind: 'error', error: told(fault, message) })
    if (!call.hasPlace) return
    call.cancelWriteOff()
    call.cancelWriteOff = this.#deps.clock.after(HANDLER_END_MS_MAX, () => {
      this.#deps.log.error('a command does not end', { command: call.command.name })
      this.#leave(call)
    })
  }

  #end(call: Call, final: FinalAnswer): void {
    call.isEnded = true
    call.answer.finish(final)
  }

  /** The handler has ended, or is written off: its place is free. */
  #leave(call: Call): void {
    if (!call.hasPlace) return
    call.hasPlace = false
    call.cancelWriteOff()
    if (call.attachment !== undefined) giveBack(call.attachment)
    this.#queue.done(call)
    this.#startNext()
  }

  /** The final answer is with the caller, or waits for it to come back. */
  #settled(call: Call): void {
    if (this.#open.get(call.key) !== call) return
    this.#open.delete(call.key)
    call.cancelDeadline()
    const others = this.#openOf.get(call.peer)
    others?.delete(call)
    if (others?.size === 0) this.#openOf.delete(call.peer)
    this.#remembered.add(call.peer, call.id, { type: call.command.type, answer: call.answer })
    if (this.#open.size > 0) return
    for (const resolve of this.#onEmpty.splice(0)) resolve()
  }

  #throttled({ caller: { peer }, command }: IncomingCall, { retryAfterMs, isFirst }: Throttle): AnswerError {
    const asked = 'type' in command ? { type: command.type } : {}
    if (isFirst) this.#deps.audit.record('rate-limited', { peer, ...asked, retryAfterMs })
    this.#deps.penalties.add(peer, 'rate-limited')
    return told({ code: 'PROTOCOL_RATE_LIMITED', retryAfterMs }, `too much at once: wait ${retryAfterMs} ms`)
  }
}

/** The parsed value, or what is wrong with it and where. */
function parse(
  schema: z.ZodType,
  value: unknown,
): { readonly data: unknown } | { readonly path: string; readonly problem: string } {
  const parsed = schema.safeParse(value)
  if (parsed.success) return { data: parsed.data }
  const issue = parsed.error.issues[0]
  const path = (issue?.path.join('.') ?? '').slice(0, PATH_CHARS_MAX)
  return { path: path === '' ? 'body' : path, problem: issue?.message ?? 'not as expected' }
}

/** A refusal, to a sink whose connection may be gone: then nobody hears it, and nobody needs to. */
function tell(sink: AnswerSink, error: AnswerError): void {
  try {
    sink.error(error)
  } catch {
    // The caller comes back with the same request, or not at all.
  }
}

function keyOf(peer: string, id: string): string {
  return `${peer} ${id}`
}
