/** A node that is told to stop while answers are being made: real processes, real signals. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock, withDeadline } from '#base'
import { GREEDY } from '#wire'
import { startSwarm, type SwarmNode } from '../tools/swarm.ts'

const REQUEST = {
  model: 'Storyteller',
  messages: [{ role: 'user', content: 'Tell me a story about a fox and a lantern.' }],
  max_tokens: 200,
  temperature: 0,
  stream: true,
}

function within<T>(what: string, promise: Promise<T>): Promise<T> {
  return withDeadline(systemClock, { what, timeoutMs: 60_000 }, () => promise)
}

/** The lines of a streamed chat completion, the first of which has come already. */
async function streamFrom(node: SwarmNode): Promise<{ readonly rest: () => Promise<string[]> }> {
  const response = await fetch(`${node.ready.api}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(REQUEST),
  })
  assert.equal(response.status, 200)
  assert.ok(response.body !== null)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes('"content"')) text += (await reader.read()).value ?? ''
  const rest = async (): Promise<string[]> => {
    for (;;) {
      const { done, value = '' } = await reader.read()
      if (done) return text.split('\n\n').filter(part => part !== '')
      text += value
    }
  }
  return { rest: () => within('the rest of the answer', rest()) }
}

/** What the node answers when nothing disturbs it. */
async function answerOf(node: SwarmNode): Promise<string> {
  return textOf(await (await streamFrom(node)).rest())
}

function textOf(parts: readonly string[]): string {
  const chunks = parts.filter(part => part !== 'data: [DONE]').map(part => JSON.parse(part.slice('data: '.length)))
  return chunks.map(chunk => chunk.choices?.[0]?.delta?.content ?? '').join('')
}

function nodesOf(swarm: { readonly nodes: readonly SwarmNode[] }): [SwarmNode, SwarmNode] {
  const [entry, stage] = swarm.nodes
  assert.ok(entry !== undefined && stage !== undefined)
  return [entry, stage]
}

test('an entry that gets SIGTERM finishes the answer that it is making, and refuses new ones', async () => {
  await using swarm = await startSwarm({ nodes: [{ layers: '0-4', api: true }, { layers: '4-8' }] })
  const [entry] = nodesOf(swarm)
  const whole = await answerOf(entry)
  const stream = await streamFrom(entry)
  process.kill(entry.ready.pid, 'SIGTERM')
  const parts = await stream.rest()
  assert.equal(parts.at(-1), 'data: [DONE]')
  assert.equal(textOf(parts), whole)
  assert.equal(await within('the end of the process', entry.stop()), 0)
})

test('an answer that does not come to its end in time ends as an error with a code', async () => {
  const drain = ['--drain', '1']
  await using swarm = await startSwarm({ nodes: [{ layers: '0-4', args: drain }, { layers: '4-8' }], ctx: 8192 })
  const [entry, stage] = nodesOf(swarm)
  await endsWith(entry, /^API_STOPPING$/, { stop: entry, freeze: stage })
})

test('a stage that gets SIGTERM computes what is open to its end, and is used for nothing new', async () => {
  await using swarm = await startSwarm({ nodes: [{ layers: '0-4', api: true }, { layers: '4-8' }] })
  const [entry, stage] = nodesOf(swarm)
  const whole = await answerOf(entry)
  const stream = await streamFrom(entry)
  process.kill(stage.ready.pid, 'SIGTERM')
  const parts = await stream.rest()
  assert.equal(parts.at(-1), 'data: [DONE]')
  assert.equal(textOf(parts), whole)
  await within('the end of the process', stage.stop())
  const request = {
    model: 'Storyteller',
    prompt: { kind: 'text', text: 'Once' } as const,
    sampling: GREEDY,
    tokensMax: 4,
    stop: [],
  }
  const ask = async (): Promise<void> => {
    for await (const event of entry.client.complete(request, { signal: new AbortController().signal })) {
      assert.notEqual(event.kind, 'end')
    }
  }
  await assert.rejects(ask(), /nobody serves layers 4-8/)
})

test('a stage that cannot finish in time tells the entry so, with a code', async () => {
  const nodes = [{ layers: '0-4' }, { layers: '4-6', args: ['--drain', '0'] }, { layers: '6-8' }]
  await using swarm = await startSwarm({ nodes, ctx: 8192 })
  const [entry, stage] = nodesOf(swarm)
  const last = swarm.nodes[2]
  assert.ok(last !== undefined)
  await endsWith(entry, /^STAGE_(?:STOPPED|LOST)$/, { stop: stage, freeze: last })
})

/** Stops a node in the middle of an answer that cannot go on, since another node stands still. */
async function endsWith(
  entry: SwarmNode,
  code: RegExp,
  { stop, freeze }: { readonly stop: SwarmNode; readonly freeze: SwarmNode },
): Promise<void> {
  // Far more than the model would say, so that it does not end before, however late this process hears of its beginning.
  const prompt = { kind: 'text', text: 'Once upon a time' } as const
  const request = { model: 'Storyteller', prompt, sampling: GREEDY, tokensMax: 8000, stop: [], ignoreEnd: true }
  let isFrozen = false
  const answer = async (): Promise<void> => {
    for await (const event of entry.client.complete(request, { signal: new AbortController().signal })) {
      if (event.kind !== 'delta' || isFrozen) continue
      isFrozen = true
      process.kill(freeze.ready.pid, 'SIGSTOP')
      process.kill(stop.ready.pid, 'SIGTERM')
    }
  }
  try {
    await assert.rejects(within('the end of the answer', answer()), error => {
      // What the node said, not how the client tells of it.
      assert.match((error as { readonly fault: { readonly remote: string } }).fault.remote, code)
      return true
    })
  } finally {
    process.kill(freeze.ready.pid, 'SIGCONT')
  }
}
