/** Swarms that change while they run: nodes that come, go, and come back. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CompletionRequest, GREEDY } from '#wire'
import { startSwarm, type SwarmNode, until, untilWhole } from '../tools/swarm.ts'

const QUESTION: CompletionRequest = {
  model: 'Storyteller',
  prompt: { kind: 'chat', messages: [{ role: 'user', content: 'Tell me a story about a fox and a lantern.' }] },
  sampling: GREEDY,
  tokensMax: 24,
  stop: [],
}

async function answer(node: SwarmNode): Promise<readonly number[]> {
  const tokens: number[] = []
  for await (const event of node.client.complete(QUESTION, { signal: new AbortController().signal })) {
    if (event.kind === 'delta') tokens.push(...event.tokens.map(info => info.token))
  }
  return tokens
}

const untilBroken = (node: SwarmNode): Promise<true> =>
  until(async () => ((await node.client.models())[0]?.isComplete === false ? true : undefined), {
    what: 'news of a lost peer',
    timeoutMs: 60_000,
  })

/** Resolves once the node has heard that each of the others serves layers: they are ready before they have told. */
const untilServed = (node: SwarmNode, others: readonly SwarmNode[]): Promise<true> => {
  const look = async (): Promise<true | undefined> => {
    const served = new Set((await node.client.models())[0]?.served.map(({ peer }) => peer))
    return others.every(({ ready }) => served.has(ready.peer)) ? true : undefined
  }
  return until(look, { what: 'what the others serve', timeoutMs: 60_000 })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false // No such process.
  }
}

test('nodes join, die and are replaced; what is missing is named, and the answer stays the same', async () => {
  await using swarm = await startSwarm({ nodes: [{ layers: 'none' }, { layers: '0-3' }], whole: false })
  const [entry, first] = swarm.nodes
  assert.ok(entry !== undefined && first !== undefined)
  await untilServed(entry, [first])
  await assert.rejects(answer(entry), /nobody serves layers 3-8/)

  const joined = await swarm.add({ layers: 'auto' })
  assert.equal(joined.ready.layers, '3-8', 'the new node takes what is missing')
  await untilWhole(entry)
  const tokens = await answer(entry)
  assert.equal(tokens.length, 24)

  const engines = (await joined.client.status()).engines.map(engine => engine.pid ?? 0)
  await joined.kill()
  await untilBroken(entry)
  await assert.rejects(answer(entry), /nobody serves layers 3-8/)
  await until(async () => (engines.some(isAlive) ? undefined : true), {
    what: 'the end of the engines of a killed node',
    timeoutMs: 60_000,
  })

  const replacement = await swarm.add({ layers: 'auto' })
  assert.equal(replacement.ready.layers, '3-8')
  await untilWhole(entry)
  assert.deepEqual(await answer(entry), tokens)
})

test('a second copy of a stage takes over when the first one is gone', async () => {
  await using swarm = await startSwarm({ nodes: [{ layers: 'none' }, { layers: '0-8' }, { layers: '0-8' }] })
  const [entry, ...copies] = swarm.nodes
  assert.ok(entry !== undefined)
  await untilServed(entry, copies)
  const tokens = await answer(entry)
  for await (const event of entry.client.complete(QUESTION, { signal: new AbortController().signal })) {
    if (event.kind !== 'start') continue
    const used = copies.find(copy => copy.ready.peer === event.route[0]?.peer)
    assert.ok(used !== undefined && event.route.length === 1)
    await used.kill()
    break
  }
  assert.deepEqual(await answer(entry), tokens)
})

test('more prompts than slots wait for their turn, and each gets the answer that it would get alone', async () => {
  await using swarm = await startSwarm({ nodes: [{ layers: 'none' }, { layers: '0-4' }, { layers: '4-8' }], slots: 2 })
  const [entry] = swarm.nodes
  assert.ok(entry !== undefined)
  const alone = await answer(entry)
  const together = await Promise.all(Array.from({ length: 7 }, () => answer(entry)))
  for (const tokens of together) assert.deepEqual(tokens, alone)
})

test('a stopped swarm leaves no process behind', async () => {
  const swarm = await startSwarm({ nodes: [{ layers: '0-4' }, { layers: '4-8' }] })
  const statuses = await Promise.all(swarm.nodes.map(node => node.client.status()))
  const pids = statuses.flatMap(({ pid, engines }) => [pid, ...engines.map(engine => engine.pid ?? 0)])
  assert.equal(pids.filter(isAlive).length, 6)
  const codes = await Promise.all(swarm.nodes.map(node => node.stop()))
  assert.deepEqual(codes, [0, 0])
  assert.deepEqual(pids.filter(isAlive), [])
  await swarm.stop()
})
