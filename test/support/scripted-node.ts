/** A node that says what it is told to say: the HTTP surface is tested over it without engines or a network. */
import { abortable } from '#base'
import type { KeyRotationRequest, KoinonNode } from '#node'
import type { CompletionEvent, CompletionRequest, ModelSummary, PlanReport, TokenInfo } from '#wire'
import { createHeldModels } from './held-models.ts'

export const MODEL_ID = 'ab'.repeat(32)

export const MODEL: ModelSummary = {
  id: MODEL_ID,
  name: 'Storyteller 2M',
  architecture: 'llama',
  file: '/models/storyteller.gguf',
  fileBytes: 2_000_000,
  createdAt: 1_700_000_000,
  layerCount: 8,
  width: 64,
  contextTrain: 512,
  served: [{ peer: 'self', layers: { first: 0, last: 8 } }],
  isComplete: true,
}

export type Script = (
  request: CompletionRequest,
  options: { readonly signal: AbortSignal },
) => AsyncGenerator<CompletionEvent>

export type ScriptedNode = KoinonNode & {
  /** What was asked for, in order. */
  readonly requests: CompletionRequest[]
  /** The signal of each request. */
  readonly signals: AbortSignal[]
  /** What the key was to be rotated to. */
  readonly rotations: (KeyRotationRequest | undefined)[]
  /** Resolves when no completion runs. */
  idle(): Promise<void>
  readonly api: { address?: string }
}

/** Says these words, one token each, whatever is asked; with log-probabilities where they are asked for. */
export function saying(words: readonly string[]): Script {
  return async function* (request) {
    yield start(request)
    const told = words.slice(0, request.tokensMax)
    for (const [token, text] of told.entries()) {
      yield { kind: 'delta', text, tokens: [tokenInfo(token, text, request)] }
    }
    const reason = told.length < words.length ? 'length' : 'stop'
    yield { kind: 'end', reason, usage: { promptTokens: 5, completionTokens: told.length } }
  }
}

/** Says one word, then nothing until it is aborted. */
export async function* sayingOnceThenWaiting(
  request: CompletionRequest,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<CompletionEvent> {
  yield start(request)
  yield { kind: 'delta', text: 'Once', tokens: [] }
  await abortable(new Promise<never>(() => undefined), signal)
}

/** Fails with `error` after `events` events. */
export function failing(error: Error, events = 0): Script {
  return async function* (request) {
    if (events > 0) yield start(request)
    for (let i = 1; i < events; i++) yield { kind: 'delta', text: 'half ', tokens: [] }
    throw error
  }
}

export function start(request: CompletionRequest): CompletionEvent {
  return {
    kind: 'start',
    generation: '00'.repeat(16),
    model: request.model,
    promptTokens: 5,
    route: [{ peer: 'self', layers: { first: 0, last: 8 } }],
  }
}

function tokenInfo(token: number, text: string, request: CompletionRequest): TokenInfo {
  if (request.topLogprobs === undefined) return { token }
  const bytes = [...new TextEncoder().encode(text)]
  const logprob = { token, text, bytes, logprob: -0.25 }
  const other = { token: 900, text: '\ufffd', bytes: [0xe2], logprob: -Infinity }
  return { token, logprob, top: [logprob, other].slice(0, request.topLogprobs) }
}

export function createScriptedNode(script: Script = saying(['Once', ' upon', ' a', ' time'])): ScriptedNode {
  const requests: CompletionRequest[] = []
  const signals: AbortSignal[] = []
  const rotations: (KeyRotationRequest | undefined)[] = []
  const api: { address?: string } = {}
  const running = new Set<Promise<void>>()
  return {
    requests,
    signals,
    rotations,
    api,
    idle: async () => {
      await Promise.all(running)
    },
    peer: 'self',
    socket: '/nowhere',
    models: () => [MODEL],
    peers: () => [],
    plan: model => plan(model),
    reachability: () => {
      throw new Error('no network here')
    },
    status: () => ({
      peer: 'self',
      pid: 1,
      agent: 'koinon/test',
      uptimeMs: 1,
      addresses: [],
      dataDir: '/nowhere',
      placement: 'all layers',
      stages: [],
      engines: [],
      generations: [],
      kvRows: 0,
      peers: 0,
    }),
    complete: async function* (request, options) {
      requests.push(request)
      signals.push(options.signal)
      const ended = Promise.withResolvers<void>()
      running.add(ended.promise)
      try {
        yield* script(request, options)
      } finally {
        running.delete(ended.promise)
        ended.resolve()
      }
    },
    weights: createHeldModels({ models: [] }),
    commands: () => [],
    ask: async () => ({ body: {} }),
    find: async function* () {
      yield* [] as never[]
    },
    rotateKey: async request => {
      rotations.push(request)
      return { from: 'self', to: 'next' }
    },
    network: () => {
      throw new Error('a scripted node has no network')
    },
    drain: async () => undefined,
    health: () => ({ ok: true }),
    setApi: address => {
      api.address = address
    },
    stop: () => Promise.resolve(),
  }
}

/** Everything that an iterable gives. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

function plan(model: string): PlanReport {
  return {
    model,
    name: MODEL.name,
    layerCount: 8,
    weightBytes: 1,
    edgeBytes: 1,
    kvBytesPerGeneration: 1,
    fits: true,
    summary: 'it fits',
    stages: [],
    tokensPerSecond: 1,
    why: [],
  }
}
