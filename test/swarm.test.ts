/** A real swarm: three processes that share the built-in model out by themselves, and what may happen to it. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { decodeLayers } from '#base'
import { type CompletionEvent, type CompletionRequest, GREEDY, type NodeStatus } from '#wire'
import { startSwarm, type Swarm, type SwarmNode, until } from '../tools/swarm.ts'

/** Far more than the model was made for: an answer of so many tokens is under way for as long as a test needs it. */
const CONTEXT = 8192
const ENDLESS = { tokensMax: 8000, ignoreEnd: true }

let swarm: Swarm

before(async () => {
  const auto = { layers: 'auto' }
  swarm = await startSwarm({ nodes: [auto, auto, auto], ctx: CONTEXT })
})
after(() => swarm.stop())

const ask = (content: string, more: Partial<CompletionRequest> = {}): CompletionRequest => ({
  model: 'Storyteller',
  prompt: { kind: 'chat', messages: [{ role: 'user', content }] },
  sampling: GREEDY,
  tokensMax: 48,
  stop: [],
  ...more,
})

const STORY = 'Tell me a story about a fox and a lantern.'

type Answer = { readonly text: string; readonly tokens: readonly number[]; readonly events: readonly CompletionEvent[] }

async function answer(node: SwarmNode, request: CompletionRequest): Promise<Answer> {
  const events: CompletionEvent[] = []
  for await (const event of node.client.complete(request, { signal: new AbortController().signal })) events.push(event)
  const deltas = events.filter(event => event.kind === 'delta')
  return {
    text: deltas.map(delta => delta.text).join(''),
    tokens: deltas.flatMap(delta => delta.tokens.map(info => info.token)),
    events,
  }
}

const statuses = (): Promise<NodeStatus[]> => Promise.all(swarm.nodes.map(node => node.client.status()))

/** Resolves once no node holds a generation or a KV row: far sooner than one that hears nothing would give it up. */
const untilIdle = (): Promise<true> =>
  until(
    async () => {
      const all = await statuses()
      return all.every(({ generations, kvRows }) => generations.length === 0 && kvRows === 0) ? true : undefined
    },
    { what: 'a swarm without generations', timeoutMs: 10_000 },
  )

test('three nodes share the layers out by themselves, each at least one', async () => {
  const ranges = swarm.nodes
    .map(node => decodeLayers(node.ready.layers))
    .sort((a, b) => (a?.first ?? 0) - (b?.first ?? 0))
  assert.equal(new Set(swarm.nodes.map(node => node.ready.pid)).size, 3)
  assert.equal(ranges[0]?.first, 0)
  assert.equal(ranges[1]?.first, ranges[0]?.last)
  assert.equal(ranges[2]?.first, ranges[1]?.last)
  assert.equal(ranges[2]?.last, 8)
})

test('a prompt that enters at any node passes all three and gets the same answer', async () => {
  const answers = await Promise.all(swarm.nodes.map(node => answer(node, ask(STORY))))
  const [first] = answers
  assert.ok(first !== undefined && first.tokens.length >= 16, 'an answer of some length')
  assert.match(first.text, /fox/)
  for (const { tokens, text, events } of answers) {
    assert.deepEqual(tokens, first.tokens)
    assert.equal(text, first.text)
    const [start] = events
    assert.ok(start?.kind === 'start')
    assert.deepEqual(new Set(start.route.map(hop => hop.peer)), new Set(swarm.nodes.map(node => node.ready.peer)))
  }
  await untilIdle()
})

test('eight clients at once get the answers that each would get alone', async () => {
  const prompts = ['fox', 'owl', 'bear', 'boat', 'lantern', 'river', 'tree', 'kite'].map(
    thing => `Tell me a story about a ${thing}.`,
  )
  const nodeOf = (index: number): SwarmNode => {
    const node = swarm.nodes[index % swarm.nodes.length]
    assert.ok(node !== undefined)
    return node
  }
  const alone: Answer[] = []
  for (const [index, prompt] of prompts.entries()) alone.push(await answer(nodeOf(index), ask(prompt)))
  const together = await Promise.all(prompts.map((prompt, index) => answer(nodeOf(index), ask(prompt))))
  assert.deepEqual(
    together.map(({ tokens }) => tokens),
    alone.map(({ tokens }) => tokens),
  )
  assert.ok(new Set(alone.map(({ text }) => text)).size > 4, 'different prompts have different answers')
  await untilIdle()
})

test('an aborted prompt leaves no generation and no KV row on any node, long before they would give up by themselves', async () => {
  const [entry] = swarm.nodes
  assert.ok(entry !== undefined)
  const controller = new AbortController()
  const events = entry.client.complete(ask(STORY, ENDLESS), { signal: controller.signal })
  await assert.rejects(async () => {
    let count = 0
    for await (const event of events) {
      if (event.kind === 'delta' && ++count === 5) {
        const all = await statuses()
        assert.ok(
          all.every(({ kvRows }) => kvRows > 0),
          'every node holds rows of it',
        )
        controller.abort(new Error('the client is gone'))
      }
    }
  }, /the client is gone/)
  await untilIdle()
})

test('a killed engine fails its requests with a clear error; the node stays up and serves again', async () => {
  const [entry, other] = swarm.nodes
  assert.ok(entry !== undefined && other !== undefined)
  const before = await answer(entry, ask(STORY))
  const stage = (await other.client.status()).engines.find(engine => engine.role === 'stage')
  assert.ok(stage?.pid !== undefined)
  let count = 0
  await assert.rejects(
    async () => {
      const signal = new AbortController().signal
      for await (const event of entry.client.complete(ask(STORY, ENDLESS), { signal })) {
        if (event.kind === 'delta' && ++count === 3) process.kill(stage.pid ?? 0, 'SIGKILL')
      }
    },
    (error: unknown) => {
      assert.ok(error instanceof Error)
      assert.match(error.message, /engine/, 'the error says what was lost')
      assert.match(error.message, new RegExp(other.ready.peer), 'and where')
      return true
    },
  )
  assert.ok(count >= 3)
  await untilIdle()
  const after = await until(
    async () => {
      const { engines, pid } = await other.client.status()
      assert.equal(pid, other.ready.pid, 'the node is the same process')
      const engine = engines.find(({ role }) => role === 'stage')
      const isBack = engine?.state === 'ready' && engine.restarts === 1
      const isWhole = (await entry.client.models())[0]?.isComplete === true
      return isBack && isWhole ? engine : undefined
    },
    { what: 'the restarted engine', timeoutMs: 120_000 },
  )
  assert.notEqual(after.pid, stage.pid)
  assert.ok(after.lastError !== undefined)
  assert.deepEqual((await answer(entry, ask(STORY))).tokens, before.tokens)
})

test('a killed edge engine is replaced too', async () => {
  const [entry] = swarm.nodes
  assert.ok(entry !== undefined)
  const before = await answer(entry, ask(STORY))
  const edge = (await entry.client.status()).engines.find(engine => engine.role === 'edge')
  assert.ok(edge?.pid !== undefined)
  process.kill(edge.pid, 'SIGKILL')
  await until(
    async () => {
      const engine = (await entry.client.status()).engines.find(({ role }) => role === 'edge')
      return engine?.state === 'ready' && engine.pid !== edge.pid ? true : undefined
    },
    { what: 'the restarted edge engine', timeoutMs: 120_000 },
  )
  assert.deepEqual((await answer(entry, ask(STORY))).tokens, before.tokens)
})

test('what cannot be answered is refused with its reason', async () => {
  const [entry] = swarm.nodes
  assert.ok(entry !== undefined)
  await assert.rejects(answer(entry, ask(STORY, { model: 'no-such-model' })), {
    fault: { code: 'CLI_NODE_REFUSED', remote: 'NODE_MODEL_UNKNOWN' },
  })
  await assert.rejects(answer(entry, ask(STORY, { tokensMax: 1_000_000 })), /beyond the context of 8192/)
  await untilIdle()
})
