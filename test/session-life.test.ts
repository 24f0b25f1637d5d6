/** Sessions between real processes: what `koinon peers --json` shows, and what outlives a connection and a restart. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { CIPHER_SUITES, GREEDY, type PeerSummary } from '#wire'
import { startSwarm, type SwarmNode, until, untilWhole } from '../tools/swarm.ts'

/** What a node says of its one peer, once that is so. */
function peerOf(node: SwarmNode, isSo: (peer: PeerSummary) => boolean): Promise<PeerSummary> {
  return until(async () => (await node.client.peers()).find(isSo), { what: 'the peer', timeoutMs: 60_000 })
}

test('two nodes show version, capabilities, session, suite and rekeys; the session outlives kills of either', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-session-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const second = { layers: '4-8', args: ['--data-dir', join(directory, 'second')] }
  await using swarm = await startSwarm({ nodes: [{ layers: '0-4' }], whole: false })
  const [first] = swarm.nodes
  assert.ok(first !== undefined)
  const before = await swarm.add(second)
  const atFirst = await peerOf(first, () => true)
  const atSecond = await peerOf(before, () => true)
  assert.equal(atFirst.version, 1)
  assert.ok(atFirst.capabilities.includes('commands') && atFirst.capabilities.includes('stage'))
  assert.equal(atFirst.suite, CIPHER_SUITES[0])
  assert.equal(atFirst.rekeys, 0)
  assert.equal(atFirst.resumptions, 0)
  assert.equal(atFirst.key, before.ready.peer)
  assert.equal(atFirst.session, atSecond.session)
  assert.ok(Math.abs(atFirst.clockOffsetMs) < 5_000, 'both clocks are the same')

  await before.kill()
  const after = await swarm.add(second)
  assert.equal(after.ready.peer, before.ready.peer)
  const resumed = await peerOf(first, ({ resumptions }) => resumptions === 1)
  assert.equal(resumed.session, atFirst.session)
  await after.stop()
  const again = await swarm.add(second)
  const twice = await peerOf(first, ({ resumptions }) => resumptions === 2)
  assert.equal(twice.session, atFirst.session)
  assert.equal((await peerOf(again, () => true)).session, atFirst.session)
})

test('a key is rotated while two nodes talk: session and generation go on, records move, and a restart keeps the name', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-rotation-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const second = { layers: '4-8', args: ['--data-dir', join(directory, 'second')] }
  await using swarm = await startSwarm({ nodes: [{ layers: '0-4' }], whole: false })
  const [first] = swarm.nodes
  assert.ok(first !== undefined)
  const node = await swarm.add(second)
  await untilWhole(first)
  const alone = await answer(first)
  const { session } = await peerOf(first, () => true)

  const [during, rotated] = await Promise.all([answer(first), node.client.rotateKey({})])
  assert.equal(rotated.from, node.ready.peer)
  assert.deepEqual(during, alone)
  const moved = await peerOf(first, ({ key }) => key === rotated.to)
  assert.equal(moved.session, session)
  assert.equal(moved.peer, node.ready.peer, 'the connection keeps its peer id until the next start')
  assert.deepEqual(await answer(first), alone)

  await node.stop()
  const again = await swarm.add(second)
  assert.equal(again.ready.peer, rotated.to)
  const back = await peerOf(first, ({ peer }) => peer === rotated.to)
  assert.equal(back.session, session, 'what was kept under the old id is the new one’s')
  await untilWhole(first)
  assert.deepEqual(await answer(first), alone)
})

async function answer(node: SwarmNode): Promise<readonly number[]> {
  const tokens: number[] = []
  const request = {
    model: 'Storyteller',
    prompt: { kind: 'text', text: 'Once upon a time there was a fox.' } as const,
    sampling: GREEDY,
    tokensMax: 64,
    stop: [],
  }
  for await (const event of node.client.complete(request, { signal: new AbortController().signal })) {
    if (event.kind === 'delta') tokens.push(...event.tokens.map(info => info.token))
  }
  return tokens
}
