/**
 * Answers one request: prompt to tokens, a route, the generation along it, and text out of its tokens. A stage that is
 * lost or full before the first token costs the client nothing but time: another route is tried.
 */
import { abortable, codeOf, type Logger } from '#base'
import type { EdgeEngine, EdgeReport, NextToken } from '#engine'
import { TextStream } from '#formats'
import { type Entry, PipelineError } from '#pipeline'
import { describePlanFault, findRoute, isPlanFault, type Route, type RouteOffer } from '#planner'
import type { CompletionEvent, CompletionRequest } from '#wire'
import { NodeError } from './errors.ts'
import type { Gate } from './gate.ts'
import { ROUTES_TRIED_MAX } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import { type PromptDeps, toTokens } from './prompt-tokens.ts'
import { toTokenInfo } from './token-info.ts'

export type CompletionDeps = {
  readonly log: Logger
  readonly gate: Gate
  readonly edge: Pick<EdgeEngine, 'tokenize'>
  readonly report: EdgeReport
  readonly entry: Pick<Entry, 'generate'>
  readonly routeOffers: (model: string) => readonly RouteOffer[]
  readonly renderChat: PromptDeps['renderChat']
}

/** One answer in the making. */
type Task = {
  readonly model: LocalModel
  readonly request: CompletionRequest
  readonly prompt: Int32Array
  readonly signal: AbortSignal
}

/** A way through the swarm, and how many tokens it has room for. */
type Way = { readonly route: Route; readonly tokensMax: number }

/** @throws KoinonError, of this module or of the one that failed */
export async function* complete(
  deps: CompletionDeps,
  { model, request }: { readonly model: LocalModel; readonly request: CompletionRequest },
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<CompletionEvent, void, undefined> {
  const leave = await deps.gate.enter(signal)
  try {
    const prompt = await abortable(toTokens(deps, request.prompt, signal), signal)
    yield* generate(deps, { model, request, prompt, signal })
  } finally {
    leave()
  }
}

async function* generate(deps: CompletionDeps, task: Task): AsyncGenerator<CompletionEvent, void, undefined> {
  const failed = new Set<string>()
  let way = chooseWay(deps, task, failed)
  for (let tried = 1; ; tried++) {
    const answer = new Answer(task, way)
    try {
      yield* follow(deps, task, { way, answer })
      return
    } catch (error) {
      const peer = answer.hasTokens || task.signal.aborted ? undefined : blamed(error)
      if (peer === undefined || tried >= ROUTES_TRIED_MAX) throw error
      failed.add(peer)
      way = anotherWay(deps, task, { failed, error })
      deps.log.info('a stage failed before the first token, trying another route', { peer, code: codeOf(error) })
    }
  }
}

async function* follow(
  deps: CompletionDeps,
  { model, request, prompt, signal }: Task,
  { way, answer }: { readonly way: Way; readonly answer: Answer },
): AsyncGenerator<CompletionEvent, void, undefined> {
  const events = deps.entry.generate(
    {
      model: model.id,
      width: model.config.width,
      prompt,
      sampling: request.sampling,
      tokensMax: way.tokensMax,
      route: way.route.hops,
      ...(request.topLogprobs === undefined ? {} : { topLogprobs: request.topLogprobs }),
      ...(request.logits === undefined ? {} : { logits: request.logits }),
      ...(request.ignoreEnd === undefined ? {} : { ignoreEnd: request.ignoreEnd }),
    },
    { signal },
  )
  for await (const event of events) {
    // The start is told with the first token: until then another route may have to be taken.
    if (event.kind === 'opened') answer.generation = event.generation
    else yield* answer.take(event.next)
    // Leaving the loop cancels the generation on every stage.
    if (answer.isDone) return
  }
  yield* answer.end('length')
}

/** Text, counts and the order of events of one answer. */
class Answer {
  generation = ''
  isDone = false
  readonly #task: Task
  readonly #way: Way
  readonly #text: TextStream
  #count = 0

  constructor(task: Task, way: Way) {
    this.#task = task
    this.#way = way
    this.#text = new TextStream(task.request.stop)
  }

  get hasTokens(): boolean {
    return this.#count > 0
  }

  *take(next: NextToken): Generator<CompletionEvent, void, undefined> {
    if (this.#count === 0) yield this.#start()
    this.#count++
    if (next.isEnd && this.#task.request.ignoreEnd !== true) {
      yield* this.end('stop')
      return
    }
    const { text, stopped } = this.#text.push(next.piece)
    yield { kind: 'delta', text, tokens: [toTokenInfo(next)] }
    if (stopped) yield* this.#finish('stop')
    else if (this.#count >= this.#way.tokensMax) yield* this.end('length')
  }

  /** Lets go of what was held back as a possible stop text or an incomplete character, then ends. */
  *end(reason: 'stop' | 'length'): Generator<CompletionEvent, void, undefined> {
    if (this.isDone) return
    if (this.#count === 0) yield this.#start()
    const { text, stopped } = this.#text.end()
    if (text !== '') yield { kind: 'delta', text, tokens: [] }
    yield* this.#finish(stopped ? 'stop' : reason)
  }

  *#finish(reason: 'stop' | 'length'): Generator<CompletionEvent, void, undefined> {
    this.isDone = true
    const usage = { promptTokens: this.#task.prompt.length, completionTokens: this.#count }
    yield { kind: 'end', reason, usage }
  }

  #start(): CompletionEvent {
    return {
      kind: 'start',
      generation: this.generation,
      model: this.#task.model.id,
      promptTokens: this.#task.prompt.length,
      route: this.#way.route.hops.map(({ peer, layers }) => ({ peer, layers })),
    }
  }
}

/** The peer that a failure speaks of, where another route could do better. */
function blamed(error: unknown): string | undefined {
  return error instanceof PipelineError && 'peer' in error.fault ? error.fault.peer : undefined
}

function anotherWay(
  deps: CompletionDeps,
  task: Task,
  { failed, error }: { readonly failed: ReadonlySet<string>; readonly error: unknown },
): Way {
  try {
    return chooseWay(deps, task, failed)
  } catch {
    // Without the failed stage there is no way: then its failure is what the client should hear of.
    throw error
  }
}

/** @throws NodeError NODE_NO_ROUTE, NODE_CONTEXT_EXCEEDED */
function chooseWay(deps: CompletionDeps, { model, request, prompt }: Task, exclude: ReadonlySet<string>): Way {
  const query = { model: model.id, layerCount: model.config.layerCount, exclude }
  const offers = deps.routeOffers(model.id)
  const positions = prompt.length + (request.tokensMax ?? 1)
  const route = findRoute(offers, { ...query, positions })
  if (!isPlanFault(route)) return { route, tokensMax: request.tokensMax ?? route.contextMax - prompt.length }
  const shorter = findRoute(offers, query)
  if (isPlanFault(shorter)) {
    const uncovered = shorter.code === 'PLAN_NO_ROUTE' ? shorter.uncovered : []
    throw new NodeError({ code: 'NODE_NO_ROUTE', uncovered }, `${model.name}: ${describePlanFault(shorter)}`)
  }
  const { contextMax } = shorter
  const wanted = request.tokensMax === undefined ? '' : ` and ${request.tokensMax} tokens of answer`
  throw new NodeError(
    { code: 'NODE_CONTEXT_EXCEEDED', promptTokens: prompt.length, tokensMax: request.tokensMax ?? 0, contextMax },
    `a prompt of ${prompt.length} tokens${wanted} is beyond the context of ${contextMax}`,
  )
}
