/** The API as OpenAI's own client uses it, over real HTTP, with a scripted node behind it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import OpenAI, { APIError, APIUserAbortError, BadRequestError, InternalServerError, NotFoundError } from 'openai'
import { type Api, ApiError, type ApiOptions, startApi } from '#api'
import { KoinonError, ManualClock, seededRandom, silentLogger, TimeoutError } from '#base'
import {
  collect,
  createScriptedNode,
  failing,
  MODEL,
  MODEL_ID,
  saying,
  sayingOnceThenWaiting,
  type Script,
  type ScriptedNode,
  start,
} from './support/scripted-node.ts'

type Setup = { readonly node: ScriptedNode; readonly api: Api; readonly client: OpenAI }

const MESSAGES = [{ role: 'user' as const, content: 'Tell me a story.' }]

async function setUp(t: TestContext, script?: Script, options: Partial<ApiOptions> = {}): Promise<Setup> {
  const node = createScriptedNode(script)
  const clock = new ManualClock(1_700_000_123_456)
  const api = await startApi(
    { node, clock, random: seededRandom(1), log: silentLogger },
    { host: '127.0.0.1', port: 0, ...options },
  )
  t.after(() => api.stop())
  return { node, api, client: new OpenAI({ baseURL: `${api.address}/v1`, apiKey: 'none', maxRetries: 0 }) }
}

test('the node is told where its API listens', async t => {
  const { node, api } = await setUp(t)
  assert.match(api.address, /^http:\/\/127\.0\.0\.1:\d+$/)
  assert.equal(node.api.address, api.address)
})

test('models are listed and found by id, prefix, name and file name', async t => {
  const { client } = await setUp(t)
  const list = await client.models.list()
  assert.equal(list.data.length, 1)
  assert.equal(list.data[0]?.id, MODEL_ID)
  for (const name of [MODEL_ID, MODEL_ID.slice(0, 8), MODEL.name, 'storyteller.gguf']) {
    const model = await client.models.retrieve(name)
    assert.equal(model.id, MODEL_ID)
    assert.equal(model.created, MODEL.createdAt)
  }
  await assert.rejects(client.models.retrieve('gpt-4'), NotFoundError)
  await assert.rejects(client.models.retrieve(MODEL_ID.slice(0, 7)), NotFoundError)
})

test('a chat is answered whole, with usage', async t => {
  const { client, node } = await setUp(t)
  const answer = await client.chat.completions.create({ model: MODEL.name, messages: MESSAGES })
  assert.match(answer.id, /^chatcmpl-[0-9a-f]{24}$/)
  assert.equal(answer.object, 'chat.completion')
  assert.equal(answer.created, 1_700_000_123)
  assert.equal(answer.model, MODEL.name)
  assert.equal(answer.choices.length, 1)
  assert.equal(answer.choices[0]?.message.role, 'assistant')
  assert.equal(answer.choices[0]?.message.content, 'Once upon a time')
  assert.equal(answer.choices[0]?.finish_reason, 'stop')
  assert.deepEqual(answer.usage, { prompt_tokens: 5, completion_tokens: 4, total_tokens: 9 })
  assert.deepEqual(node.requests[0]?.prompt, { kind: 'chat', messages: MESSAGES })
})

test('a chat streams: role first, then text, then the reason, then the usage', async t => {
  const { client } = await setUp(t)
  const stream = await client.chat.completions.create({
    model: MODEL_ID,
    messages: MESSAGES,
    stream: true,
    stream_options: { include_usage: true },
  })
  const chunks = await collect(stream)
  assert.equal(new Set(chunks.map(chunk => chunk.id)).size, 1)
  assert.ok(chunks.every(chunk => chunk.object === 'chat.completion.chunk' && chunk.model === MODEL_ID))
  assert.deepEqual(chunks[0]?.choices[0]?.delta, { role: 'assistant', content: '' })
  assert.equal(chunks.map(chunk => chunk.choices[0]?.delta.content ?? '').join(''), 'Once upon a time')
  assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop')
  assert.ok(chunks.slice(0, -1).every(chunk => chunk.usage === null))
  assert.deepEqual(chunks.at(-1)?.choices, [])
  assert.deepEqual(chunks.at(-1)?.usage, { prompt_tokens: 5, completion_tokens: 4, total_tokens: 9 })
})

test('without include_usage no chunk speaks of usage, and the stream ends with [DONE]', async t => {
  const { api } = await setUp(t)
  const response = await fetch(`${api.address}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'x', messages: MESSAGES, stream: true }),
  })
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
  const text = await response.text()
  assert.ok(text.endsWith('data: [DONE]\n\n'))
  assert.doesNotMatch(text, /usage/)
})

test('log-probabilities come with bytes, and what cannot be is -9999', async t => {
  const { client, node } = await setUp(t, saying(['é', 'a']))
  const request = { model: 'x', messages: MESSAGES, logprobs: true, top_logprobs: 2 } as const
  const answer = await client.chat.completions.create(request)
  const content = answer.choices[0]?.logprobs?.content
  assert.equal(node.requests[0]?.topLogprobs, 2)
  assert.equal(content?.length, 2)
  assert.equal(content?.[0]?.token, 'é')
  assert.deepEqual(content?.[0]?.bytes, [0xc3, 0xa9])
  assert.equal(content?.[0]?.logprob, -0.25)
  assert.deepEqual(
    content?.[0]?.top_logprobs.map(top => [top.token, top.logprob]),
    [
      ['é', -0.25],
      ['\ufffd', -9999],
    ],
  )
  const streamed = await collect(await client.chat.completions.create({ ...request, stream: true }))
  assert.deepEqual(
    streamed.flatMap(chunk => chunk.choices[0]?.logprobs?.content ?? []),
    content,
  )
})

test('completions give tokens, log-probabilities and offsets in their own form', async t => {
  const { client, node } = await setUp(t, saying(['Once', ' upon']))
  const answer = await client.completions.create({ model: 'x', prompt: 'It was', logprobs: 1 })
  assert.equal(answer.object, 'text_completion')
  assert.match(answer.id, /^cmpl-/)
  assert.equal(answer.choices[0]?.text, 'Once upon')
  assert.deepEqual(answer.choices[0]?.logprobs, {
    tokens: ['Once', ' upon'],
    token_logprobs: [-0.25, -0.25],
    top_logprobs: [{ Once: -0.25 }, { ' upon': -0.25 }],
    text_offset: [0, 4],
  })
  assert.deepEqual(node.requests[0]?.prompt, { kind: 'text', text: 'It was' })
  assert.equal(node.requests[0]?.tokensMax, 16)
  const chunks = await collect(
    await client.completions.create({ model: 'x', prompt: 'It was', logprobs: 0, stream: true }),
  )
  assert.equal(chunks.map(chunk => chunk.choices[0]?.text).join(''), 'Once upon')
  assert.deepEqual(
    chunks.flatMap(chunk => chunk.choices[0]?.logprobs?.text_offset ?? []),
    [0, 4],
  )
  assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop')
})

test('several prompts, texts or tokens, and several choices each, are answered in order', async t => {
  const { client, node } = await setUp(t, async function* (request) {
    yield* saying([JSON.stringify(request.prompt)])(request, { signal: new AbortController().signal })
  })
  const texts = await client.completions.create({ model: 'x', prompt: ['a', 'b'], n: 2, seed: 7 })
  assert.deepEqual(
    texts.choices.map(choice => [choice.index, (JSON.parse(choice.text) as { text: string }).text]),
    [
      [0, 'a'],
      [1, 'a'],
      [2, 'b'],
      [3, 'b'],
    ],
  )
  // A prompt is counted once, each of its answers on its own.
  assert.deepEqual(texts.usage, { prompt_tokens: 10, completion_tokens: 4, total_tokens: 14 })
  assert.deepEqual(
    node.requests.map(request => request.sampling.seed),
    [7, 8, 7, 8],
  )
  const tokens = await client.completions.create({ model: 'x', prompt: [[1, 2], [3]] })
  assert.deepEqual(
    tokens.choices.map(choice => JSON.parse(choice.text) as unknown),
    [
      { kind: 'tokens', tokens: [1, 2] },
      { kind: 'tokens', tokens: [3] },
    ],
  )
  const one = await client.completions.create({ model: 'x', prompt: [1, 2, 3] })
  assert.deepEqual(JSON.parse(one.choices[0]?.text ?? ''), { kind: 'tokens', tokens: [1, 2, 3] })
})

test('every parameter that a node can honour reaches it; the others have OpenAI defaults', async t => {
  const { client, node } = await setUp(t)
  await client.chat.completions.create({
    model: 'x',
    messages: [
      { role: 'developer', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
        name: 'Ann',
      }, // prettier-ignore
      { role: 'assistant', content: null },
    ],
    temperature: 0.5,
    top_p: 0.9,
    max_tokens: 3,
    max_completion_tokens: 2,
    stop: ['\n', ''],
    seed: -5,
    presence_penalty: 0.1,
    frequency_penalty: 0.2,
    logit_bias: { '50': -100 },
    user: 'ann',
    ...({ top_k: 40, min_p: 0.05, repeat_penalty: 1.1, repeat_last_n: 32, unknown_field: 1 } as object),
  })
  assert.deepEqual(node.requests[0], {
    model: 'x',
    prompt: {
      kind: 'chat',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'a\nb', name: 'Ann' },
        { role: 'assistant', content: '' },
      ],
    },
    sampling: {
      temperature: 0.5,
      topK: 40,
      topP: 0.9,
      minP: 0.05,
      repeatPenalty: 1.1,
      frequencyPenalty: 0.2,
      presencePenalty: 0.1,
      penaltyLastN: 32,
      seed: 2 ** 32 - 5,
      logitBias: { '50': -100 },
    },
    stop: ['\n'],
    tokensMax: 2,
  })
  await client.chat.completions.create({ model: 'x', messages: MESSAGES, temperature: null, stop: null, n: null })
  const { seed, ...defaults } = node.requests[1]?.sampling ?? assert.fail('no request')
  assert.ok(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)
  assert.deepEqual(defaults, {
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    repeatPenalty: 1,
    frequencyPenalty: 0,
    presencePenalty: 0,
    penaltyLastN: 64,
  })
  assert.equal(node.requests[1]?.tokensMax, undefined)
  assert.equal(node.requests[1]?.topLogprobs, undefined)
})

test('max_tokens cuts the answer, which then says length', async t => {
  const { client } = await setUp(t)
  const answer = await client.chat.completions.create({ model: 'x', messages: MESSAGES, max_tokens: 2 })
  assert.equal(answer.choices[0]?.message.content, 'Once upon')
  assert.equal(answer.choices[0]?.finish_reason, 'length')
})

test('what is not supported yet is refused by name, never dropped', async t => {
  const { client, node } = await setUp(t)
  const refused: readonly [string, object][] = [
    ['response_format', { response_format: { type: 'json_object' } }],
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }],
    ['functions', { functions: [{ name: 'f' }] }],
    ['audio', { audio: { voice: 'alloy', format: 'wav' } }],
    ['modalities', { modalities: ['text', 'audio'] }],
    ['grammar', { grammar: 'root ::= "a"' }],
    ['messages[0].tool_calls', { messages: [{ role: 'assistant', tool_calls: [{ id: 'a' }] }] }],
  ]
  for (const [param, fields] of refused) {
    const error = await client.chat.completions
      .create({ model: 'x', messages: MESSAGES, ...fields } as never)
      .then(() => assert.fail(`${param} was taken`))
      .catch((error: unknown) => error)
    assert.ok(error instanceof BadRequestError, `${param}: ${String(error)}`)
    assert.equal(error.code, 'unsupported_parameter')
    assert.equal(error.param, param)
    assert.match(error.message, /not supported yet/)
  }
  assert.equal(node.requests.length, 0)
  // Without effect is without harm.
  await client.chat.completions.create({
    model: 'x',
    messages: MESSAGES,
    tools: [],
    tool_choice: 'none',
    response_format: { type: 'text' },
    modalities: ['text'],
  })
  assert.equal(node.requests.length, 1)
})

test('values that are wrong are refused with the name of the field', async t => {
  const { client, node } = await setUp(t)
  const wrong: readonly [string | null, object][] = [
    ['temperature', { temperature: 3 }],
    ['temperature', { temperature: 'hot' }],
    ['max_tokens', { max_tokens: 0 }],
    ['max_tokens', { max_tokens: 1.5 }],
    ['n', { n: 5 }],
    ['stop', { stop: Array(17).fill('x') }],
    ['seed', { seed: 0.5 }],
    ['top_logprobs', { logprobs: true, top_logprobs: 21 }],
    ['top_logprobs', { top_logprobs: 2 }],
    ['logit_bias', { logit_bias: { hello: 1 } }],
    ['logit_bias', { logit_bias: { '1': 101 } }],
    ['messages', { messages: [] }],
    ['messages[1].content', { messages: [MESSAGES[0], { role: 'user', content: 5 }] }],
    ['messages[0].content', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] }],
    ['messages[0].content', { messages: [{ role: 'user' }] }],
    ['messages[0].role', { messages: [{ role: 'tool', content: 'x', tool_call_id: 'a' }] }],
    ['model', { model: undefined }],
    ['stream', { stream: 'yes' }],
  ]
  for (const [param, fields] of wrong) {
    const error = await client.chat.completions
      .create({ model: 'x', messages: MESSAGES, ...fields } as never)
      .then(() => assert.fail(`${JSON.stringify(fields)} was taken`))
      .catch((error: unknown) => error)
    assert.ok(error instanceof BadRequestError, `${JSON.stringify(fields)}: ${String(error)}`)
    assert.equal(error.param, param)
    assert.equal(error.type, 'invalid_request_error')
  }
  for (const prompt of [[], ['a', 1], Array(17).fill('a'), [-1], [[]], 5, [[1], 'a']]) {
    await assert.rejects(client.completions.create({ model: 'x', prompt } as never), BadRequestError)
  }
  assert.equal(node.requests.length, 0)
})

test('the choices of a streamed chat each begin with a role and end with a reason', async t => {
  const { client } = await setUp(t)
  const stream = await client.chat.completions.create({ model: 'x', messages: MESSAGES, n: 2, stream: true })
  const choices = (await collect(stream)).flatMap(chunk => chunk.choices)
  for (const index of [0, 1]) {
    const own = choices.filter(choice => choice.index === index)
    assert.equal(own[0]?.delta.role, 'assistant')
    assert.equal(own.map(choice => choice.delta.content ?? '').join(''), 'Once upon a time')
    assert.equal(own.at(-1)?.finish_reason, 'stop')
  }
})

test('more tokens than the context holds is told as OpenAI tells it', async t => {
  const { client } = await setUp(
    t,
    failing(new KoinonError({ code: 'NODE_CONTEXT_EXCEEDED' }, 'the context holds 512')),
  )
  await assert.rejects(
    client.chat.completions.create({ model: 'x', messages: MESSAGES, max_tokens: 1e9 }),
    (error: unknown) => error instanceof BadRequestError && error.code === 'context_length_exceeded',
  )
})

test("the node's errors arrive as the client's own classes", async t => {
  const cases: readonly [Error, new (...args: never[]) => Error, number][] = [
    [new ApiError({ code: 'API_MODEL_UNKNOWN' }, 'no such model'), NotFoundError, 404],
    [new TimeoutError('a step', 100), InternalServerError, 504],
    [new KoinonError({ code: 'SOMETHING_NEW' }, 'secret path /root'), InternalServerError, 500],
    [new TypeError('secret path /root'), InternalServerError, 500],
  ]
  for (const [thrown, type, status] of cases) {
    for (const stream of [false, true]) {
      const { client } = await setUp(t, failing(thrown))
      const error = await client.chat.completions
        .create({ model: 'x', messages: MESSAGES, stream })
        .then(() => assert.fail('no error'))
        .catch((error: unknown) => error)
      assert.ok(error instanceof type && error instanceof APIError, String(error))
      assert.equal(error.status, status)
      assert.doesNotMatch(error.message, /secret/)
    }
  }
})

test('an error in the middle of a stream reaches the client as an error', async t => {
  const { client, node } = await setUp(t, failing(new TimeoutError('a step', 100), 3))
  const stream = await client.chat.completions.create({ model: 'x', messages: MESSAGES, stream: true })
  let text = ''
  await assert.rejects(
    async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
    },
    (error: unknown) => error instanceof APIError && error.code === 'timeout',
  )
  assert.equal(text, 'half half ')
  await node.idle()
})

test('a client that aborts a stream aborts the generation', async t => {
  const { client, node } = await setUp(t, sayingOnceThenWaiting)
  const stream = await client.chat.completions.create({ model: 'x', messages: MESSAGES, stream: true })
  const aborted = aborting(node)
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content === 'Once') break
  }
  assert.equal(await aborted, 'API_CLIENT_GONE')
  await node.idle()
})

test('a client that aborts a whole answer aborts the generation', async t => {
  const reached = Promise.withResolvers<void>()
  const { client, node } = await setUp(t, async function* (request, options) {
    yield start(request)
    reached.resolve()
    yield* sayingOnceThenWaiting(request, options)
  })
  const left = new AbortController()
  const answer = client.chat.completions.create({ model: 'x', messages: MESSAGES }, { signal: left.signal })
  await reached.promise
  const aborted = aborting(node)
  left.abort()
  await assert.rejects(answer, APIUserAbortError)
  assert.equal(await aborted, 'API_CLIENT_GONE')
})

/** Resolves with the code of the reason for which the node's newest generation was aborted. */
function aborting(node: ScriptedNode): Promise<string | undefined> {
  const signal = node.signals.at(-1) ?? assert.fail('no generation')
  return new Promise(resolve => {
    signal.addEventListener('abort', () => {
      resolve(signal.reason instanceof KoinonError ? signal.reason.code : undefined)
    })
  })
}

test('eight clients at once get their own answers', async t => {
  const { client } = await setUp(t, async function* (request, options) {
    const { prompt } = request
    const text = prompt.kind === 'chat' ? (prompt.messages[0]?.content ?? '') : ''
    yield* saying(text.split(''))(request, options)
  })
  const asked = Array.from({ length: 8 }, (_, i) => `question ${i}`)
  const answers = await Promise.all(
    asked.map(async (content, i) => {
      const request = { model: 'x', messages: [{ role: 'user' as const, content }] }
      if (i % 2 === 0) return (await client.chat.completions.create(request)).choices[0]?.message.content
      const chunks = await collect(await client.chat.completions.create({ ...request, stream: true }))
      return chunks.map(chunk => chunk.choices[0]?.delta.content ?? '').join('')
    }),
  )
  assert.deepEqual(answers, asked)
})

test('stopping ends a stream with an error, and later requests find nobody', async t => {
  const { client, node, api } = await setUp(t, sayingOnceThenWaiting)
  const later = connect(Number(new URL(api.address).port), '127.0.0.1')
  const heard: Uint8Array[] = []
  later.on('data', (bytes: Uint8Array) => heard.push(bytes)).on('error', () => undefined) // Of the write below.
  const gone = new Promise(resolve => later.once('close', resolve))
  await once(later, 'connect')
  const stream = await client.chat.completions.create({ model: 'x', messages: MESSAGES, stream: true })
  const rest = collect(stream)
  await Promise.all([
    api.stop(),
    assert.rejects(rest, (error: unknown) => error instanceof APIError && error.code === 'api_stopping'),
  ])
  await node.idle()
  await api.stop()
  // On a connection from before: the port may be another program's by now.
  later.write('GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n')
  await gone
  assert.deepEqual(heard, [])
})
