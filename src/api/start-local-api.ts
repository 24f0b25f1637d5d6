/**
 * The node's socket for its owner's command line: OpenAI's routes, and local ones in the node's own words. Who may
 * connect is decided by the file's mode (0600), so there are no further checks.
 */
import { once } from 'node:events'
import { chmod, lstat, rm } from 'node:fs/promises'
import type { Server as HttpServer } from 'node:http'
import { type Clock, type Logger, messageOf, type Random } from '#base'
import type { KoinonNode } from '#node'
import type { CompletionEvent, CompletionRequest } from '#wire'
import { addAskRoutes } from './ask-route.ts'
import { ApiError } from './errors.ts'
import { addFindRoute } from './find-route.ts'
import { LOCAL_BODY_BYTES_MAX } from './limits.ts'
import { completionRequestSchema, keyRotationSchema, planQuerySchema } from './local-schema.ts'
import { addOpenAiRoutes, openStream } from './openai-routes.ts'
import { createServer, type Server, type StopOptions } from './server.ts'
import { addWeightsRoutes } from './weights-routes.ts'

export type LocalApiDeps = {
  readonly node: KoinonNode
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export type LocalApiOptions = {
  /** Path of the socket, or of the named pipe on Windows (`\\.\pipe\...`). */
  readonly socket: string
  /** Called when a command asks for the node to stop, after it was answered. */
  readonly onStop: () => void
}

/** The last line of `POST /local/complete` where the generation failed. */
type LocalErrorEvent = { readonly kind: 'error'; readonly code: string; readonly message: string }

/** @throws ApiError API_LISTEN_FAILED */
export async function startLocalApi(
  deps: LocalApiDeps,
  options: LocalApiOptions,
): Promise<{ stop(options?: StopOptions): Promise<void> }> {
  const server = createServer(deps, { bodyBytesMax: LOCAL_BODY_BYTES_MAX, ownErrors: true })
  addOpenAiRoutes(server, deps)
  addLocalRoutes(server, deps, options)
  await server.app.ready()
  try {
    await listenOnSocket(server.app.server, options.socket)
  } catch (cause) {
    await server.stop()
    const sentence = `the node cannot listen on its socket ${options.socket}: ${messageOf(cause)}`
    throw new ApiError({ code: 'API_LISTEN_FAILED' }, sentence, { cause })
  }
  return {
    stop: async stopOptions => {
      await server.stop(stopOptions)
      if (isFile(options.socket)) await rm(options.socket, { force: true })
    },
  }
}

function addLocalRoutes(server: Server, deps: LocalApiDeps, options: LocalApiOptions): void {
  const { app } = server
  const { node } = deps
  app.get('/local/status', async () => node.status())
  app.get('/local/reach', async () => node.reachability())
  app.get('/local/peers', async () => node.peers())
  app.get('/local/net', async () => node.network())
  app.get('/local/models', async () => node.models())
  app.get('/local/plan', { schema: { querystring: planQuerySchema } }, async ({ query }) => node.plan(query.model))
  app.post('/local/complete', { schema: { body: completionRequestSchema } }, async (request, reply) =>
    server.attend(reply, async signal => {
      const outlet = openStream(deps, reply, { type: 'application/x-ndjson; charset=utf-8', signal })
      let last: string | undefined
      try {
        for await (const event of complete(node, request.body, signal)) await outlet.write(toLine(event))
      } catch (error) {
        const { message, code } = server.tell(error).body.error
        last = toLine({ kind: 'error', code: code ?? 'INTERNAL', message })
      } finally {
        outlet.end(last)
      }
      return undefined
    }),
  )
  addAskRoutes(server, deps)
  addFindRoute(server, deps)
  addWeightsRoutes(server, deps)
  app.post('/local/rotate', { schema: { body: keyRotationSchema } }, async ({ body }) => node.rotateKey(body))
  app.post('/local/stop', async (_request, reply) => {
    reply.raw.once('close', options.onStop)
    reply.code(202)
    return { stopping: true }
  })
}

async function* complete(
  node: KoinonNode,
  request: CompletionRequest,
  signal: AbortSignal,
): AsyncGenerator<CompletionEvent, void, undefined> {
  yield* node.complete(request, { signal })
  signal.throwIfAborted()
}

function toLine(event: CompletionEvent | LocalErrorEvent): string {
  return `${JSON.stringify(event)}\n`
}

/** Whether the socket is a file in a directory, and not a named pipe of Windows. */
function isFile(socket: string): boolean {
  return !socket.startsWith('\\\\')
}

async function listenOnSocket(server: HttpServer, socket: string): Promise<void> {
  if (!isFile(socket)) {
    server.listen(socket)
    await once(server, 'listening')
    return
  }
  await removeStale(socket)
  // The socket appears in the file system within this call of listen(), which is synchronous: nobody else can have
  // opened it before its mode is narrow, and no other file is made under this mask.
  const mask = process.umask(0o177)
  try {
    server.listen(socket)
  } finally {
    process.umask(mask)
  }
  await once(server, 'listening')
  await chmod(socket, 0o600)
}

/** A killed node leaves its socket behind. Its data directory is locked by us now, so it is nobody's; other files stay. */
async function removeStale(socket: string): Promise<void> {
  const stats = await lstat(socket).catch(() => undefined)
  if (stats === undefined) return
  if (!stats.isSocket()) throw new Error('there is a file of that name which is not a socket')
  await rm(socket)
}
