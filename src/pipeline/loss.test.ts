/** How generations end before their time: callers that leave, peers and engines that go, time that is up. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { uniform, seededRandom } from '#base'
import type { GenerateRequest } from './types.ts'
import { openOf, rawStream } from '../../test/support/pipeline/raw-peer.ts'
import {
  referenceTokens,
  requestOf,
  settle,
  type SwarmNode,
  TestSwarm,
  tokensOf,
} from '../../test/support/pipeline/memory-swarm.ts'

/** Starts a generation and reads its first tokens. */
async function begin(
  swarm: TestSwarm,
  entry: SwarmNode,
  request: GenerateRequest,
): Promise<{ events: ReturnType<SwarmNode['pipeline']['entry']['generate']>; caller: AbortController }> {
  const caller = new AbortController()
  const events = entry.pipeline.entry.generate(request, { signal: caller.signal })
  for (let i = 0; i < 3; i++) await swarm.until(events.next())
  return { events, caller }
}

async function assertServes(swarm: TestSwarm, entry: SwarmNode, stages: readonly SwarmNode[]): Promise<void> {
  const request = requestOf(stages)
  assert.deepEqual(await swarm.until(tokensOf(entry, request)), await referenceTokens(request))
  await settle()
  assert.deepEqual(swarm.held(), [])
}

test('a caller that breaks out of the loop frees every stage', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(3)
  const signal = new AbortController().signal
  const leave = async (): Promise<void> => {
    for await (const event of entry.pipeline.entry.generate(requestOf(stages), { signal })) {
      if (event.kind === 'token') break
    }
  }
  await swarm.until(leave())
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('an abort frees every stage at once, even while the caller does not read', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(3)
  const { events, caller } = await begin(swarm, entry, requestOf(stages))
  caller.abort(new Error('the client left'))
  await settle()
  for (const stage of stages) assert.deepEqual(stage.pipeline.stages.generations(), [])
  assert.deepEqual(entry.pipeline.entry.generations(), [])
  await assert.rejects(swarm.until(events.next()), { message: 'the client left' })
  await assertServes(swarm, entry, stages)
})

test('an abort in the middle of a prefill takes effect between chunks', async () => {
  const swarm: TestSwarm = new TestSwarm({
    stage: () => ({ before: () => new Promise<void>(resolve => swarm.clock.after(100, resolve)) }),
  })
  const { entry, stages } = swarm.ring(2)
  const caller = new AbortController()
  const outcome = tokensOf(entry, requestOf(stages, { length: 512 * 7 }), caller.signal)
  outcome.catch(() => undefined)
  for (let i = 0; i < 25; i++) {
    await settle()
    swarm.clock.advance(10)
  }
  caller.abort(new Error('the client left'))
  await assert.rejects(swarm.until(outcome), { message: 'the client left' })
  const begun = stages.map(stage => stage.engine.steps.length)
  for (let i = 0; i < 30; i++) {
    await settle()
    swarm.clock.advance(10)
  }
  assert.deepEqual(
    stages.map(stage => stage.engine.steps.length),
    begun,
  )
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('an abort before anything began asks nobody for anything', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  await assert.rejects(tokensOf(entry, requestOf(stages), AbortSignal.abort(new Error('never'))), { message: 'never' })
  assert.deepEqual(swarm.streams, [])
})

for (const lost of [0, 1, 2]) {
  test(`the loss of stage ${lost} of three names it, and frees the others`, async () => {
    const swarm = new TestSwarm()
    const { entry, stages } = swarm.ring(3)
    const { events } = await begin(swarm, entry, requestOf(stages))
    const gone = stages[lost]
    assert.ok(gone !== undefined)
    for (const { peer } of swarm.nodes.values()) if (peer !== gone.peer) swarm.cut(peer, gone.peer)
    await assert.rejects(
      swarm.until(events.next()).then(() => events.next()),
      {
        code: 'STAGE_LOST',
        fault: { code: 'STAGE_LOST', peer: gone.peer },
      },
    )
    await settle()
    assert.deepEqual(swarm.held(), [])
    await assertServes(swarm, entry, stages)
  })
}

test('a loss between two stages reaches the entry, which has lost nobody', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(3)
  const { events } = await begin(swarm, entry, requestOf(stages))
  swarm.cut('stage1', 'stage2')
  await assert.rejects(
    swarm.until(events.next()).then(() => events.next()),
    { code: 'STAGE_LOST', message: /stage1|stage2/ },
  )
  await settle()
  await assertServes(swarm, entry, stages)
})

test('a stream that is lost while its peers stay fails its generations and is opened again', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const { events } = await begin(swarm, entry, requestOf(stages))
  for (const { from, to, end } of swarm.streams) {
    if (from === 'stage0' && to === 'stage1') end.abort(new Error('a hiccup'))
  }
  await assert.rejects(
    swarm.until(events.next()).then(() => events.next()),
    { code: 'STAGE_LOST', fault: { code: 'STAGE_LOST', peer: 'stage1' } },
  )
  await settle()
  await assertServes(swarm, entry, stages)
})

test('a stage that cannot be reached is named', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const [first, last] = requestOf(stages).route
  assert.ok(first !== undefined && last !== undefined)
  const route = [first, { ...last, peer: 'nobody' }]
  await assert.rejects(swarm.until(tokensOf(entry, requestOf(stages, { route }))), {
    fault: { code: 'STAGE_LOST', peer: 'nobody' },
  })
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('an entry that vanishes leaves nothing behind on its stages', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(3)
  const { events } = await begin(swarm, entry, requestOf(stages))
  for (const stage of stages) stage.pipeline.peerLeft('entry')
  await settle()
  for (const stage of stages) {
    assert.deepEqual(stage.pipeline.stages.generations(), [])
    assert.equal(stage.pipeline.stages.slotsFree(), 8)
  }
  await events.return(undefined)
})

test('a stage frees a generation whose entry says nothing more when its time is up', async () => {
  const swarm = new TestSwarm()
  const { stages } = swarm.ring(1)
  const control = await rawStream(swarm, { from: 'mallory', to: 'stage0' }, 'control')
  control.send(openOf({ deadlineMs: 5000 }))
  await settle()
  const serving = stages[0]?.pipeline.stages
  // Mallory cannot be reached for results, which alone would end it.
  assert.deepEqual(control.codes(), ['STAGE_LOST'])
  swarm.addPeer('mallory', () => Promise.resolve())
  control.send(openOf({ generation: '22'.repeat(16), deadlineMs: 5000 }))
  await settle()
  swarm.clock.advance(4999)
  await settle()
  assert.equal(serving?.generations().length, 1)
  swarm.clock.advance(1)
  await settle()
  assert.deepEqual(serving.generations(), [])
  assert.deepEqual(control.codes(), ['STAGE_LOST', 'STAGE_DEADLINE'])
})

test('a step that does not come back in time ends the generation', async () => {
  let isStuck = false
  const swarm = new TestSwarm({
    stage: () => ({ before: () => (isStuck ? new Promise<void>(() => undefined) : Promise.resolve()) }),
    pipeline: { decodeTimeoutMs: 500 },
  })
  const { entry, stages } = swarm.ring(2)
  const { events } = await begin(swarm, entry, requestOf(stages))
  isStuck = true
  await swarm.until(events.next())
  const started = swarm.clock.monotonic()
  await assert.rejects(swarm.until(events.next()), { code: 'PIPELINE_STEP_TIMEOUT' })
  assert.equal(swarm.clock.monotonic() - started, 500)
})

test('a generation ends with its deadline', async () => {
  const swarm: TestSwarm = new TestSwarm({
    stage: () => ({ before: () => new Promise<void>(resolve => swarm.clock.after(100, resolve)) }),
    pipeline: { deadlineMs: 1000 },
  })
  const { entry, stages } = swarm.ring(2)
  await assert.rejects(swarm.until(tokensOf(entry, requestOf(stages, { tokensMax: 100 }))), {
    code: /PIPELINE_DEADLINE|STAGE_DEADLINE/,
  })
  await swarm.until(settle())
  swarm.clock.advance(200)
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('a crash of an engine fails what was on it, and the next generation is right', async () => {
  let isSlow = false
  const swarm: TestSwarm = new TestSwarm({
    stage: () => ({
      before: () => (isSlow ? new Promise<void>(resolve => swarm.clock.after(50, resolve)) : Promise.resolve()),
    }),
  })
  const { entry, stages } = swarm.ring(3)
  const { events } = await begin(swarm, entry, requestOf(stages))
  const engine = stages[1]?.engine
  assert.ok(engine !== undefined)
  isSlow = true
  engine.state = 'restarting'
  engine.crash('killed')
  await assert.rejects(
    swarm.until(events.next()).then(() => events.next()),
    { fault: { code: 'ENGINE_CRASHED', peer: 'stage1' } },
  )
  swarm.clock.advance(100)
  await settle()
  assert.deepEqual(swarm.held(), [])
  isSlow = false
  // While it starts again the stage is busy, and generations wait for it.
  const next = tokensOf(entry, requestOf(stages))
  next.catch(() => undefined)
  for (let i = 0; i < 3; i++) {
    await settle()
    swarm.clock.advance(1000)
  }
  engine.state = 'ready'
  assert.deepEqual(await swarm.until(next, 10), await referenceTokens(requestOf(stages)))
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('a pipeline that stops ends what it entered and what it serves, and says so', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const { events } = await begin(swarm, entry, requestOf(stages))
  await swarm.until(stages[1]?.pipeline.stop() ?? Promise.resolve())
  await assert.rejects(
    swarm.until(events.next()).then(() => events.next()),
    { fault: { code: 'STAGE_STOPPED', peer: 'stage1' } },
  )
  const [first] = stages
  assert.ok(first !== undefined)
  const alone = { ...first, layers: { first: 0, last: 4 } }
  await assert.rejects(swarm.until(tokensOf(entry, requestOf([alone, ...stages.slice(1)])), 10))
  await swarm.until(entry.pipeline.stop())
  await assert.rejects(swarm.until(tokensOf(entry, requestOf(stages))), { code: 'PIPELINE_STOPPED' })
  await settle()
  assert.deepEqual(first.pipeline.stages.generations(), [])
})

test('requests that cannot run are refused before anybody is asked', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const good = requestOf(stages)
  const bad: Partial<GenerateRequest>[] = [
    { prompt: new Int32Array() },
    { tokensMax: 0 },
    { tokensMax: 1e12 },
    { model: 'x' },
    { route: [] },
    { route: good.route.slice(1) },
    { route: good.route.toReversed() },
    { route: good.route.map(hop => ({ ...hop, peer: 'stage0' })) },
  ]
  for (const more of bad) {
    await assert.rejects(tokensOf(entry, { ...good, ...more }), { code: 'PIPELINE_REQUEST' })
  }
  assert.deepEqual(swarm.streams, [])
})

/** One run: a ring, several generations, and things that go wrong at moments that the seed chooses. */
async function simulate(seed: number): Promise<{ ended: number; failed: number; codes: Set<string> }> {
  const random = seededRandom(seed)
  const pick = (count: number): number => Math.floor(uniform(random) * count)
  const spread = 1 + pick(20)
  const swarm: TestSwarm = new TestSwarm({
    random,
    slots: 1 + pick(4),
    latency: () => pick(spread),
    stage: () => ({ before: () => new Promise<void>(resolve => swarm.clock.after(pick(spread), resolve)) }),
    pipeline: { deadlineMs: 4000, openTimeoutMs: 2000, decodeTimeoutMs: 1000, prefillTimeoutMs: 1500 },
  })
  const { entry, stages } = swarm.ring(1 + pick(4))
  const codes = new Set<string>()
  let ended = 0
  let failed = 0
  const run = async (): Promise<void> => {
    const request = requestOf(stages, { length: 1 + pick(1200), tokensMax: 1 + pick(8) })
    const caller = new AbortController()
    if (pick(4) === 0) swarm.clock.after(pick(300), () => caller.abort(new Error('ABORTED')))
    const from = pick(3) === 0 ? (stages[pick(stages.length)] ?? entry) : entry
    try {
      const tokens = await tokensOf(from, request, caller.signal)
      assert.deepEqual(tokens, await expectedOf(request), `seed ${seed}`)
      ended++
    } catch (error) {
      if (error instanceof assert.AssertionError || error instanceof TypeError) throw error
      failed++
      codes.add((error as { code?: string }).code ?? (error as Error).message)
    }
  }
  for (let i = pick(3); i > 0; i--) {
    const [a, b] = [[entry, ...stages][pick(stages.length + 1)], stages[pick(stages.length)]]
    if (a === undefined || b === undefined) continue
    const mishap = pick(3)
    swarm.clock.after(pick(400), () => {
      if (mishap === 0) b.engine.crash('chance')
      else if (mishap === 1 && a !== b) swarm.cut(a.peer, b.peer)
      else
        for (const { from, to, end } of swarm.streams) if (from === a.peer && to === b.peer) end.abort(new Error('x'))
    })
  }
  await swarm.until(Promise.all(Array.from({ length: 1 + pick(6) }, run)), 5)
  for (let i = 0; i < 20; i++) {
    await settle()
    swarm.clock.advance(20)
  }
  await settle()
  assert.deepEqual(swarm.held(), [], `seed ${seed}`)
  return { ended, failed, codes }
}

const references = new Map<string, Promise<number[]>>()

/** The right tokens, made once for each length. */
async function expectedOf(request: GenerateRequest): Promise<number[]> {
  const key = String(request.prompt.length)
  const all = references.get(key) ?? referenceTokens({ ...request, tokensMax: 8 })
  references.set(key, all)
  return (await all).slice(0, request.tokensMax)
}

test('whatever the schedule, generations end with the right tokens or a clear error, and nothing is held', async () => {
  const first = Number(process.env['KOINON_SEED'] ?? 1)
  const count = Number(process.env['KOINON_SEEDS'] ?? 60)
  let [ended, failed] = [0, 0]
  const codes = new Set<string>()
  for (let seed = first; seed < first + count; seed++) {
    const outcome = await simulate(seed)
    ended += outcome.ended
    failed += outcome.failed
    for (const code of outcome.codes) codes.add(code)
  }
  const known = /^(ABORTED|ENGINE_CRASHED|STAGE_[A-Z_]+|PIPELINE_(STEP_TIMEOUT|DEADLINE))$/
  for (const code of codes) assert.match(code, known)
  if (count >= 60)
    assert.ok(ended > 60 && failed > 20, `${ended} ended well, ${failed} failed: ${[...codes].join(' ')}`)
})

test('a stage that takes other layers ends its generations with its reason, and serves again', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const [, second] = stages
  const { events } = await begin(swarm, entry, requestOf(stages))
  await swarm.until(second?.pipeline.stages.evict('other layers are being loaded here') ?? Promise.resolve())
  assert.deepEqual(second?.pipeline.stages.generations(), [])
  const rest = async (): Promise<void> => {
    while ((await events.next()).done !== true);
  }
  await assert.rejects(swarm.until(rest()), (error: { code: string; message: string }) => {
    assert.equal(error.code, 'STAGE_STOPPED')
    assert.match(error.message, /other layers are being loaded here/)
    return true
  })
  await assertServes(swarm, entry, stages)
})
