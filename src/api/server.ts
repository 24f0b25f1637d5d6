/**
 * What both surfaces (TCP for programs, a local socket for the command line) have in common: a Fastify server whose
 * every answer, good or bad, down to a broken request line, has OpenAI's form; bounded in size, time and number; and
 * which knows its requests in flight, so that it can stop.
 */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import {
  fastify,
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyTypeProvider,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify'
import type { z } from 'zod'
import { type Clock, codeOf, KoinonError, type Logger, messageOf, type Random, toHex, withDeadline } from '#base'
import { UNSUPPORTED_PARAMETER } from '#wire'
import { ApiError } from './errors.ts'
import { type HttpError, toHttpError } from './http-errors.ts'
import {
  CONNECTIONS_MAX,
  HEADER_BYTES_MAX,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_TIMEOUT_MS,
  REQUEST_TIMEOUT_MS,
  STOP_GRACE_MS,
  TIMEOUT_CHECK_MS,
} from './limits.ts'

/** Lets a route's zod schemas give its handler their types. */
interface ZodTypes extends FastifyTypeProvider {
  readonly validator: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown
}

type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypes
>

export type ServerDeps = { readonly clock: Clock; readonly random: Random; readonly log: Logger }

export type ServerOptions = {
  readonly bodyBytesMax: number
  /** Tell errors with Koinon's own codes and sentences. */
  readonly ownErrors?: boolean
}

export interface Server {
  readonly app: App
  /** How an error is told here; what should not have happened is logged. */
  readonly tell: (error: unknown) => HttpError
  /**
   * Runs a task whose signal aborts when the client goes away or the surface stops. Resolves with undefined where the
   * client is gone: there is nobody to answer.
   */
  attend<T>(reply: FastifyReply, task: (signal: AbortSignal) => Promise<T>): Promise<T | undefined>
  /**
   * Refuses what comes, lets what is in flight come to its end for `drainMs` (0 where it is not said), aborts what is left,
   * closes every connection. Idempotent.
   */
  stop(options?: StopOptions): Promise<void>
}

export type StopOptions = { readonly drainMs?: number }

/** No page may sniff, frame or embed what this surface says, and no cache may keep it. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}

export function createServer(deps: ServerDeps, options: ServerOptions): Server {
  const tell = (error: unknown): HttpError => {
    const told = toHttpError(error, { own: options.ownErrors === true })
    if (told.status === 500) deps.log.error('a request failed', { code: codeOf(error), error: messageOf(error) })
    return told
  }
  const answerError = (error: Error, reply: FastifyReply): void => {
    const { status, headers, body } = tell(fromFastify(error))
    void reply
      .code(status)
      .headers({ ...SECURITY_HEADERS, ...headers })
      .send(body)
  }
  const inFlight = new InFlight(deps.clock)
  const app: App = fastify({
    logger: false,
    bodyLimit: options.bodyBytesMax,
    return503OnClosing: false,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // A model's name may be a long one.
    routerOptions: { maxParamLength: 1024 },
    genReqId: () => `req_${toHex(deps.random.bytes(12))}`,
    http: {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      // A missing Host is refused by the guard, in words.
      requireHostHeader: false,
    },
    frameworkErrors: (error, _request, reply) => answerError(error, reply),
    clientErrorHandler: refuseBrokenRequest,
  }).withTypeProvider<ZodTypes>()
  app.server.maxConnections = CONNECTIONS_MAX
  // Only JSON is taken: a form or plain text needs no preflight, so any web page could send it.
  app.removeContentTypeParser('text/plain')
  app.setValidatorCompiler(
    ({ schema }) =>
      data =>
        validate(schema as z.ZodType, data),
  )
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ ...SECURITY_HEADERS, 'x-request-id': request.id })
    if (inFlight.isStopping) throw stopping()
  })
  app.setErrorHandler((error: FastifyError, _request, reply) => answerError(error, reply))
  app.setNotFoundHandler(request => {
    const path = request.url.split('?', 1)[0] ?? ''
    throw new ApiError({ code: 'API_ROUTE_UNKNOWN' }, `unknown request URL: ${request.method} ${path}`)
  })
  refuseOtherMethods(app)
  return {
    app,
    attend: (reply, task) => inFlight.attend(reply, task).then(result => result ?? void reply.hijack()),
    tell,
    stop: ({ drainMs = 0 } = {}) => inFlight.stop(() => close(app), drainMs),
  }
}

async function close(app: App): Promise<void> {
  app.server.closeAllConnections()
  await app.close()
}

function stopping(): ApiError {
  return new ApiError({ code: 'API_STOPPING' }, 'the node is stopping')
}

/** The requests that are being answered. */
class InFlight {
  readonly #clock: Clock
  /** How to abort each, and when its connection has taken the whole answer or is gone. */
  readonly #open = new Map<AbortController, Promise<void>>()
  #stopped: Promise<void> | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get isStopping(): boolean {
    return this.#stopped !== undefined
  }

  async attend<T>(reply: FastifyReply, task: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const { socket } = reply.request.raw
    if (socket.destroyed) return undefined
    const left = new AbortController()
    this.#open.set(left, this.#untilClosed(reply.raw, { socket, left }))
    try {
      return await task(left.signal)
    } catch (error) {
      if (socket.destroyed) return undefined
      throw error
    }
  }

  /** The socket is watched too: the second of two pipelined responses does not hear that the client left. */
  #untilClosed(
    response: ServerResponse,
    { socket, left }: { readonly socket: Socket; readonly left: AbortController },
  ): Promise<void> {
    return new Promise(resolve => {
      const onClose = (): void => {
        response.off('close', onClose)
        socket.off('close', onClose)
        this.#open.delete(left)
        if (!response.writableFinished) {
          left.abort(new ApiError({ code: 'API_CLIENT_GONE' }, 'the client closed the connection'))
        }
        resolve()
      }
      response.once('close', onClose)
      socket.once('close', onClose)
    })
  }

  stop(close: () => Promise<void>, drainMs: number): Promise<void> {
    this.#stopped ??= this.#end(drainMs).then(close)
    return this.#stopped
  }

  async #end(drainMs: number): Promise<void> {
    const closed = [...this.#open.values()]
    const drain = { what: 'finishing the answers in flight', timeoutMs: drainMs }
    // Those that do not come to their end in time end with an error.
    if (drainMs > 0) await withDeadline(this.#clock, drain, () => Promise.all(closed)).catch(() => undefined)
    for (const left of this.#open.keys()) left.abort(stopping())
    const deadline = { what: 'ending the answers in flight', timeoutMs: STOP_GRACE_MS }
    // An answer that does not end in time loses its connection, which is what comes next for all.
    await withDeadline(this.#clock, deadline, () => Promise.all(closed)).catch(() => undefined)
  }
}

function validate(schema: z.ZodType, data: unknown): { value: unknown } | { error: Error } {
  const result = schema.safeParse(data)
  if (result.success) return { value: result.data }
  const issue = result.error.issues[0]
  const param = issue === undefined ? '' : toParam(issue.path)
  const isUnsupported = issue?.code === 'custom' && issue.params?.['code'] === UNSUPPORTED_PARAMETER
  const fault = {
    code: isUnsupported ? 'API_NOT_SUPPORTED' : 'API_REQUEST_INVALID',
    ...(param !== '' && { param }),
  } as const
  const sentence = `${param === '' ? 'the request body' : param}: ${issue?.message ?? 'not valid'}`
  // Fastify writes fields into the error that it is given, so ours travels as its cause.
  return { error: new Error('not valid', { cause: new ApiError(fault, sentence) }) }
}

/** ['messages', 0, 'content'] is messages[0].content. */
function toParam(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`),
    '',
  )
}

/** What Fastify refused on its own, in our words; anything else as it is. */
function fromFastify(error: Error & { readonly code?: string; readonly statusCode?: number }): Error {
  if (error instanceof KoinonError) return error
  if (error.cause instanceof ApiError && error.code === 'FST_ERR_VALIDATION') return error.cause
  const options = { cause: error }
  switch (error.statusCode) {
    case 413:
      return new ApiError({ code: 'API_BODY_SIZE' }, 'the request body is too large', options)
    case 415:
      return new ApiError({ code: 'API_BODY_TYPE' }, 'send JSON, with "content-type: application/json"', options)
    case 400:
      // Fastify's and the JSON parser's sentences may quote the body, which is the user's.
      return new ApiError({ code: 'API_BODY_INVALID' }, 'the request is not valid JSON or not valid HTTP', options)
    case 404:
    case 414:
      return new ApiError({ code: 'API_ROUTE_UNKNOWN' }, 'unknown request URL', options)
    case undefined:
    default:
      return error
  }
}

/** Gives every route's path an answer to the methods that it does not take: 405, with those that it takes. */
function refuseOtherMethods(app: App): void {
  const refused = new Set<string>()
  const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const
  app.addHook('onRoute', route => {
    const allowed = [route.method].flat()
    if (refused.has(route.url) || allowed.includes('HEAD')) return
    refused.add(route.url)
    const allow = [...allowed, ...(allowed.includes('GET') ? ['HEAD'] : [])].join(', ')
    app.route({
      url: route.url,
      method: methods.filter(method => !allowed.includes(method)),
      onRequest: async () => {
        throw new ApiError({ code: 'API_METHOD_REFUSED', allow }, `this path takes ${allow} only`)
      },
      handler: async () => undefined,
    })
  })
}

/** A request that the HTTP parser gave up on: there is no reply object yet, so the answer is written by hand. */
function refuseBrokenRequest(error: Error & { readonly code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [line, message] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ['431 Request Header Fields Too Large', 'the header lines are too large']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'the request took too long to arrive']
        : ['400 Bad Request', 'this is not HTTP']
  const body = JSON.stringify({
    error: { message, type: 'invalid_request_error', param: null, code: 'invalid_http' },
  })
  const head = ['content-type: application/json; charset=utf-8', `content-length: ${body.length}`, 'connection: close']
  socket.end(`HTTP/1.1 ${line}\r\n${head.join('\r\n')}\r\n\r\n${body}`)
}
