/**
 * OpenAI's client against a real swarm: three node processes, the built-in model cut in two, and an entry that holds no
 * layers.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import OpenAI, { BadRequestError, NotFoundError } from 'openai'
import type { NodeStatus } from '#wire'
import { collect } from './support/scripted-node.ts'

const MODEL = 'Storyteller'
const PROGRAM = fileURLToPath(new URL('../bin/koinon.mjs', import.meta.url))

/** What `koinon up --json` says when it is ready. */
type Ready = {
  readonly event: string
  readonly addresses: readonly string[]
  readonly api?: string
  readonly socket: string
}
type Running = { readonly child: ChildProcess; readonly ready: Ready }

const running: Running[] = []
let client: OpenAI

async function up(...options: string[]): Promise<Running> {
  const args = [PROGRAM, 'up', '--temporary', '--json', '--threads', '1', '--device', 'cpu', ...options]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = JSON.parse(line) as Ready
    if (ready.event !== 'ready') continue
    child.stdout.resume()
    const node = { child, ready }
    running.push(node)
    return node
  }
  throw new Error(`the node ended before it was ready: ${complaint}`)
}

before(async () => {
  const stages = await Promise.all([up('--layers', '0-4', '--api', 'none'), up('--layers', '4-8', '--api', 'none')])
  const peers = stages.flatMap(({ ready }) => ['--peer', ready.addresses[0] ?? assert.fail('no address')])
  const entry = await up('--layers', 'none', '--api', '127.0.0.1:0', ...peers)
  const api = entry.ready.api ?? assert.fail('no API')
  // The entry knows its peers' layers a moment after it is up; a request before that is told to come back.
  client = new OpenAI({ baseURL: `${api}/v1`, apiKey: 'none', maxRetries: 5 })
})

after(async () => {
  for (const { child } of running) child.kill('SIGTERM')
  await Promise.all(running.map(async ({ child }) => child.exitCode ?? once(child, 'exit')))
})

async function status({ ready }: Running): Promise<NodeStatus> {
  const request = httpRequest({ socketPath: ready.socket, path: '/local/status', agent: false }).end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return JSON.parse((await collect(response.setEncoding('utf8'))).join('')) as NodeStatus
}

/** Asks every node until `isReached` holds for what they say. */
async function until(isReached: (all: readonly NodeStatus[]) => boolean, withinMs: number): Promise<void> {
  const end = performance.now() + withinMs
  for (;;) {
    const all = await Promise.all(running.map(status))
    if (isReached(all)) return
    assert.ok(performance.now() < end, JSON.stringify(all.map(({ kvRows, generations }) => ({ kvRows, generations }))))
  }
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
  const stream = await client.chat.completions.create({ ...about('a river', 400), stream: true })
  for await (const chunk of stream) {
    if ((chunk.choices[0]?.delta.content ?? '') === '') continue
    await until(all => all.filter(({ kvRows }) => kvRows > 0).length === 2, 1000)
    break
  }
  await until(all => all.every(({ kvRows, generations }) => kvRows === 0 && generations.length === 0), 1000)
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
