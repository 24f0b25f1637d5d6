/** What peers can get wrong: each a clear error, bounded, and nothing held afterwards. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeStageStep, type StageMessage, type StageOpen, type StepHeader } from '#wire'
import { CONTROL_MESSAGES_PER_SECOND_MAX, INCOMING_STREAMS_PER_PEER_MAX, STRAY_STEPS_MAX } from './limits.ts'
import { addRawNode, GENERATION, openOf, type RawStream, rawStream } from '../../test/support/pipeline/raw-peer.ts'
import { embedding, WIDTH } from '../../test/support/pipeline/fake-engines.ts'
import { referenceTokens, requestOf, settle, TestSwarm, tokensOf } from '../../test/support/pipeline/memory-swarm.ts'

const ends = { from: 'mallory', to: 'stage0' }
const rowsOf = (count: number): Uint8Array => new Uint8Array(count * WIDTH * 4)

type Attack = {
  readonly swarm: TestSwarm
  readonly control: RawStream
  readonly decode: RawStream
  readonly prefill: RawStream
  /** Streams that the stage opened to mallory: where results come. */
  readonly back: RawStream[]
}

/** A stage that serves the whole model, and mallory, who has a generation open on it. */
async function attack(open: Partial<StageOpen> = {}, computeMs = 0): Promise<Attack> {
  const before = (): Promise<void> =>
    computeMs === 0 ? Promise.resolve() : new Promise(resolve => swarm.clock.after(computeMs, resolve))
  const swarm: TestSwarm = new TestSwarm({ slots: 2, contextMax: 64, stage: () => ({ before }) })
  swarm.ring(1)
  const back = addRawNode(swarm)
  const control = await rawStream(swarm, ends, 'control')
  const decode = await rawStream(swarm, ends, 'decode')
  const prefill = await rawStream(swarm, ends, 'prefill')
  control.send(openOf(open))
  await settle()
  return { swarm, control, decode, prefill, back }
}

/** The stage still gives an honest generation its tokens, and holds nothing afterwards. */
async function assertServes(swarm: TestSwarm): Promise<void> {
  const [entry, stage] = [swarm.nodes.get('entry'), swarm.nodes.get('stage0')]
  assert.ok(entry !== undefined && stage !== undefined)
  const request = requestOf([stage])
  assert.deepEqual(await swarm.until(tokensOf(entry, request)), await referenceTokens(request))
  await settle()
  assert.deepEqual(swarm.held(), [])
}

test('a stage refuses what it does not serve, and says why', async () => {
  const cases: [Partial<StageOpen>, string][] = [
    [{ model: 'cd'.repeat(32) }, 'STAGE_MODEL'],
    [{ layers: { first: 0, last: 9 } }, 'STAGE_LAYERS'],
    [{ profile: 'another' }, 'STAGE_PROFILE'],
    [{ predecessor: 'eve' }, 'STAGE_ROUTE'],
    [{ successor: { peer: 'eve', addresses: [] } }, 'STAGE_ROUTE'],
    [{ layers: { first: 0, last: 4 }, successor: { peer: 'stage0', addresses: [] } }, 'STAGE_ROUTE'],
    [{ positionsMax: 65 }, 'STAGE_CONTEXT'],
  ]
  for (const [open, code] of cases) {
    const { swarm, control } = await attack(open)
    assert.deepEqual(control.codes(), [code])
    assert.equal(control.messages[0]?.kind, 'refused')
    assert.equal(swarm.nodes.get('stage0')?.pipeline.stages.slotsFree(), 2)
  }
})

test('a stage refuses a generation twice, and more than there are slots', async () => {
  const { control, swarm } = await attack()
  control.send(openOf())
  control.send(openOf({ generation: '22'.repeat(16) }))
  control.send(openOf({ generation: '33'.repeat(16) }))
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_GENERATION_EXISTS', 'STAGE_BUSY'])
  assert.ok((control.messages.at(-1) as { retryAfterMs?: number }).retryAfterMs !== undefined)
  control.stream.abort(new Error('gone'))
  await assertServes(swarm)
})

test('an entry that holds too much is refused by its quota', async () => {
  const swarm = new TestSwarm({ pipeline: { generationsPerEntryMax: 1 } })
  swarm.ring(1)
  addRawNode(swarm)
  const control = await rawStream(swarm, ends, 'control')
  control.send(openOf())
  control.send(openOf({ generation: '22'.repeat(16) }))
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_QUOTA'])
})

test('a flood of control messages costs the stream, and what it opened is freed', async () => {
  const { swarm, control } = await attack()
  for (let i = 0; i <= CONTROL_MESSAGES_PER_SECOND_MAX && !control.hasEnded; i++) {
    control.send(openOf({ generation: i.toString(16).padStart(32, '0') }))
    if (i % 100 === 0) await settle()
  }
  await settle()
  assert.ok(control.hasEnded)
  await assertServes(swarm)
})

const badSteps: Record<string, { step: Partial<StepHeader>; rows?: Uint8Array; code: string }> = {
  'another width': { step: { width: 8, count: 1, byteLength: 32 }, rows: new Uint8Array(32), code: 'STAGE_SHAPE' },
  'another type': { step: { dtype: 1 }, code: 'STAGE_SHAPE' },
  'no row': { step: { count: 0, byteLength: 0 }, rows: rowsOf(0), code: 'STAGE_SHAPE' },
  'fewer bytes than rows': { step: { count: 2 }, code: 'STAGE_SHAPE' },
  'more rows than a decoding step has': { step: {}, rows: rowsOf(33), code: 'STAGE_SHAPE' },
  'an odd number of outputs': { step: { outputs: 2 }, rows: rowsOf(3), code: 'STAGE_SHAPE' },
  'a step that skips one': { step: { step: 1 }, code: 'STAGE_STEP_ORDER' },
  'a position that nothing backs': { step: { position: 1 }, code: 'STAGE_STEP_ORDER' },
  'rows that are not numbers': {
    step: {},
    rows: new Uint8Array(Float32Array.of(1, Number.NaN, 1, 1).buffer),
    code: 'ENGINE_NON_FINITE',
  },
}
for (const [what, { step, rows, code }] of Object.entries(badSteps)) {
  test(`${what}: the generation fails with ${code}, the slot is free and clean, the stream goes on`, async () => {
    const { swarm, control, decode } = await attack()
    decode.step(step, rows)
    await settle()
    assert.deepEqual(control.codes(), [code])
    assert.equal(decode.hasEnded, false)
    // Steps that were under way already are late, not wrong.
    decode.step({ step: 1, position: 1 })
    await settle()
    assert.deepEqual(decode.codes(), [])
    await assertServes(swarm)
  })
}

test('steps go up to the positions that were asked for and not beyond', async () => {
  const { swarm, control, decode, back } = await attack({ positionsMax: 3 })
  decode.step({}, rowsOf(3))
  await settle()
  assert.equal(back[0]?.headers.length, 1)
  decode.step({ step: 1, position: 3 })
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_CONTEXT'])
  await assertServes(swarm)
})

test('a step may roll back: rows from its position on are overwritten', async () => {
  const { control, decode, back } = await attack()
  decode.step({}, rowsOf(8))
  await settle()
  decode.step({ step: 1, position: 4 }, rowsOf(2))
  await settle()
  decode.step({ step: 2, position: 6 })
  await settle()
  assert.deepEqual(
    back[0]?.headers.map(header => header.position),
    [0, 4, 6],
  )
  decode.step({ step: 3, position: 8 })
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_STEP_ORDER'])
})

test('a repeated step gets the same result again and is not computed twice', async () => {
  const { swarm, control, decode, back } = await attack()
  decode.step()
  await settle()
  decode.step()
  await settle()
  assert.equal(back[0]?.headers.length, 2)
  assert.deepEqual(back[0].headers[0], back[0].headers[1])
  assert.equal(swarm.nodes.get('stage0')?.engine.steps.length, 1)
  decode.step({ step: 1, position: 1 })
  await settle()
  decode.step()
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_STEP_ORDER'])
})

test('more than two steps under way break the generation', async () => {
  const { control, prefill, swarm } = await attack({}, 10)
  for (let i = 0; i < 3; i++) prefill.step({ step: i, position: i, outputs: 0 })
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_FLOW'])
  await assertServes(swarm)
})

test('every computed chunk gives one credit', async () => {
  const { prefill } = await attack()
  prefill.step({ outputs: 0 }, rowsOf(5))
  prefill.step({ step: 1, position: 5, outputs: 0 }, rowsOf(5))
  await settle()
  assert.equal(prefill.credits, 2)
})

test('a step for a generation that nobody opened is answered, and too many cost the stream', async () => {
  const { swarm, decode, control } = await attack()
  const unknown = 'ee'.repeat(16)
  decode.step({ generation: unknown })
  await settle()
  assert.deepEqual(decode.messages, [
    {
      kind: 'failed',
      generation: unknown,
      code: 'STAGE_GENERATION_UNKNOWN',
      message: 'no such generation is open here',
    },
  ])
  for (let i = 0; i < STRAY_STEPS_MAX; i++) decode.step({ generation: unknown })
  await settle()
  assert.ok(decode.hasEnded)
  assert.deepEqual(control.codes(), [])
  control.send({ kind: 'cancel', generation: GENERATION })
  await assertServes(swarm)
})

test('steps and cancellations of others change nothing', async () => {
  const { swarm, control, decode, back } = await attack()
  const eveSteps = await rawStream(swarm, { from: 'eve', to: 'stage0' }, 'decode')
  const eveControl = await rawStream(swarm, { from: 'eve', to: 'stage0' }, 'control')
  eveSteps.step()
  eveControl.send({ kind: 'cancel', generation: GENERATION })
  await settle()
  assert.deepEqual(eveSteps.codes(), ['STAGE_NOT_PREDECESSOR'])
  assert.deepEqual(eveControl.codes(), ['STAGE_NOT_ENTRY'])
  assert.deepEqual(control.codes(), [])
  decode.step()
  await settle()
  assert.equal(back[0]?.headers.length, 1)
  control.send({ kind: 'cancel', generation: GENERATION })
  await settle()
  assert.equal(control.messages.at(-1)?.kind, 'closed')
  await assertServes(swarm)
})

test('a stream that does not say what it is for is ended', async () => {
  const { swarm } = await attack()
  const silent = await rawStream(swarm, ends, undefined)
  swarm.clock.advance(10_001)
  await settle()
  assert.ok(silent.hasEnded)
})

test('a peer has a bounded number of streams', async () => {
  const swarm = new TestSwarm()
  swarm.ring(1)
  const streams: RawStream[] = []
  for (let i = 0; i <= INCOMING_STREAMS_PER_PEER_MAX; i++) streams.push(await rawStream(swarm, ends, undefined))
  assert.deepEqual(
    streams.map(raw => raw.hasEnded).filter(ended => ended),
    [true],
  )
})

test('bytes that are no frames, and frames on the wrong stream, cost the stream', async () => {
  const cases: ((a: Attack) => RawStream)[] = [
    a => (a.decode.stream.send(Uint8Array.of(255, 255, 255, 255, 3)), a.decode),
    a => (a.decode.send(openOf()), a.decode),
    a => (a.control.step(), a.control),
    a => (a.prefill.step({ kind: 'result' }), a.prefill),
  ]
  for (const send of cases) {
    const facts = await attack()
    const raw = send(facts)
    await settle()
    assert.ok(raw.hasEnded)
    facts.control.stream.abort(new Error('gone'))
    await assertServes(facts.swarm)
  }
})

test('a stream that breaks off in the middle of a step fails the generation', async () => {
  const { swarm, control, prefill } = await attack()
  const header: StepHeader = {
    kind: 'step',
    generation: GENERATION,
    step: 0,
    position: 0,
    count: 8,
    outputs: 0,
    dtype: 0,
    width: WIDTH,
    deadlineMs: 0,
    byteLength: 8 * WIDTH * 4,
  }
  prefill.stream.send(encodeStageStep(header, rowsOf(8)).subarray(0, 100))
  await settle()
  prefill.stream.abort(new Error('gone'))
  await settle()
  assert.deepEqual(control.codes(), ['STAGE_LOST'])
  await assertServes(swarm)
})

/** A ring of one honest stage and mallory, who serves the second half as `answer` says. */
async function ringWithMallory(
  answer: (control: RawStream, message: StageMessage, swarm: TestSwarm) => void | Promise<void>,
): Promise<{ swarm: TestSwarm; outcome: Promise<number[]> }> {
  const swarm = new TestSwarm()
  const entry = swarm.add('entry', { first: 0, last: 8 })
  const first = swarm.add('stage0', { first: 0, last: 4 })
  const streams = addRawNode(swarm)
  const last = { peer: 'mallory', addresses: [], layers: { first: 4, last: 8 }, profile: '' }
  const route = [...requestOf([first]).route, last]
  const outcome = tokensOf(entry, requestOf([first], { route }))
  outcome.catch(() => undefined)
  let seen = 0
  for (let i = 0; i < 20; i++) {
    await settle()
    const control = streams.find(raw => raw.messages.length > 0)
    const message = control?.messages[seen]
    if (control === undefined || message === undefined) continue
    seen++
    await answer(control, message, swarm)
  }
  return { swarm, outcome }
}

const resultOf = async (swarm: TestSwarm, generation: string, more: Partial<StepHeader>): Promise<void> => {
  const raw = await rawStream(swarm, { from: 'mallory', to: 'entry' }, 'decode')
  raw.step({ kind: 'result', generation, count: 1, ...more }, embedding(1))
}

const badResults: Record<string, { more: Partial<StepHeader>; code: string }> = {
  'a result of another step': { more: { step: 3 }, code: 'PIPELINE_RESULT' },
  'a result of another width': { more: { width: 2 }, code: 'PIPELINE_RESULT' },
  'a result of two rows': { more: { count: 2 }, code: 'PIPELINE_RESULT' },
  'a result that breaks the framing': { more: { byteLength: 15 }, code: 'PIPELINE_STEP_TIMEOUT' },
}
for (const [what, { more, code }] of Object.entries(badResults)) {
  test(`${what} from the last stage ends the generation with ${code}`, async () => {
    const { swarm, outcome } = await ringWithMallory(async (control, message, swarm) => {
      if (message.kind === 'cancel') control.send({ kind: 'closed', generation: message.generation })
      if (message.kind !== 'open') return
      control.send({ kind: 'opened', generation: message.generation })
      await settle()
      await resultOf(swarm, message.generation, more)
    })
    await assert.rejects(swarm.until(outcome, 1000), { code })
    await settle()
    assert.deepEqual(swarm.held(), [])
  })
}

test('a result row that is not finite ends the generation with the edge engine saying so', async () => {
  const { swarm, outcome } = await ringWithMallory(async (control, message, swarm) => {
    if (message.kind === 'cancel') control.send({ kind: 'closed', generation: message.generation })
    if (message.kind !== 'open') return
    control.send({ kind: 'opened', generation: message.generation })
    await settle()
    const raw = await rawStream(swarm, { from: 'mallory', to: 'entry' }, 'decode')
    const rows = new Uint8Array(Float32Array.of(1, Number.POSITIVE_INFINITY, 1, 1).buffer)
    raw.step({ kind: 'result', generation: message.generation }, rows)
  })
  await assert.rejects(swarm.until(outcome), { code: 'ENGINE_NON_FINITE' })
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('results from anybody but the last stage cost that peer its stream and nothing else', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const request = requestOf(stages)
  const events = entry.pipeline.entry.generate(request, { signal: new AbortController().signal })
  const first = await swarm.until(events.next())
  assert.ok(first.done !== true && first.value.kind === 'opened')
  const eve = await rawStream(swarm, { from: 'eve', to: 'entry' }, 'decode')
  for (let i = 0; i <= STRAY_STEPS_MAX; i++) eve.step({ kind: 'result', generation: first.value.generation })
  await settle()
  assert.ok(eve.hasEnded)
  const tokens: number[] = []
  for await (const event of events) if (event.kind === 'token') tokens.push(event.next.token)
  assert.deepEqual(tokens, await referenceTokens(request))
})

test('what a stage reports is quoted, and codes that are not its own are not believed', async () => {
  const reports: [StageMessage['kind'], string, string][] = [
    ['refused', 'STAGE_MODEL', 'STAGE_MODEL'],
    ['refused', 'PIPELINE_STOPPED', 'STAGE_FAILED'],
    ['failed', 'ENGINE_CRASHED', 'ENGINE_CRASHED'],
    ['failed', 'ENGINE_OUT_OF_MEMORY', 'STAGE_FAILED'],
  ]
  for (const [kind, code, expected] of reports) {
    const { swarm, outcome } = await ringWithMallory((control, message) => {
      const { generation } = message
      if (message.kind === 'cancel') control.send({ kind: 'closed', generation })
      if (message.kind !== 'open') return
      if (kind === 'refused') control.send({ kind, generation, code, message: 'because' })
      else control.send({ kind: 'failed', generation, code, message: 'because' })
    })
    await assert.rejects(swarm.until(outcome), {
      fault: { code: expected, peer: 'mallory', ...(expected === code ? {} : { reported: code }) },
      message: 'stage mallory: because',
    })
    await settle()
    assert.deepEqual(swarm.held(), [])
  }
})
