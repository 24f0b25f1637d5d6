/**
 * A command is one file: its schemas, its cost, who may give it, how long it may take, how urgent it is, and the handler.
 * `defineCommand` keeps the types of schemas and handler together; the registry takes commands at run time, those of
 * plug-ins too.
 */
import type { z } from 'zod'
import type { Logger } from '#base'
import type { Priority } from '#wire'

/**
 * Who may give a command.
 * - `guest`: anybody who is connected, even a peer of the JSON protocol.
 * - `member`: a peer that was admitted to the swarm.
 * - `trusted`: a peer whom this node's owner has named (`--trust`).
 *
 * Each includes those before it.
 */
export const RIGHTS = ['guest', 'member', 'trusted'] as const
export type Right = (typeof RIGHTS)[number]

/** A part of a message that may be large. */
export interface Attachment {
  readonly sizeBytes: number
  /** The bytes, in order, in pieces of any size. May be read more than once, from any offset. */
  read(options: { readonly from: number; readonly signal: AbortSignal }): AsyncIterable<Uint8Array>
  /** Gives back what holds the bytes (a temporary file). Idempotent. */
  release(): Promise<void>
}

/** Who asks. `right` is what the transport has found out about the peer: the highest that it has. */
export type Caller = { readonly peer: string; readonly right: Right }

export type CommandContext<Event> = {
  readonly caller: Caller
  /** Aborts when the caller cancels, has gone for good, or the deadline is over. */
  readonly signal: AbortSignal
  readonly log: Logger
  /** Sends one of many answers. Resolves when there is room for the next: a slow caller slows the handler. */
  readonly emit: (event: Event) => Promise<void>
  /** What came with the request. */
  readonly attachment?: Attachment
}

/** What a handler answers. */
export type CommandAnswer<Response> = { readonly body: Response; readonly attachment?: Attachment }

export type Command<
  RequestSchema extends z.ZodType = z.ZodType,
  ResponseSchema extends z.ZodType = z.ZodType,
  EventSchema extends z.ZodType = z.ZodType,
> = {
  /** Frame type: 32-63 of Koinon's own, 64-127 of plug-ins. */
  readonly type: number
  /** In capitals, as JSON peers write it: `GET_CAPABILITIES`. */
  readonly name: string
  /** The name of the answer where it has one of its own: `INFERENCE_RESPONSE`. */
  readonly answerName?: string
  readonly request: RequestSchema
  readonly response: ResponseSchema
  /** Left out: the command answers once. */
  readonly event?: EventSchema
  /** Tokens of the peer's bucket: 1 is a look-up; a generation costs more. */
  readonly cost: number
  /** Requests of this command that one peer may make in a second, on average, and at once. */
  readonly rate: { readonly perSecond: number; readonly burst: number }
  readonly right: Right
  /** The longest that it may take; a caller may ask for less. Milliseconds. */
  readonly deadlineMs: number
  readonly priority: Priority
  /** Bytes of an attachment that a request may bring. @default 0 */
  readonly attachmentBytesMax?: number
  handle(
    request: z.infer<RequestSchema>,
    context: CommandContext<z.infer<EventSchema>>,
  ): Promise<CommandAnswer<z.infer<ResponseSchema>>>
}

/** Keeps the types of one command together. */
export function defineCommand<
  Request extends z.ZodType,
  Response extends z.ZodType,
  Event extends z.ZodType = z.ZodNever,
>(command: Command<Request, Response, Event>): Command<Request, Response, Event> {
  return command
}
