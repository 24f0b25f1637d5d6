/**
 * `POST /local/ask`: gives a connected peer a command in its owner's name, and tells line by line what comes back: events,
 * then the answer with its attachment, or an error. A client that goes away cancels the command.
 */
import type { z } from 'zod'
import { KoinonError } from '#base'
import { type KoinonNode, toBase64, toDagJson } from '#node'
import { type Attachment, attachmentOfBytes } from '#protocol'
import type { AskEvent } from '#wire'
import { ASK_PIECE_BYTES_MAX } from './limits.ts'
import { askRequestSchema } from './local-schema.ts'
import { openStream, type StreamDeps } from './openai-routes.ts'
import type { Outlet } from './outlet.ts'
import type { Server } from './server.ts'

export type AskDeps = StreamDeps & { readonly node: Pick<KoinonNode, 'ask' | 'commands'> }

export function addAskRoutes(server: Server, deps: AskDeps): void {
  server.app.get('/local/commands', async () => deps.node.commands())
  server.app.post('/local/ask', { schema: { body: askRequestSchema } }, async (request, reply) =>
    server.attend(reply, async signal => {
      const outlet = openStream(deps, reply, { type: 'application/x-ndjson; charset=utf-8', signal })
      let last: string | undefined
      try {
        await ask(deps.node, request.body, { outlet, signal })
      } catch (error) {
        last = toLine(toErrorEvent(server, error))
      } finally {
        outlet.end(last)
      }
      return undefined
    }),
  )
}

async function ask(
  node: Pick<KoinonNode, 'ask'>,
  request: z.output<typeof askRequestSchema>,
  { outlet, signal }: { readonly outlet: Outlet; readonly signal: AbortSignal },
): Promise<void> {
  const { peer, command: name, body, timeoutMs, attachment, wantsAttachment } = request
  const tell = (event: AskEvent): Promise<void> => outlet.write(toLine(event))
  const answer = await node.ask(
    peer,
    { name, body },
    {
      signal,
      onEvent: event => tell({ kind: 'event', event: toDagJson(event) }),
      ...(timeoutMs === undefined ? {} : { deadlineMs: timeoutMs }),
      ...(attachment === undefined ? {} : { attachment: attachmentOfBytes(attachment) }),
    },
  )
  try {
    const { sizeBytes } = answer.attachment ?? {}
    const size = sizeBytes === undefined ? {} : { attachment: { sizeBytes } }
    await tell({ kind: 'answer', body: toDagJson(answer.body), ...size })
    if (!wantsAttachment || answer.attachment === undefined) return
    for await (const piece of piecesOf(answer.attachment, signal))
      await tell({ kind: 'bytes', base64: toBase64(piece) })
  } finally {
    await answer.attachment?.release()
  }
}

/** An attachment comes in pieces of any size; a line has a bound. */
async function* piecesOf(attachment: Attachment, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of attachment.read({ from: 0, signal })) {
    for (let from = 0; from < piece.byteLength; from += ASK_PIECE_BYTES_MAX) {
      yield piece.subarray(from, from + ASK_PIECE_BYTES_MAX)
    }
  }
}

function toErrorEvent(server: Server, error: unknown): AskEvent {
  const { code, message } = server.tell(error).body.error
  const fault: object = error instanceof KoinonError ? error.fault : {}
  return {
    kind: 'error',
    code: code ?? 'INTERNAL',
    message,
    ...('remoteCode' in fault && typeof fault.remoteCode === 'string' ? { remoteCode: fault.remoteCode } : {}),
    ...('retryAfterMs' in fault && typeof fault.retryAfterMs === 'number' ? { retryAfterMs: fault.retryAfterMs } : {}),
  }
}

function toLine(event: AskEvent): string {
  return `${JSON.stringify(event)}\n`
}
