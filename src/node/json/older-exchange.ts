/**
 * How the systems before ask each other: one stream for each question, JSON without a length each way, and the end of a
 * direction ends a message (libp2p's request-response). There is no word for a refusal: the stream is reset.
 *
 * A question becomes one or more commands of our own, given to the same dispatcher as all others, so that rights, rates
 * and penalties are the same. Such peers ask for all pieces at once: their questions wait here for their turn, since
 * asking too fast would cost them their good name.
 */
import {
  type ByteStream,
  type Clock,
  concatBytes,
  KoinonError,
  type Logger,
  messageOf,
  type Random,
  sleep,
  withDeadline,
} from '#base'
import { type AnswerError, type Dispatcher, readAll, type Right, TokenBucket } from '#protocol'
import {
  JSON_ATTACHMENT_BYTES_MAX,
  JSON_MESSAGE_MS_MAX,
  JSON_STALL_MS_MAX,
  OLDER_BURST,
  OLDER_PER_SECOND,
  OLDER_PIECES_PER_SECOND,
  OLDER_REQUEST_BYTES_MAX,
  OLDER_REQUEST_MS_MAX,
  OLDER_TURN_MS,
} from '../limits.ts'

export type OlderDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly dispatcher: Pick<Dispatcher, 'receive' | 'cancel'>
  /** What a peer may do; undefined: nothing, since the swarm has a secret and the peer has not proved that it knows it. */
  readonly rightOf: (peer: string) => Exclude<Right, 'guest'> | undefined
  /** Hears of what no honest peer does. */
  readonly misbehaved?: (peer: string, what: 'malformed') => void
}

export type OlderAnswer = { readonly body: unknown; readonly attachment: Uint8Array }

/** Gives a command in the name of the peer. @throws OlderRefusal with the command's own code */
export type OlderAsk = (name: string, body: Readonly<Record<string, unknown>>) => Promise<OlderAnswer>

/** Makes the answer to a question; undefined: it is none of this protocol. */
export type OlderHandler = (question: unknown, ask: OlderAsk) => Promise<unknown>

/** A command that was answered with an error. */
export class OlderRefusal extends KoinonError {
  override readonly name = 'OlderRefusal'
}

/** Serves streams of one older protocol. The function resolves when nothing of its stream is left; it never rejects. */
export function createOlderServer(deps: OlderDeps, handler: OlderHandler): (stream: ByteStream) => Promise<void> {
  const bucket = (perSecond: number): TokenBucket => new TokenBucket(deps, { tokensMax: OLDER_BURST, perSecond })
  const [pieces, others] = [bucket(OLDER_PIECES_PER_SECOND), bucket(OLDER_PER_SECOND)]
  const turns = (name: string): TokenBucket => (name === 'REQUEST_PIECE' ? pieces : others)
  return async stream => {
    const timeoutMs = OLDER_REQUEST_MS_MAX
    try {
      await withDeadline(deps.clock, { what: 'a question of an older peer', timeoutMs }, signal =>
        serve(stream, { deps, handler, turns, signal }),
      )
    } catch (error) {
      deps.log.debug('an older peer got no answer', { peer: stream.peer, reason: messageOf(error) })
      stream.abort(error instanceof Error ? error : new Error(messageOf(error)))
    }
  }
}

type Serving = {
  readonly deps: OlderDeps
  readonly handler: OlderHandler
  readonly turns: (name: string) => TokenBucket
  readonly signal: AbortSignal
}

async function serve(stream: ByteStream, { deps, handler, turns, signal }: Serving): Promise<void> {
  const { clock, misbehaved } = deps
  const right = deps.rightOf(stream.peer)
  if (right === undefined) throw new Error('this swarm has a secret, which the protocol cannot prove')
  const request = await withDeadline(clock, { what: 'a question', timeoutMs: JSON_MESSAGE_MS_MAX, signal }, () =>
    readQuestion(stream),
  )
  const ask: OlderAsk = async (name, body) => {
    while (!turns(name).take(1)) await sleep(clock, OLDER_TURN_MS, { signal })
    return give(deps, { peer: stream.peer, right, name, body, signal })
  }
  const answer = request === undefined ? undefined : await handler(request.question, ask)
  if (answer === undefined) {
    misbehaved?.(stream.peer, 'malformed')
    throw new Error('a question that this protocol does not have')
  }
  const stalled = { what: 'an older peer reading', timeoutMs: JSON_STALL_MS_MAX, signal }
  if (!stream.send(new TextEncoder().encode(JSON.stringify(answer)))) {
    await withDeadline(clock, stalled, () => stream.drained())
  }
  await withDeadline(clock, stalled, () => stream.close())
}

/** Everything up to the end of the peer's direction; undefined: too long, or no JSON. Nothing at all is null. */
async function readQuestion(stream: ByteStream): Promise<{ readonly question: unknown } | undefined> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of stream.received) {
    bytes += part.byteLength
    if (bytes > OLDER_REQUEST_BYTES_MAX) return undefined
    parts.push(part)
  }
  if (bytes === 0) return { question: null }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(concatBytes(parts))
    return { question: JSON.parse(text) as unknown }
  } catch {
    return undefined // What it is instead of JSON does not matter.
  }
}

type Given = {
  readonly peer: string
  readonly right: Exclude<Right, 'guest'>
  readonly name: string
  readonly body: Readonly<Record<string, unknown>>
  readonly signal: AbortSignal
}

function give({ dispatcher, random }: OlderDeps, { peer, right, name, body, signal }: Given): Promise<OlderAnswer> {
  const id = random.bytes(16)
  const { promise, resolve, reject } = Promise.withResolvers<OlderAnswer>()
  const onAbort = (): void => {
    dispatcher.cancel(peer, id)
    reject(new Error('the older peer waits no more'))
  }
  signal.addEventListener('abort', onAbort, { once: true })
  dispatcher.receive(
    { id, command: { name }, body, caller: { peer, right } },
    {
      event: () => undefined,
      response: async (answer, attachment) => {
        const bytes =
          attachment === undefined
            ? new Uint8Array(0)
            : await readAll(attachment, { maxBytes: JSON_ATTACHMENT_BYTES_MAX, signal })
        resolve({ body: answer, attachment: bytes })
        return true
      },
      error: ({ code, message }: AnswerError) => reject(new OlderRefusal({ code }, message)),
    },
  )
  return promise.finally(() => signal.removeEventListener('abort', onAbort))
}
