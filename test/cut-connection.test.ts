/** A generation over real processes goes on while the connection between its stages is cut. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CompletionRequest, GREEDY } from '#wire'
import { startSwarm, type SwarmNode, until, untilWhole } from '../tools/swarm.ts'
import { CutProxy } from './support/cut-proxy.ts'

const QUESTION: CompletionRequest = {
  model: 'Storyteller',
  prompt: { kind: 'text', text: 'Once upon a time there was a fox.' },
  sampling: GREEDY,
  tokensMax: 8000,
  stop: [],
  ignoreEnd: true,
}
/** Of an answer that goes on for much longer: it is under way when its connection is cut, however late that is. */
const TOKENS = 240

/** The first tokens of an answer. */
async function answer(node: SwarmNode, onToken: (count: number) => Promise<void> | void): Promise<readonly number[]> {
  const tokens: number[] = []
  for await (const event of node.client.complete(QUESTION, { signal: new AbortController().signal })) {
    if (event.kind !== 'delta') continue
    tokens.push(...event.tokens.map(info => info.token))
    await onToken(tokens.length)
    if (tokens.length >= TOKENS) break
  }
  return tokens.slice(0, TOKENS)
}

/** Two nodes that know one another through a proxy. */
async function cutInTheMiddle(planeOptions: readonly string[]): Promise<void> {
  const options = [...planeOptions, '--log-level', 'info']
  await using first = await startSwarm({ nodes: [{ layers: '0-4', args: options }], ctx: 8192, whole: false })
  const [entry] = first.nodes
  assert.ok(entry !== undefined)
  const address = entry.ready.addresses[0] ?? ''
  const [, host = '', port = '', peer = ''] = /^\/ip4\/([\d.]+)\/tcp\/(\d+)\/p2p\/(\w+)$/.exec(address) ?? []
  const proxy = new CutProxy({ host, port: Number(port) })
  await proxy.start()
  const contact = `/ip4/127.0.0.1/tcp/${proxy.port}/p2p/${peer}`
  await using second = await startSwarm({
    nodes: [{ layers: '4-8', args: ['--peer', contact, ...options] }],
    ctx: 8192,
    whole: false,
  })
  const [stage] = second.nodes
  assert.ok(stage !== undefined)
  try {
    await untilWhole(entry)
    const uncut = await answer(entry, () => undefined)
    assert.equal(uncut.length, TOKENS)
    assert.ok(proxy.connections >= 1, 'they talk through the proxy')
    let openAtCut = 0
    const cut = await answer(entry, async count => {
      if (count !== 5) return
      // Connections are taken and reset: where they are refused, streams are given up sooner.
      void proxy.goAway()
      openAtCut = (await entry.client.status()).generations.length
      proxy.comeBack()
    })
    assert.equal(openAtCut, 2, 'the generation was under way, at its entry and at the stage there')
    assert.deepEqual(cut, uncut)
    const log = await until(async () => [entry, stage].find(node => /goes on over another carrier/.test(node.log())), {
      what: 'a stream that was resumed',
      timeoutMs: 10_000,
    })
    assert.match(log.log(), /has lost its carrier/)
    assert.deepEqual(await answer(entry, () => undefined), uncut)
  } finally {
    await proxy.stop()
  }
}

test('a generation over the data plane goes on when the connection of its stages is cut', () => cutInTheMiddle([]))

test('a generation over libp2p goes on when the connection of its stages is cut', () =>
  cutInTheMiddle(['--plane-port', 'off']))
