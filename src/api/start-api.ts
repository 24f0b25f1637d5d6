/** The HTTP API for programs: OpenAI's routes on a TCP port, guarded against browsers that were led here. */
import { once } from 'node:events'
import { isIP } from 'node:net'
import { type Clock, type Logger, messageOf, type Random } from '#base'
import type { KoinonNode } from '#node'
import { ApiError } from './errors.ts'
import { checkCaller, createHostRules } from './guard.ts'
import { BODY_BYTES_MAX } from './limits.ts'
import { addOpenAiRoutes } from './openai-routes.ts'
import { createServer, type StopOptions } from './server.ts'

export type ApiDeps = {
  readonly node: KoinonNode
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export type ApiOptions = {
  /** Name or address to listen on. Anything but a loopback address opens the API to the network; it asks for no key. */
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Further names under which the API may be addressed (`Host`) and used by pages (`Origin`). `*`: any Host. */
  readonly allowedHosts?: readonly string[]
  /** @default BODY_BYTES_MAX */
  readonly bodyBytesMax?: number
}

export type Api = {
  /** "http://127.0.0.1:11435" */
  readonly address: string
  /** Ends what is in flight with an error and closes every connection. Idempotent. */
  stop(options?: StopOptions): Promise<void>
}

/** Serves the API and tells the node its address. @throws ApiError API_LISTEN_FAILED */
export async function startApi(deps: ApiDeps, options: ApiOptions): Promise<Api> {
  const server = createServer(deps, { bodyBytesMax: options.bodyBytesMax ?? BODY_BYTES_MAX })
  const rules = createHostRules(options.host, options.allowedHosts ?? [])
  server.app.addHook('onRequest', async request => {
    const { host, origin } = request.headers
    checkCaller({ host, origin, localAddress: request.socket.localAddress }, rules)
  })
  addOpenAiRoutes(server, deps)
  await server.app.ready()
  try {
    // Not by Fastify's listen(): for `localhost` it would make a second server, which no limit of ours reaches.
    server.app.server.listen({ host: options.host, port: options.port })
    await once(server.app.server, 'listening')
  } catch (error) {
    await server.stop()
    throw listenFailed(options, error)
  }
  const bound = server.app.server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.port
  const address = `http://${isIP(options.host) === 6 ? `[${options.host}]` : options.host}:${port}`
  deps.node.setApi(address)
  deps.log.info('the API listens', { address })
  return { address, stop: options => server.stop(options) }
}

function listenFailed(options: ApiOptions, cause: unknown): ApiError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const where = `${options.host}:${options.port}`
  const sentence =
    code === 'EADDRINUSE'
      ? `the API cannot listen on ${where}: another program does; choose another port`
      : code === 'EACCES'
        ? `the API may not listen on ${where}; choose a port above 1023`
        : `the API cannot listen on ${where}: ${messageOf(cause)}`
  return new ApiError({ code: 'API_LISTEN_FAILED' }, sentence, { cause })
}
