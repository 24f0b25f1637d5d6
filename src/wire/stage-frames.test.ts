/** Golden bytes and a fuzz of what peers send on stage streams. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { concatBytes, fromHex, type Random, seededRandom, toHex } from '#base'
import {
  encodeStageControl,
  encodeStageCredit,
  encodeStageStart,
  encodeStageStep,
  encodeStageStepParts,
  type StageFrameFault,
  StageFrameReader,
  type StageMessage,
  STEP_HEADER_BYTES,
  type StepHeader,
} from './index.ts'
import { STAGE_PART_BYTES_MAX, STAGE_STEP_BYTES_MAX } from './limits.ts'

const GENERATION = '000102030405060708090a0b0c0d0e0f'

function headerOf(byteLength: number, more: Partial<StepHeader> = {}): StepHeader {
  const fixed = { step: 0x11121314, position: 0x21222324, count: 0x0102, outputs: 1, dtype: 0, width: 4 }
  return { kind: 'step', generation: GENERATION, ...fixed, deadlineMs: 60_000, byteLength, ...more }
}

/** Everything that a reader said, with rows put together. */
function read(pieces: Iterable<Uint8Array>): {
  events: unknown[]
  rows: Uint8Array
  fault: StageFrameFault | undefined
} {
  const events: unknown[] = []
  const rows: Uint8Array[] = []
  const note = (event: unknown): undefined => {
    events.push(event)
  }
  const reader = new StageFrameReader({
    start: purpose => note({ purpose }),
    message: message => note(message),
    credit: (generation, step) => note({ generation, step }),
    step: header => note(header),
    rows: part => {
      rows.push(part.slice())
      return undefined
    },
  })
  let fault: StageFrameFault | undefined
  for (const piece of pieces) fault = reader.push(piece)
  return { events, rows: concatBytes(rows), fault }
}

function* cut(bytes: Uint8Array, random: Random, max: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; ) {
    const end = at + 1 + (random.uint32() % max)
    yield bytes.subarray(at, end)
    at = end
  }
}

test('frames have these bytes', () => {
  assert.equal(toHex(encodeStageStart('control')), '020000000101')
  assert.equal(toHex(encodeStageStart('decode')), '020000000102')
  assert.equal(toHex(encodeStageStart('prefill')), '020000000103')
  assert.equal(toHex(encodeStageCredit(GENERATION, 258)), `1500000006${GENERATION}02010000`)
  const step = encodeStageStep(headerOf(3), fromHex('aabbcc'))
  assert.equal(toHex(step), `2f00000003000201${GENERATION}14131211242322210400000060ea00000100000003000000aabbcc`)
  const result = encodeStageStep(headerOf(0, { kind: 'result' }), new Uint8Array())
  assert.equal(toHex(result).slice(0, 10), '2c00000004')
  assert.equal(result.byteLength, STEP_HEADER_BYTES)
  assert.equal(
    toHex(encodeStageControl({ kind: 'cancel', generation: GENERATION })),
    `2a00000002a2646b696e646663616e63656c6a67656e65726174696f6e50${GENERATION}`,
  )
})

test('every control message comes back as it was', () => {
  const generation = GENERATION
  const messages: StageMessage[] = [
    {
      kind: 'open',
      generation,
      model: 'ab'.repeat(32),
      profile: 'p',
      layers: { first: 0, last: 4 },
      predecessor: 'a',
      successor: { peer: 'b', addresses: ['/ip4/127.0.0.1/tcp/1/p2p/b'] },
      positionsMax: 100,
      deadlineMs: 1000,
    },
    { kind: 'opened', generation },
    { kind: 'refused', generation, code: 'STAGE_BUSY', message: 'full', retryAfterMs: 20 },
    { kind: 'cancel', generation },
    { kind: 'closed', generation },
    { kind: 'failed', generation, code: 'STAGE_LOST', message: 'gone', peer: 'b' },
  ]
  for (const message of messages) assert.deepEqual(read([encodeStageControl(message)]).events, [message])
})

test('control messages that are not exactly right are faults', () => {
  const open: StageMessage = {
    kind: 'open',
    generation: GENERATION,
    model: 'ab'.repeat(32),
    profile: '',
    layers: { first: 0, last: 4 },
    predecessor: 'a',
    successor: { peer: 'b', addresses: [] },
    positionsMax: 100,
    deadlineMs: 1000,
  }
  const wrong: StageMessage[] = [
    { ...open, generation: 'abcd' },
    { ...open, model: 'short' },
    { ...open, layers: { first: 4, last: 4 } },
    { ...open, positionsMax: 0 },
    { ...open, deadlineMs: Number.MAX_SAFE_INTEGER },
    { ...open, successor: { peer: 'b', addresses: Array.from({ length: 17 }, () => 'x') } },
    { kind: 'failed', generation: GENERATION, code: 'not a code', message: '' },
  ]
  for (const message of wrong) {
    assert.equal(read([encodeStageControl(message)]).fault?.code, 'WIRE_STAGE_FRAME', JSON.stringify(message))
  }
})

test('rows beyond 64 KiB follow in parts and come out whole, however the stream is cut', () => {
  const random = seededRandom(7)
  const rows = random.bytes(2 * STAGE_PART_BYTES_MAX + 12)
  const header = headerOf(rows.byteLength)
  const frames = [...encodeStageStepParts(header, rows)]
  assert.deepEqual(
    frames.map(frame => frame.byteLength),
    [STEP_HEADER_BYTES + STAGE_PART_BYTES_MAX, 5 + STAGE_PART_BYTES_MAX, 5 + 12],
  )
  const bytes = concatBytes([encodeStageStart('prefill'), ...frames, encodeStageCredit(GENERATION, 1)])
  for (const max of [1, 3, 50, 70_000, 1_000_000]) {
    const { events, rows: got, fault } = read(cut(bytes, random, max))
    assert.equal(fault, undefined)
    assert.deepEqual(events, [{ purpose: 'prefill' }, header, { generation: GENERATION, step: 1 }])
    assert.deepEqual(got, rows)
  }
})

test('lengths that lie are faults before anything is set aside for them', () => {
  const step = (byteLength: number, bytes: number): Uint8Array =>
    encodeStageStep(headerOf(byteLength), new Uint8Array(bytes))
  const bad: Record<string, Uint8Array> = {
    'an empty frame': fromHex('0000000003'),
    'a huge control message': fromHex('ffffffff02'),
    'a huge step frame': fromHex('ffffffff03'),
    'an unknown kind': fromHex('0200000009ff'),
    'an unknown purpose': fromHex('020000000107'),
    'rows that nothing announced': fromHex('0200000005ff'),
    'a step beyond the limit': step(STAGE_STEP_BYTES_MAX + 1, STAGE_PART_BYTES_MAX),
    'fewer rows than announced': step(8, 4),
    'more rows than announced': step(4, 8),
    'a step in the middle of another': concatBytes([step(STAGE_PART_BYTES_MAX + 4, STAGE_PART_BYTES_MAX), step(4, 4)]),
    'more parts than announced': concatBytes([
      step(STAGE_PART_BYTES_MAX + 1, STAGE_PART_BYTES_MAX),
      fromHex('0300000005ffff'),
    ]),
  }
  for (const [what, bytes] of Object.entries(bad)) assert.equal(read([bytes]).fault?.code, 'WIRE_STAGE_FRAME', what)
})

test('a fault is final', () => {
  const { events, fault } = read([fromHex('0000000003'), encodeStageStart('control')])
  assert.equal(fault?.code, 'WIRE_STAGE_FRAME')
  assert.deepEqual(events, [])
})

test('whatever bytes come, the reader answers with events or a fault and never with more rows than announced', () => {
  const good = concatBytes([
    encodeStageStart('decode'),
    encodeStageStep(headerOf(16), new Uint8Array(16)),
    encodeStageControl({ kind: 'cancel', generation: GENERATION }),
    encodeStageCredit(GENERATION, 3),
    ...encodeStageStepParts(headerOf(STAGE_PART_BYTES_MAX + 4), new Uint8Array(STAGE_PART_BYTES_MAX + 4)),
  ])
  let faults = 0
  for (let seed = 0; seed < 2000; seed++) {
    const random = seededRandom(seed)
    const bytes = good.slice(0, random.uint32() % 4 === 0 ? undefined : 300)
    for (let i = 0; i <= random.uint32() % 4; i++) bytes[random.uint32() % 200] = random.uint32() & 0xff
    const { events, rows, fault } = read(cut(bytes, random, 1 + (random.uint32() % 400)))
    const announced = events.reduce<number>((sum, event) => sum + ((event as Partial<StepHeader>).byteLength ?? 0), 0)
    assert.ok(rows.byteLength <= announced, `seed ${seed}`)
    if (fault !== undefined) faults++
  }
  assert.ok(faults > 500 && faults < 2000, `${faults} of 2000 damaged streams were faults`)
})
