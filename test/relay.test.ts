/** Nodes that take no connections at all, and a relay: real processes. What they cannot say to each other goes through it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { GREEDY, type NodeStatus, type PeerSummary } from '#wire'
import { startSwarm, type Swarm, type SwarmNode, until } from '../tools/swarm.ts'

let swarm: Swarm
const directory = mkdtempSync(join(tmpdir(), 'koinon-relay-'))

/**
 * The relay holds no layers; the two others hold half of the model each, and neither can be dialled. They would come to a
 * direct path after some seconds: here they are not to.
 */
before(async () => {
  const settings = join(directory, 'net.json')
  writeFileSync(settings, JSON.stringify({ directPaths: false }))
  const hidden = ['--listen', 'none', '--plane-port', 'off', '--net-config', settings]
  swarm = await startSwarm({
    secret: 'a secret of the relay test',
    nodes: [
      { layers: 'none', args: ['--relay', 'on'] },
      { layers: '0-4', args: hidden },
      { layers: '4-8', args: hidden },
    ],
  })
})
after(async () => {
  await swarm.stop()
  rmSync(directory, { recursive: true })
})

async function answer(node: SwarmNode): Promise<readonly number[]> {
  const request = {
    model: 'Storyteller',
    prompt: { kind: 'chat', messages: [{ role: 'user', content: 'Tell me a story about a fox.' }] },
    sampling: GREEDY,
    tokensMax: 32,
    stop: [],
  } as const
  const tokens: number[] = []
  for await (const event of node.client.complete(request, { signal: new AbortController().signal })) {
    if (event.kind === 'delta') tokens.push(...event.tokens.map(info => info.token))
  }
  return tokens
}

test('two nodes that know only a relay run a generation through it', async () => {
  const [relay, a, b] = swarm.nodes
  assert.ok(relay !== undefined && a !== undefined && b !== undefined)
  const byRelay = await answer(relay)
  assert.ok(byRelay.length >= 16)
  const before = (await relay.client.status()).relay?.serving.bytes ?? 0
  assert.deepEqual(await answer(a), byRelay)
  assert.deepEqual(await answer(b), byRelay)
  const status: NodeStatus = await relay.client.status()
  const serving = status.relay?.serving
  assert.ok(serving !== undefined && serving.isServing)
  assert.deepEqual(new Set(serving.reservations.map(({ peer }) => peer)), new Set([a.ready.peer, b.ready.peer]))
  assert.ok(serving.circuits.length >= 1)
  assert.ok(serving.bytes > before + 1000, `${serving.bytes - before} bytes went through the relay`)
  const summaries: readonly PeerSummary[] = await relay.client.peers()
  for (const { peer, relay: relayed } of summaries) {
    assert.equal(relayed?.isHere, true)
    assert.ok(relayed.bytes >= (serving.peers.find(served => served.peer === peer)?.bytes ?? Number.POSITIVE_INFINITY))
  }
  for (const node of [a, b]) {
    const { relay: own, addresses } = await node.client.status()
    assert.deepEqual(
      own?.held.map(held => held.relay),
      [relay.ready.peer],
    )
    assert.ok(addresses.length > 0 && addresses.every(address => address.includes('/p2p-circuit/')))
    assert.equal((await node.client.peers()).find(({ peer }) => peer === relay.ready.peer)?.relay?.isOurs, true)
  }
})

test('a node that is killed has its place at the relay taken back', async () => {
  const [relay, a, b] = swarm.nodes
  assert.ok(relay !== undefined && a !== undefined && b !== undefined)
  await b.kill()
  const reservations = await until(
    async () => {
      const { relay: status } = await relay.client.status()
      const held = status?.serving.reservations.map(({ peer }) => peer) ?? []
      return held.includes(b.ready.peer) ? undefined : held
    },
    { what: 'the end of a reservation', timeoutMs: 10_000 },
  )
  assert.deepEqual(reservations, [a.ready.peer])
  assert.deepEqual((await relay.client.status()).relay?.serving.circuits, [])
})
