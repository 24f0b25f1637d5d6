/**
 * A peer that lies, against a real node with a real engine and one slot: each lie is answered with its code, and the
 * answer that the same slot gives next is the right one.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { systemRandom, toHex } from '#base'
import { createHost, type Host } from '#net'
import {
  encodeStageStart,
  GREEDY,
  type NodeStatus,
  PROTOCOLS,
  type StageOpen,
  type StagePurpose,
  type StepHeader,
} from '#wire'
import { hostDeps } from './support/net-hosts.ts'
import { RawStream } from './support/pipeline/raw-peer.ts'
import { startSwarm, type Swarm, type SwarmNode, until } from '../tools/swarm.ts'

const CONTEXT = 512

let swarm: Swarm
let node: SwarmNode
let host: Host
let honest: string
let facts: { readonly model: string; readonly width: number; readonly layerCount: number }

before(async () => {
  swarm = await startSwarm({ nodes: [{ layers: '0-8' }], slots: 1, ctx: CONTEXT })
  const [first] = swarm.nodes
  assert.ok(first !== undefined)
  node = first
  const [model] = await node.client.models()
  assert.ok(model !== undefined)
  facts = { model: model.id, width: model.width, layerCount: model.layerCount }
  host = await createHost(await hostDeps(), { listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false })
  await host.start()
  host.handle(PROTOCOLS.stage, async stream => {
    const raw = new RawStream(stream)
    await until(async () => (raw.hasEnded ? true : undefined), { what: 'the end of a stream', timeoutMs: 60_000 })
  })
  await host.connect((await node.client.status()).addresses[0] ?? '')
  honest = await story()
})
after(async () => {
  await host.stop()
  await swarm.stop()
})

async function story(): Promise<string> {
  let text = ''
  const prompt = { kind: 'text', text: 'Once upon a time there was a fox.' } as const
  const request = { model: 'Storyteller', prompt, sampling: GREEDY, tokensMax: 24, stop: [] }
  for await (const event of node.client.complete(request, { signal: new AbortController().signal })) {
    if (event.kind === 'delta') text += event.text
  }
  return text
}

/** The answer of a story reaches its asker before the stage has heard that its generation is over. */
const untilIdle = (): Promise<NodeStatus> =>
  until(
    async () => {
      const status = await node.client.status()
      return status.generations.length === 0 && status.kvRows === 0 ? status : undefined
    },
    { what: 'a node without generations', timeoutMs: 20_000 },
  )

async function open(purpose: StagePurpose): Promise<RawStream> {
  const [peer] = host.peers()
  assert.ok(peer !== undefined)
  const raw = new RawStream(await host.open(peer.id, PROTOCOLS.stage))
  raw.stream.send(encodeStageStart(purpose))
  return raw
}

async function firstCode(...streams: RawStream[]): Promise<string> {
  const read = async (): Promise<string | undefined> => streams.flatMap(raw => raw.codes())[0]
  return until(read, { what: 'an answer', timeoutMs: 20_000 })
}

type Lie = {
  readonly open?: Partial<StageOpen>
  readonly step?: Partial<StepHeader>
  readonly rows?: (width: number) => Float32Array
  readonly code: string
}

const rowsOf =
  (count: number, value = 0.5) =>
  (width: number) =>
    new Float32Array(count * width).fill(value)

const lies: Record<string, Lie> = {
  'rows that are NaN': { rows: rowsOf(16, Number.NaN), code: 'ENGINE_NON_FINITE' },
  'rows that are infinite': { rows: rowsOf(1, Number.POSITIVE_INFINITY), code: 'ENGINE_NON_FINITE' },
  'rows of another width': { step: { width: 7, byteLength: 28 }, rows: () => new Float32Array(7), code: 'STAGE_SHAPE' },
  'a type that is not f32': { step: { dtype: 1 }, code: 'STAGE_SHAPE' },
  'fewer rows than the header says': { step: { count: 3 }, code: 'STAGE_SHAPE' },
  'a step beyond the positions asked for': { open: { positionsMax: 2 }, rows: rowsOf(3), code: 'STAGE_CONTEXT' },
  'more positions than a slot has': { open: { positionsMax: CONTEXT + 1 }, code: 'STAGE_CONTEXT' },
  'a step that skips one': { step: { step: 1 }, code: 'STAGE_STEP_ORDER' },
  'a position that nothing backs': { step: { position: 9 }, code: 'STAGE_STEP_ORDER' },
  'an unknown generation': { step: { generation: 'ee'.repeat(16) }, code: 'STAGE_GENERATION_UNKNOWN' },
  'an unknown model': { open: { model: 'cd'.repeat(32) }, code: 'STAGE_MODEL' },
  'layers that are not here': { open: { layers: { first: 0, last: 9 } }, code: 'STAGE_LAYERS' },
}

for (const [what, lie] of Object.entries(lies)) {
  test(`${what}: ${lie.code}, and the slot gives the right answer next`, async () => {
    await untilIdle() // There is one slot.
    const generation = toHex(systemRandom.bytes(16))
    const [control, decode] = [await open('control'), await open('decode')]
    control.send({
      kind: 'open',
      generation,
      model: facts.model,
      profile: '',
      layers: { first: 0, last: facts.layerCount },
      predecessor: host.id,
      successor: { peer: host.id, addresses: [...host.addresses()] },
      positionsMax: 64,
      deadlineMs: 60_000,
      ...lie.open,
    })
    await until(async () => (control.messages.length > 0 ? true : undefined), { what: 'an answer', timeoutMs: 20_000 })
    if (control.messages[0]?.kind === 'opened') {
      const rows = (lie.rows ?? rowsOf(1))(facts.width)
      const count = rows.length / facts.width
      decode.step({ generation, width: facts.width, count, ...lie.step }, new Uint8Array(rows.buffer))
    }
    assert.equal(await firstCode(control, decode), lie.code)
    control.send({ kind: 'cancel', generation })
    await until(async () => (control.messages.at(-1)?.kind === 'closed' ? true : undefined), {
      what: 'the end of the generation',
      timeoutMs: 20_000,
    })
    assert.equal(await story(), honest)
    for (const raw of [control, decode]) raw.stream.abort(new Error('done'))
  })
}

test('a node that was lied to still has its engine, and holds nothing', async () => {
  const status = await untilIdle()
  assert.deepEqual(
    status.engines.map(engine => [engine.state, engine.restarts]),
    [
      ['ready', 0],
      ['ready', 0],
    ],
  )
})
