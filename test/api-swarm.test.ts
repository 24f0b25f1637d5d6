/**
 * OpenAI's client against a real swarm: three node processes, the built-in model cut in two, and an entry that holds no
 * layers.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import OpenAI, { APIError, BadRequestError, NotFoundError } from 'openai'
import type { NodeStatus } from '#wire'
import { koinonUp, temporaryDir } from './support/command.ts'
import { writeRandomGguf } from './support/random-gguf.ts'
import { collect } from './support/scripted-node.ts'
import { startSwarm, type Swarm, until as untilGiven } from '../tools/swarm.ts'

const MODEL = 'Storyteller'
/** "<|im_end|>" in its vocabulary. */
const END_TOKEN = 1703

let swarm: Swarm
let client: OpenAI

before(async () => {
  swarm = await startSwarm({ nodes: [{ layers: 'none', api: true }, { layers: '0-4' }, { layers: '4-8' }] })
  client = new OpenAI({ baseURL: `${swarm.nodes[0]?.ready.api}/v1`, apiKey: 'none', maxRetries: 0 })
})

after(() => swarm.stop())

/** What every node says of itself. */
function statuses(): Promise<readonly NodeStatus[]> {
  return Promise.all(swarm.nodes.map(node => node.client.status()))
}

/** Asks every node until `isReached` holds for what they say. */
async function until(isReached: (all: readonly NodeStatus[]) => boolean): Promise<void> {
  const read = async (): Promise<true | undefined> => (isReached(await statuses()) ? true : undefined)
  await untilGiven(read, { what: 'that state of all nodes', timeoutMs: 20_000 })
}

function about(subject: string, maxTokens = 24): OpenAI.ChatCompletionCreateParamsNonStreaming {
  const content = `Tell me a story about ${subject}.`
  return { model: MODEL, messages: [{ role: 'user', content }], temperature: 0, max_tokens: maxTokens }
}

async function textOf(request: OpenAI.ChatCompletionCreateParamsNonStreaming): Promise<string> {
  return (await client.chat.completions.create(request)).choices[0]?.message.content ?? ''
}

test('a chat is answered over two stages, whole and streamed alike', async () => {
  const whole = await client.chat.completions.create(about('a fox'))
  const text = whole.choices[0]?.message.content ?? ''
  assert.ok(text.length > 20, text)
  assert.equal(whole.usage?.completion_tokens, 24)
  const stream = await client.chat.completions.create({ ...about('a fox'), stream: true })
  const chunks = await collect(stream)
  assert.equal(chunks.map(chunk => chunk.choices[0]?.delta.content ?? '').join(''), text)
})

test('completions continue a text, with log-probabilities that agree with the tokens', async () => {
  const answer = await client.completions.create({
    model: MODEL,
    prompt: 'Once upon a time',
    temperature: 0,
    max_tokens: 5,
    logprobs: 2,
  })
  const logprobs = answer.choices[0]?.logprobs
  assert.equal(logprobs?.tokens?.join(''), answer.choices[0]?.text)
  for (const [i, top] of (logprobs?.top_logprobs ?? []).entries()) {
    // At temperature 0 the chosen token is the most likely one.
    assert.equal(Math.max(...Object.values(top)), logprobs?.token_logprobs?.[i])
  }
})

test('the same seed gives the same answer', async () => {
  const request = { ...about('a crow'), temperature: 1, seed: 7 }
  assert.equal(await textOf(request), await textOf(request))
})

test('eight clients at once get the answers that each would get alone', async () => {
  const subjects = ['a fox', 'a crow', 'a lantern', 'the sea', 'a mill', 'a bear', 'two sisters', 'the moon']
  const alone: string[] = []
  for (const subject of subjects) alone.push(await textOf(about(subject)))
  assert.ok(new Set(alone).size > 4, 'the answers do not tell the prompts apart')
  assert.deepEqual(await Promise.all(subjects.map(subject => textOf(about(subject)))), alone)
})

test('after a client aborts, no node holds a row of its generation', async () => {
  // Never the token that ends a story: this one is to last.
  const request = { ...about('a river', 400), logit_bias: { [END_TOKEN]: -100 } }
  const stream = await client.chat.completions.create({ ...request, stream: true })
  let holders = 0
  for await (const chunk of stream) {
    if ((chunk.choices[0]?.delta.content ?? '') === '') continue
    holders = (await statuses()).filter(({ kvRows }) => kvRows > 0).length
    if (holders === 2) break
  }
  assert.equal(holders, 2, 'both stages have rows of it while it runs')
  await until(all => all.every(({ kvRows, generations }) => kvRows === 0 && generations.length === 0))
})

test('what cannot be answered is a clear error, and the next request is answered', async () => {
  await assert.rejects(
    client.chat.completions.create(about('a fox', 1_000_000_000)),
    (error: unknown) => error instanceof BadRequestError && error.code === 'context_length_exceeded',
  )
  await assert.rejects(client.completions.create({ model: 'gpt-4', prompt: 'x' }), NotFoundError)
  await assert.rejects(
    client.completions.create({ model: MODEL, prompt: [9_999_999] }),
    (error: unknown) => error instanceof BadRequestError,
  )
  assert.ok((await textOf(about('a fox'))).length > 20)
})

test('a chat template that loops for ever is an error of that request; completions of the same model go on', async t => {
  const directory = temporaryDir(t)
  const model = join(directory, 'loop.gguf')
  await writeRandomGguf(model, {
    architecture: 'llama',
    chatTemplate: '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}',
  })
  const { ready, child } = await koinonUp(t, ['--temporary', '--api', '127.0.0.1:0', '--model', model])
  const looping = new OpenAI({ baseURL: `${ready.api}/v1`, apiKey: 'none', maxRetries: 0 })
  const id = ready.modelId ?? ''
  const chat = looping.chat.completions.create({ model: id, messages: [{ role: 'user', content: 'Hi' }] })
  await assert.rejects(chat, (error: unknown) => error instanceof APIError && error.code === 'format_template_timeout')
  const answer = await looping.completions.create({ model: id, prompt: 'Hi', max_tokens: 4, temperature: 0 })
  assert.equal(answer.usage?.completion_tokens, 4)
  assert.equal(child.exitCode, null)
})
