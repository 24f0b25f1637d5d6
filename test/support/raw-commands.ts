/** Requests and answers over the session of a raw peer, with nothing between the test and the messages. */
import { systemRandom, toHex } from '#base'
import {
  type AttachmentHeader,
  decodeBody,
  type ErrorMessage,
  errorSchema,
  eventSchema,
  FRAME_TYPES,
  responseSchema,
} from '#wire'
import type { RawControl } from './raw-peer.ts'

export type CommandAnswer = {
  /** The body of a response; empty where an error came. */
  readonly answer: Readonly<Record<string, unknown>>
  readonly error: Omit<ErrorMessage, 'id'> | undefined
  readonly events: readonly unknown[]
}

export type AskOptions = {
  readonly id?: Uint8Array
  readonly deadlineMs?: number
  readonly attachment?: AttachmentHeader
}

export type RawCommands = {
  /** Sends a request and waits for its answer. Everything else that comes meanwhile is read past. */
  ask(type: number, body: unknown, options?: AskOptions): Promise<CommandAnswer>
  /** Sends a request, and waits for nothing. @returns its id */
  send(type: number, body: unknown, options?: AskOptions): Uint8Array
}

export function commandsOf(control: RawControl): RawCommands {
  const send = (type: number, body: unknown, options: AskOptions = {}): Uint8Array => {
    const { id = systemRandom.bytes(16), ...rest } = options
    control.link.send(type, { id, body, ...rest })
    return id
  }
  return { send, ask: (type, body, options) => answerTo(control, send(type, body, options)) }
}

/** @throws what `next` throws when the link ends first */
export async function answerTo(control: RawControl, id: Uint8Array): Promise<CommandAnswer> {
  const events: unknown[] = []
  for (;;) {
    const { type, body } = await control.next()
    if (type === FRAME_TYPES.event) {
      const decoded = decodeBody(eventSchema, body)
      if ('body' in decoded && toHex(decoded.body.id) === toHex(id)) events.push(decoded.body.body)
    } else if (type === FRAME_TYPES.response) {
      const decoded = decodeBody(responseSchema, body)
      if ('body' in decoded && toHex(decoded.body.id) === toHex(id)) {
        return { answer: decoded.body.body as Record<string, unknown>, error: undefined, events }
      }
    } else if (type === FRAME_TYPES.error) {
      const decoded = decodeBody(errorSchema, body)
      if ('body' in decoded && toHex(decoded.body.id) === toHex(id)) {
        const { id: _, ...error } = decoded.body
        return { answer: {}, error, events }
      }
    }
  }
}
