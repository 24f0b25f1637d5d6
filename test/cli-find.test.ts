/** `koinon find` over a node's local socket: results as they come, errors, and a search that is broken off. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { abortable } from '#base'
import type { KoinonNode } from '#node'
import type { FindRequest, FoundServiceSummary } from '#wire'
import { createCliBench } from './support/cli-bench.ts'
import { createScriptedNode } from './support/scripted-node.ts'

const FOUND: FoundServiceSummary = {
  peer: '12D3KooWabcdefghijkl',
  service: 'stage',
  model: 'ab'.repeat(32),
  modelName: 'Story\u001bteller',
  layers: { first: 0, last: 4 },
  layerCount: 8,
  addresses: ['/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWabcdefghijkl'],
  sequence: 1,
  expiresAt: 2,
  via: 'kad',
}

/** A node whose searches run like this, and a command line in front of it. */
function setUp(t: TestContext, find: KoinonNode['find']) {
  return createCliBench(t, { ...createScriptedNode(), find })
}

test('results are lines for people, or JSON', async t => {
  const asked: FindRequest[] = []
  const { stdout, stderr, run } = await setUp(t, async function* (request) {
    asked.push(request)
    yield FOUND
    yield { peer: 'p', service: 'stage', addresses: [], sequence: 0, expiresAt: 0, via: 'peer' }
  })
  assert.equal(await run('find', 'stage', '--model', 'abababab', '--timeout', '9'), 0)
  assert.deepEqual(asked, [{ service: 'stage', model: 'abababab', timeoutMs: 9_000 }])
  const [first, second] = stdout.text.split('\n')
  assert.match(
    first ?? '',
    /^…efghijkl {2}stage {2}Story.?teller 0-4 of 8 {2}abababababab {2}via Kademlia {2}\/ip4\/10\.0\.0\.1\/tcp\/4001$/,
  )
  assert.ok(!stdout.text.includes('\u001b'))
  assert.equal(second, 'p  stage  via a peer')
  assert.equal(stderr.text, '2 results.\n')
  const json = await setUp(t, async function* () {
    yield FOUND
  })
  assert.equal(await json.run('find', 'stage', '--json'), 0)
  assert.deepEqual(JSON.parse(json.stdout.text), FOUND)
  assert.equal(json.stderr.text, '')
})

test('a node that refuses says why; a broken-off search ends at the node too', async t => {
  const off = await setUp(t, () => {
    throw Object.assign(new Error('nothing'), {})
  })
  assert.equal(await off.run('find', 'stage'), 1)
  assert.match(off.stderr.text, /\[INTERNAL\]/)
  const started = Promise.withResolvers<AbortSignal>()
  const endless = await setUp(t, async function* (_request, { signal }) {
    yield FOUND
    started.resolve(signal)
    await abortable(new Promise<never>(() => undefined), signal)
  })
  const running = endless.run('find', 'stage')
  const signal = await started.promise
  const ended = signal.aborted ? Promise.resolve() : once(signal, 'abort')
  endless.interrupt()
  assert.equal(await running, 130)
  await ended
})
