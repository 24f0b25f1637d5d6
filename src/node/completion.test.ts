import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, silentLogger } from '#base'
import type { NextToken } from '#engine'
import { type GenerateRequest, type GenerationEvent, PipelineError } from '#pipeline'
import type { RouteOffer } from '#planner'
import { type CompletionEvent, type CompletionRequest, GREEDY, type Prompt } from '#wire'
import { complete, type CompletionDeps } from './completion.ts'
import { Gate } from './gate.ts'
import type { LocalModel } from './model-library.ts'

const MODEL = { id: 'a'.repeat(64), name: 'm', config: { width: 8, layerCount: 4 } } as LocalModel
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const token = (text: string, extra: Partial<NextToken> = {}): NextToken => ({
  token: text.length,
  piece: bytes(text),
  isEnd: false,
  row: new Uint8Array(32),
  ...extra,
})

const offerOf = (peer: string, contextMax = 64): RouteOffer => ({
  peer,
  addresses: [],
  isSelf: false,
  rttMs: peer.length,
  stage: {
    model: MODEL.id,
    layers: { first: 0, last: 4 },
    layerCount: 4,
    contextMax,
    slots: 4,
    slotsFree: 4,
    profile: 'p',
    stepMs: 1,
  },
})

type Script = (request: GenerateRequest, signal: AbortSignal) => AsyncIterable<GenerationEvent>

async function* says(...tokens: readonly NextToken[]): AsyncGenerator<GenerationEvent> {
  yield { kind: 'opened', generation: 'g' }
  for (const next of tokens) yield { kind: 'token', next }
}

/** A route that ends in an error after these tokens. */
async function* breaks(error: Error, ...tokens: readonly NextToken[]): AsyncGenerator<GenerationEvent> {
  yield* says(...tokens)
  throw error
}

const lost = (peer: string): PipelineError => new PipelineError({ code: 'STAGE_LOST', peer }, `${peer} was lost`)

function bench(script: Script, offers: readonly RouteOffer[] = [offerOf('b')]): CompletionDeps & { routes: string[] } {
  const routes: string[] = []
  return {
    routes,
    log: silentLogger,
    gate: new Gate(new ManualClock(), { runningMax: 1, waitingMax: 0, waitMsMax: 1 }),
    // One token a character; a begin token (1) where it is asked for. "<s>" is read as the begin token.
    edge: {
      tokenize: async (text, { addSpecial }) => {
        const rest = text.startsWith('<s>') ? [1, ...bytes(text.slice(3))] : [...bytes(text)]
        return Int32Array.from(addSpecial ? [1, ...rest] : rest)
      },
    },
    report: {
      pid: 1,
      device: 'CPU',
      profile: 'p',
      width: 8,
      vocabularySize: 256,
      weightBytes: 1,
      sandbox: '',
      bosText: '<s>',
      eosText: '</s>',
    },
    entry: {
      generate: async function* (request, { signal }) {
        routes.push(request.route.map(hop => hop.peer).join())
        yield* script(request, signal)
      },
    },
    routeOffers: () => offers,
    renderChat: async messages => `<s>${messages.map(m => m.content).join()}`,
  }
}

const ask = (more: Partial<CompletionRequest> = {}): CompletionRequest => ({
  model: 'm',
  prompt: { kind: 'text', text: 'hi' },
  sampling: GREEDY,
  tokensMax: 8,
  stop: [],
  ...more,
})

async function run(
  deps: CompletionDeps,
  request = ask(),
  signal = new AbortController().signal,
): Promise<CompletionEvent[]> {
  const events: CompletionEvent[] = []
  for await (const event of complete(deps, { model: MODEL, request }, { signal })) events.push(event)
  return events
}

const textOf = (events: readonly CompletionEvent[]): string =>
  events.map(event => (event.kind === 'delta' ? event.text : '')).join('')

test('an answer starts with its route, tells each token, and ends with its reason and usage', async () => {
  const events = await run(bench(() => says(token('Hel'), token('lo'), token('', { isEnd: true }))))
  assert.deepEqual(
    events.map(event => event.kind),
    ['start', 'delta', 'delta', 'end'],
  )
  assert.deepEqual(events[0], {
    kind: 'start',
    generation: 'g',
    model: MODEL.id,
    promptTokens: 3,
    route: [{ peer: 'b', layers: { first: 0, last: 4 } }],
  })
  assert.equal(textOf(events), 'Hello')
  assert.deepEqual(events.at(-1), { kind: 'end', reason: 'stop', usage: { promptTokens: 3, completionTokens: 3 } })
})

test('an answer that takes all its tokens ends for its length and gives out what it held back', async () => {
  const half = bytes('é').slice(0, 1)
  const events = await run(
    bench(() => says(token('st'), token('', { piece: half }))),
    ask({ tokensMax: 2, stop: ['stop'] }),
  )
  assert.equal(textOf(events), 'st\ufffd')
  assert.equal(events.at(-1)?.kind === 'end' && events.at(-1), events.at(-1))
  assert.deepEqual(events.at(-1), { kind: 'end', reason: 'length', usage: { promptTokens: 3, completionTokens: 2 } })
})

test('a stop text over several tokens ends the answer before it and leaves the generation', async () => {
  let isLeft = false
  const deps = bench(async function* () {
    try {
      yield* says(token('one E'), token('N'), token('D two'), token('three'))
      assert.fail('the generation went on')
    } finally {
      isLeft = true
    }
  })
  const events = await run(deps, ask({ stop: ['END'] }))
  assert.equal(textOf(events), 'one ')
  assert.deepEqual(events.at(-1), { kind: 'end', reason: 'stop', usage: { promptTokens: 3, completionTokens: 3 } })
  assert.ok(isLeft)
})

test('a stage that is lost before the first token costs another route, not the answer', async () => {
  const deps = bench(
    request => (request.route[0]?.peer === 'b' ? breaks(lost('b')) : says(token('ok'))),
    [offerOf('b'), offerOf('cc')],
  )
  const events = await run(deps, ask({ tokensMax: 1 }))
  assert.deepEqual(deps.routes, ['b', 'cc'])
  assert.equal(textOf(events), 'ok')
  assert.equal(events.filter(event => event.kind === 'start').length, 1)
})

test('where no other route exists, the failure itself is told', async () => {
  await assert.rejects(run(bench(() => breaks(lost('b')))), { code: 'STAGE_LOST' })
})

test('a stage that is lost after the first token ends the answer: its text is out already', async () => {
  const deps = bench(() => breaks(lost('b'), token('half')), [offerOf('b'), offerOf('cc')])
  await assert.rejects(run(deps), { code: 'STAGE_LOST' })
  assert.deepEqual(deps.routes, ['b'])
})

test('routes are tried a bounded number of times', async () => {
  const offers = ['b', 'cc', 'ddd', 'eeee', 'fffff'].map(peer => offerOf(peer))
  const deps = bench(request => breaks(lost(request.route[0]?.peer ?? '')), offers)
  await assert.rejects(run(deps), { code: 'STAGE_LOST' })
  assert.deepEqual(deps.routes, ['b', 'cc', 'ddd'])
})

test('a failure that is about no peer is not tried again', async () => {
  const error = new PipelineError({ code: 'PIPELINE_DEADLINE', deadlineMs: 1 }, 'too long')
  const deps = bench(() => breaks(error), [offerOf('b'), offerOf('cc')])
  await assert.rejects(run(deps), { code: 'PIPELINE_DEADLINE' })
  assert.deepEqual(deps.routes, ['b'])
})

test('a prompt and answer beyond the context are refused with the numbers', async () => {
  const deps = bench(() => says())
  await assert.rejects(run(deps, ask({ tokensMax: 62 })), {
    fault: { code: 'NODE_CONTEXT_EXCEEDED', promptTokens: 3, tokensMax: 62, contextMax: 64 },
  })
  assert.deepEqual(deps.routes, [])
})

test('without a limit an answer may fill the context', async () => {
  let tokensMax = 0
  const deps = bench(request => {
    tokensMax = request.tokensMax
    return says(token('', { isEnd: true }))
  })
  const { tokensMax: _, ...request } = ask()
  await run(deps, request)
  assert.equal(tokensMax, 61)
})

test('a stage with a larger context is taken where the prompt needs it', async () => {
  const deps = bench(() => says(token('ok')), [offerOf('b', 16), offerOf('cc', 64)])
  await run(deps, ask({ tokensMax: 30 }))
  assert.deepEqual(deps.routes, ['cc'])
})

test('layers that nobody serves are named', async () => {
  const half = offerOf('b')
  const deps = bench(() => says(), [{ ...half, stage: { ...half.stage, layers: { first: 0, last: 2 } } }])
  await assert.rejects(run(deps), { code: 'NODE_NO_ROUTE', message: /layers 2-4/ })
})

test('a begin token that the template wrote is not doubled', async () => {
  const prompts: number[][] = []
  const deps = bench(request => {
    prompts.push([...request.prompt])
    return says(token('ok'))
  })
  const prompt: Prompt = { kind: 'chat', messages: [{ role: 'user', content: 'hi' }] }
  await run(deps, ask({ prompt }))
  await run({ ...deps, renderChat: async () => 'hi' }, ask({ prompt }))
  await run(deps, ask({ prompt: { kind: 'tokens', tokens: [5, 6] } }))
  assert.deepEqual(prompts, [
    [1, 104, 105],
    [1, 104, 105],
    [5, 6],
  ])
})

test('a prompt that cannot be one is refused before any route is taken', async () => {
  const deps = bench(() => says())
  for (const tokens of [[], [256], [-1], [0.5]]) {
    await assert.rejects(run(deps, ask({ prompt: { kind: 'tokens', tokens } })), { code: 'NODE_PROMPT_INVALID' })
  }
  assert.deepEqual(deps.routes, [])
})

test('a turn is given back however an answer ends', async () => {
  const deps = bench(() => breaks(lost('b'), token('half')))
  await assert.rejects(run(deps))
  const events = complete(
    bench(() => says(token('a'), token('b'))),
    { model: MODEL, request: ask() },
    {
      signal: new AbortController().signal,
    },
  )
  for await (const event of events) if (event.kind === 'delta') break
  const controller = new AbortController()
  controller.abort(new Error('the client left'))
  await assert.rejects(run(deps, ask(), controller.signal), /the client left/)
  assert.equal(deps.gate.running, 0)
})

test('log-probabilities and logits are told with each token', async () => {
  const score = { token: 7, piece: bytes('é'), logprob: -0.5 }
  const next = token('é', { chosen: score, top: [score], logits: Float32Array.of(1, 2) })
  const events = await run(
    bench(() => says(next)),
    ask({ tokensMax: 1 }),
  )
  const logprob = { token: 7, text: 'é', bytes: [195, 169], logprob: -0.5 }
  assert.deepEqual(events[1], {
    kind: 'delta',
    text: 'é',
    tokens: [{ token: 1, logprob, top: [logprob], logits: 'AACAPwAAAEA=' }],
  })
})
