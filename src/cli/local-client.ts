/**
 * How the command line talks to a running node: HTTP over the socket in the node's data directory. Every answer is
 * bounded in size and time; a streamed answer has no time limit, because the person who reads it is its limit.
 */
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http'
import { abortError, type Clock, messageOf, withDeadline } from '#base'
import type { KeyRotated, KeyRotationRequest } from '#node'
import type {
  AskEvent,
  AskRequest,
  CommandSummary,
  CompletionEvent,
  CompletionRequest,
  FindRequest,
  FoundServiceSummary,
  ModelSummary,
  ReachReport,
  NodeStatus,
  NetworkStatus,
  PeerSummary,
  PlanReport,
} from '#wire'
import { CliError } from './errors.ts'
import { LOCAL_ANSWER_BYTES_MAX, LOCAL_ANSWER_MS_MAX, LOCAL_CONNECT_MS_MAX, LOCAL_EVENT_BYTES_MAX } from './limits.ts'
import { createWeightsClient, type WeightsClient } from './weights-client.ts'

export interface LocalClient {
  status(): Promise<NodeStatus>
  reachability(): Promise<ReachReport>
  peers(): Promise<readonly PeerSummary[]>
  network(): Promise<NetworkStatus>
  models(): Promise<readonly ModelSummary[]>
  plan(model: string): Promise<PlanReport>
  /** Aborting the signal ends the connection, which cancels the generation on every stage. */
  complete(request: CompletionRequest, options: { readonly signal: AbortSignal }): AsyncGenerator<CompletionEvent>
  /** Goes over to another key. */
  rotateKey(request: KeyRotationRequest): Promise<KeyRotated>
  /** The commands that the node can give to its peers. */
  commands(): Promise<readonly CommandSummary[]>
  /**
   * Gives a peer of the node a command. Where an error ends it, it is thrown. Aborting the signal, or leaving the loop,
   * cancels the command.
   */
  ask(request: AskRequest, options: { readonly signal: AbortSignal }): AsyncGenerator<AskAnswer>
  /** Looks for a service; results as they come in. Aborting the signal, or leaving the loop, ends the search. */
  find(request: FindRequest, options: { readonly signal: AbortSignal }): AsyncGenerator<FoundServiceSummary>
  /** Models' weights: what is here, adding, pulling, sharing. */
  readonly weights: WeightsClient
  /** Asks the node to stop; resolves when it has agreed. */
  stop(): Promise<void>
}

/** What comes back of a command: events, the answer, and its attachment as base64, in pieces. */
export type AskAnswer = Exclude<AskEvent, { readonly kind: 'error' }>

export type LocalClientOptions = {
  /** Path of the node's socket (a pipe on Windows). */
  readonly socket: string
  /** For the sentence that says that no node runs there. */
  readonly dataDir: string
}

/** @throws CliError from every method: CLI_NO_NODE, CLI_NODE_REFUSED, CLI_NODE_SILENT, CLI_ANSWER_INVALID */
export function createLocalClient(deps: { readonly clock: Clock }, options: LocalClientOptions): LocalClient {
  const request = async <T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> => {
    const deadline = { what: 'the node', timeoutMs: LOCAL_ANSWER_MS_MAX }
    const text = await withDeadline(deps.clock, deadline, async signal => {
      const response = await open(deps.clock, options, {
        method,
        path,
        signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      return readText(response)
    }).catch((error: unknown) => {
      if (error instanceof CliError) throw error
      const fault = { code: 'CLI_NODE_SILENT', timeoutMs: LOCAL_ANSWER_MS_MAX } as const
      throw new CliError(fault, `the node did not answer: ${messageOf(error)}`, { cause: error })
    })
    return parseJson(text) as T
  }
  return {
    status: () => request('GET', '/local/status'),
    reachability: () => request('GET', '/local/reach'),
    peers: () => request('GET', '/local/peers'),
    network: () => request('GET', '/local/net'),
    models: () => request('GET', '/local/models'),
    plan: model => request('GET', `/local/plan?model=${encodeURIComponent(model)}`),
    rotateKey: asked => request('POST', '/local/rotate', asked),
    stop: async () => {
      await request('POST', '/local/stop')
    },
    commands: () => request('GET', '/local/commands'),
    complete: (asked, { signal }) => streamCompletion({ clock: deps.clock, options, signal }, asked),
    ask: (asked, { signal }) => streamAsk({ clock: deps.clock, options, signal }, asked),
    find: (asked, { signal }) => streamFind({ clock: deps.clock, options, signal }, asked),
    weights: createWeightsClient({
      request,
      stream: (asked, signal) => streamValues({ clock: deps.clock, options, signal }, asked),
    }),
  }
}

type StreamContext = { readonly clock: Clock; readonly options: LocalClientOptions; readonly signal: AbortSignal }

async function* streamCompletion(context: StreamContext, request: CompletionRequest): AsyncGenerator<CompletionEvent> {
  let hasEnded = false
  for await (const value of streamValues(context, { path: '/local/complete', body: request })) {
    const event = readEvent(value)
    hasEnded ||= event.kind === 'end'
    yield event
  }
  if (!hasEnded) throw endedEarly()
}

async function* streamAsk(context: StreamContext, request: AskRequest): AsyncGenerator<AskAnswer> {
  /** Of the attachment; undefined: there is no answer yet. */
  let missingBytes: number | undefined
  for await (const value of streamValues(context, { path: '/local/ask', body: request })) {
    const event = readAskEvent(value)
    if (event.kind === 'answer') missingBytes = request.wantsAttachment ? (event.attachment?.sizeBytes ?? 0) : 0
    else if (event.kind === 'bytes') missingBytes = (missingBytes ?? 0) - Buffer.byteLength(event.base64, 'base64')
    yield event
  }
  if (missingBytes !== 0) throw endedEarly()
}

async function* streamFind(context: StreamContext, request: FindRequest): AsyncGenerator<FoundServiceSummary> {
  for await (const value of streamValues(context, { path: '/local/find', body: request })) {
    const { kind, found, code, message } = isRecord(value) ? value : {}
    if (kind === 'end') return
    if (kind === 'error') throw new CliError({ code: 'CLI_NODE_REFUSED', remote: String(code) }, String(message))
    if (kind !== 'found' || !isFound(found)) {
      throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent an event of an unknown kind')
    }
    yield found
  }
  throw endedEarly()
}

function isFound(value: unknown): value is FoundServiceSummary {
  return isRecord(value) && typeof value['peer'] === 'string' && Array.isArray(value['addresses'])
}

/** The lines of a streamed answer, as JSON. */
async function* streamValues(
  context: StreamContext,
  asked: { readonly path: string; readonly body: object },
): AsyncGenerator {
  const { signal } = context
  const call = { method: 'POST', path: asked.path, body: JSON.stringify(asked.body), signal } as const
  try {
    const response = await open(context.clock, context.options, call)
    try {
      for await (const line of readLines(response)) yield parseJson(line)
    } finally {
      response.destroy() // Leaving the loop early cancels what was asked: the node sees the connection end.
    }
  } catch (error) {
    if (signal.aborted) throw abortError(signal)
    if (error instanceof CliError) throw error
    throw new CliError({ code: 'CLI_ANSWER_INVALID' }, `the node's answer broke off: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

function endedEarly(): CliError {
  return new CliError({ code: 'CLI_ANSWER_INVALID' }, "the node's answer ended before it was complete")
}

type Call = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body?: string
  readonly signal: AbortSignal
}

/** Sends a request and resolves with a successful response; a refusal is thrown. */
async function open(clock: Clock, options: LocalClientOptions, call: Call): Promise<IncomingMessage> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers =
      call.body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(call.body) }
    const request: ClientRequest = httpRequest({
      socketPath: options.socket,
      host: 'localhost',
      method: call.method,
      path: call.path,
      headers,
      agent: false,
      signal: call.signal,
    })
    const cancelTimer = clock.after(LOCAL_CONNECT_MS_MAX, () => request.destroy(new Error('it does not accept')))
    request.on('socket', socket => socket.once('connect', cancelTimer))
    request.on('response', resolve)
    request.on('error', error => {
      cancelTimer()
      reject(call.signal.aborted ? abortError(call.signal) : connectionError(error, options.dataDir))
    })
    request.end(call.body)
  })
  if (response.statusCode === 200 || response.statusCode === 202 || response.statusCode === 204) return response
  throw refusal(response.statusCode ?? 0, await readText(response))
}

function connectionError(error: NodeJS.ErrnoException, dataDir: string): Error {
  // A socket file without a listener is what a killed node leaves behind.
  const isAbsent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED' || error.code === 'ENOTSOCK'
  if (!isAbsent) return error
  return new CliError(
    { code: 'CLI_NO_NODE', dataDir },
    `no node runs in ${dataDir}; start one with \`koinon up\`, or name its directory with --data-dir`,
    { cause: error },
  )
}

/** What the node said when it refused, as an error that keeps its code. */
function refusal(status: number, body: string): CliError {
  const report = decodeReport(body)
  const remote = report?.code ?? `HTTP_${status}`
  const sentence = report?.message ?? `the node answered with HTTP status ${status}`
  return new CliError({ code: 'CLI_NODE_REFUSED', remote }, sentence)
}

function decodeReport(body: string): { readonly code: string; readonly message: string } | undefined {
  try {
    const value: unknown = JSON.parse(body)
    const inner = isRecord(value) && isRecord(value['error']) ? value['error'] : value
    if (!isRecord(inner) || typeof inner['code'] !== 'string' || typeof inner['message'] !== 'string') return undefined
    return { code: inner['code'], message: inner['message'] }
  } catch {
    return undefined // Not JSON: the caller falls back on the status.
  }
}

function readEvent(value: unknown): CompletionEvent {
  if (!isRecord(value)) throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent something that is no event')
  switch (value['kind']) {
    case 'start':
    case 'delta':
    case 'end':
      return value as unknown as CompletionEvent
    case 'error':
      throw new CliError({ code: 'CLI_NODE_REFUSED', remote: String(value['code']) }, String(value['message']))
    default:
      throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent an event of an unknown kind')
  }
}

function readAskEvent(value: unknown): AskAnswer {
  if (!isRecord(value)) throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent something that is no event')
  const { kind, code, message, remoteCode, retryAfterMs, attachment, base64 } = value
  if (kind === 'error') {
    const fault = {
      code: 'CLI_NODE_REFUSED',
      remote: String(code),
      ...(typeof remoteCode === 'string' ? { peerCode: remoteCode } : {}),
      ...(typeof retryAfterMs === 'number' ? { retryAfterMs } : {}),
    } as const
    throw new CliError(fault, String(message))
  }
  const isAnswer = kind === 'answer' && (attachment === undefined || isRecord(attachment))
  if (kind === 'event' || isAnswer || (kind === 'bytes' && typeof base64 === 'string')) return value as AskAnswer
  throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent an event of an unknown kind')
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parseJson(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch (cause) {
    throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent something that is not JSON', { cause })
  }
}

function tooLarge(bytesMax: number): CliError {
  return new CliError({ code: 'CLI_ANSWER_INVALID' }, `the node sent more than ${bytesMax} bytes at once`)
}

async function readText(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    size += part.byteLength
    if (size > LOCAL_ANSWER_BYTES_MAX) throw tooLarge(LOCAL_ANSWER_BYTES_MAX)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

/** The lines of a streamed body. Bytes are joined before they are decoded, so a character may span two pieces. */
async function* readLines(response: IncomingMessage): AsyncGenerator<string> {
  let waiting: Buffer[] = []
  let size = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    let start = 0
    for (let end = part.indexOf(10); end !== -1; end = part.indexOf(10, start)) {
      const line = Buffer.concat([...waiting, part.subarray(start, end)]).toString('utf8')
      waiting = []
      size = 0
      start = end + 1
      if (line.trim() !== '') yield line
    }
    const rest = part.subarray(start)
    size += rest.byteLength
    if (size > LOCAL_EVENT_BYTES_MAX) throw tooLarge(LOCAL_EVENT_BYTES_MAX)
    if (rest.byteLength > 0) waiting.push(rest)
  }
  if (waiting.length > 0) yield Buffer.concat(waiting).toString('utf8')
}
