/**
 * What one request is answered with: events in order, then one response or error. The sink under it may be lost with its
 * connection; another that is attached later gets what the caller has not had, as far as it is kept.
 */
import { approximateSize } from './approximate-size.ts'
import type { Attachment, CommandAnswer } from './command.ts'
import { EVENT_BYTES_KEPT_MAX, EVENTS_KEPT_MAX, EVENTS_WAITING_MAX } from './limits.ts'
import { type AnswerError, told } from './told-error.ts'

/** What those are told whose request has run, and who come too late for the answer. */
export const ANSWER_LOST = told(
  { code: 'PROTOCOL_ANSWER_LOST' },
  'the request has run, and its answer is no longer kept',
)

/**
 * Takes answers to the caller: a session's frames or a line of JSON. A sink whose connection is lost throws or rejects;
 * the request goes on, and what it answers is kept for the next sink.
 */
export interface AnswerSink {
  /** Resolves when there is room for the next event. @param index counts the events of a request from 0 */
  event(body: unknown, index: number): void | Promise<void>
  /**
   * Whoever reads an attachment returns a promise that settles when it reads no more; the dispatcher releases the
   * attachment, never the sink. `true`: the caller is known to have everything, so nothing of it is kept.
   */
  response(body: unknown, attachment?: Attachment): void | Promise<void | boolean>
  error(error: AnswerError): void
}

export type FinalAnswer =
  | { readonly kind: 'response'; readonly answer: CommandAnswer<unknown> }
  | { readonly kind: 'error'; readonly error: AnswerError }

type Event = {
  readonly body: unknown
  readonly sizeBytes: number
  readonly sent: () => void
  readonly refused: (reason: Error) => void
}

export class AnswerStream {
  #sink: AnswerSink | undefined
  /** The sink has not made room yet. */
  #isBlocked = false
  /** Events from index `#first` on: those that were sent and are kept, then those that wait. */
  readonly #events: Event[] = []
  #first = 0
  /** Index of the next event for this sink, and of the next that no sink has had. */
  #next = 0
  #fresh = 0
  #keptBytes = 0
  #final: FinalAnswer | undefined
  /** Sinks that still read the attachment. */
  #readers = 0
  #isDisposed = false
  #isHandedOver = false
  readonly #onSettled: () => void
  readonly #onDelivered: () => void

  /**
   * @param options.onSettled the final answer was handed to a sink, or waits for one; maybe more than once
   * @param options.onDelivered the caller is known to have it
   */
  constructor(sink: AnswerSink, options: { readonly onSettled: () => void; readonly onDelivered: () => void }) {
    this.#sink = sink
    this.#onSettled = options.onSettled
    this.#onDelivered = options.onDelivered
  }

  /** About how many bytes are kept. */
  get sizeBytes(): number {
    return this.#keptBytes + (this.#final?.kind === 'response' ? approximateSize(this.#final.answer.body) : 0)
  }

  /** False: as many events wait as may; the handler does not wait for `emit`. */
  get hasRoom(): boolean {
    return this.#first + this.#events.length - this.#fresh < EVENTS_WAITING_MAX
  }

  /** Resolves when the sink has taken the event and has room; rejects where the answer ends without it. */
  emit(body: unknown): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#final !== undefined) {
        reject(new Error('the request has ended'))
        return
      }
      this.#events.push({ body, sizeBytes: approximateSize(body), sent: resolve, refused: reject })
      this.#pump()
    })
  }

  /** The last word. An error does not wait for events and takes the place of a response that still does. */
  finish(final: FinalAnswer): void {
    if (this.#isHandedOver) return
    const isFirst = this.#final === undefined
    releaseAttachmentOf(this.#final)
    this.#final = final
    if (final.kind === 'error') {
      // Nobody needs the events of a request that failed.
      for (const { refused } of this.#events.splice(0)) refused(new Error('the request has ended'))
      this.#keptBytes = 0
      this.#isBlocked = false
    }
    this.#pump()
    if (isFirst && this.#sink === undefined) this.#onSettled()
  }

  /**
   * Another sink for the same caller, which has had the events before `eventsFrom`. False: some that it has not had are
   * no longer kept; then nothing has changed.
   */
  attach(sink: AnswerSink, eventsFrom: number): boolean {
    const hasFailed = this.#final?.kind === 'error'
    if (!hasFailed && (eventsFrom < this.#first || eventsFrom > this.#first + this.#events.length)) return false
    this.#sink = sink
    this.#isBlocked = false
    this.#isHandedOver = false
    // The caller has had events for which the sink before made no room any more.
    for (let event = this.#fresher(eventsFrom); event !== undefined; event = this.#fresher(eventsFrom)) {
      event.sent()
      this.#keep(event)
    }
    this.#next = eventsFrom
    this.#pump()
    return true
  }

  /** It is not kept any longer: gives back the attachment as soon as no sink reads it. */
  dispose(): void {
    this.#isDisposed = true
    // A sink that still works through old events must not wait for a response whose attachment is gone.
    if (this.#sink !== undefined && !this.#isHandedOver) this.finish({ kind: 'error', error: ANSWER_LOST })
    this.#release()
  }

  #pump(): void {
    while (this.#sink !== undefined && !this.#isBlocked && !this.#isHandedOver) {
      const event = this.#events[this.#next - this.#first]
      if (event !== undefined) this.#sendEvent(this.#sink, event)
      else if (this.#final !== undefined) this.#handOver(this.#sink, this.#final)
      else return
    }
  }

  #sendEvent(sink: AnswerSink, event: Event): void {
    const index = this.#next
    const hasTaken = (): void => {
      // The sink may have ended the request while it took the event.
      if (this.#final?.kind === 'error') return
      this.#next = index + 1
      event.sent()
      if (index === this.#fresh) this.#keep(event)
    }
    let room: void | Promise<void>
    try {
      room = sink.event(event.body, index)
    } catch {
      this.#lose(sink) // The sink said so by throwing: its connection is gone, and another may come.
      return
    }
    if (room === undefined) {
      hasTaken()
      return
    }
    this.#isBlocked = true
    room.then(
      () => {
        // In the meantime there may be another sink, or an error that did not wait.
        if (this.#sink !== sink || !this.#isBlocked) return
        this.#isBlocked = false
        hasTaken()
        this.#pump()
      },
      () => this.#lose(sink),
    )
  }

  #handOver(sink: AnswerSink, final: FinalAnswer): void {
    this.#isHandedOver = true
    let delivery: void | Promise<void | boolean> = undefined
    try {
      if (final.kind === 'response') delivery = sink.response(final.answer.body, final.answer.attachment)
      else sink.error(final.error)
    } catch {
      this.#lose(sink)
      return
    }
    if (delivery !== undefined) {
      this.#readers++
      delivery
        .then(
          isDelivered => {
            if (isDelivered === true) this.#onDelivered()
          },
          () => this.#lose(sink),
        )
        .finally(() => {
          this.#readers--
          this.#release()
        })
    }
    this.#onSettled()
  }

  #lose(sink: AnswerSink): void {
    if (this.#sink !== sink) return
    this.#sink = undefined
    this.#isHandedOver = false
    if (this.#final !== undefined) this.#onSettled()
  }

  /** The next event that no sink has taken, where the caller has had it. */
  #fresher(eventsFrom: number): Event | undefined {
    return this.#fresh < eventsFrom ? this.#events[this.#fresh - this.#first] : undefined
  }

  /** Keeps an event that was sent for the first time, and forgets the oldest down to what may be kept. */
  #keep(event: Event): void {
    this.#fresh++
    this.#keptBytes += event.sizeBytes
    while (this.#fresh - this.#first > EVENTS_KEPT_MAX || this.#keptBytes > EVENT_BYTES_KEPT_MAX) {
      this.#keptBytes -= this.#events.shift()?.sizeBytes ?? 0
      this.#first++
    }
  }

  #release(): void {
    if (this.#isDisposed && this.#readers === 0) releaseAttachmentOf(this.#final)
  }
}

function releaseAttachmentOf(final: FinalAnswer | undefined): void {
  if (final?.kind === 'response' && final.answer.attachment !== undefined) giveBack(final.answer.attachment)
}

/** Gives an attachment back; nobody waits for it. */
export function giveBack(attachment: Attachment): void {
  // It fails only where what held the bytes is gone already.
  attachment.release().catch(() => undefined)
}
