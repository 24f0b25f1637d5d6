/** Streams of `/koinon/stage/1`: frames of fixed form, control messages, rows in pieces. */
import assert from 'node:assert/strict'
import { concatBytes } from '#base'
import {
  encodeStageControl,
  encodeStageCredit,
  encodeStageStart,
  encodeStageStepParts,
  type StageFrameFault,
  StageFrameReader,
  type StageMessage,
  type StageOpen,
  type StepHeader,
} from '#wire'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { byInputs, type Fuzzer } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'

const GENERATION = 'ab'.repeat(16)
const OPEN: StageOpen = {
  kind: 'open',
  generation: GENERATION,
  model: 'cd'.repeat(32),
  profile: '',
  layers: { first: 0, last: 8 },
  predecessor: '12D3KooWH8cdLxfJxjxEJF7Ee3waDRUs27yb6YzD6cq4n7gpeY3Z',
  successor: { peer: '12D3KooWH8cdLxfJxjxEJF7Ee3waDRUs27yb6YzD6cq4n7gpeY3Z', addresses: ['/ip4/127.0.0.1/tcp/1'] },
  positionsMax: 64,
  deadlineMs: 10_000,
}

export const stageStreams: Fuzzer = {
  name: 'stage-streams',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({
      make: chance => {
        const bytes = concatBytes(stageFrames(chance, OPEN, 64))
        return chance.isOneIn(8) ? bytes : mutateBytes(chance, chance.pick([bytes, bytes, ...corpus]), corpus)
      },
      check,
    }),
}

/** A stream as an entry or a stage might write it: a start, then messages or steps. */
export function stageFrames(chance: Chance, open: StageOpen, width: number): Uint8Array[] {
  const purpose = chance.pick(['control', 'decode', 'prefill'] as const)
  const frames = [encodeStageStart(purpose)]
  for (let left = chance.below(5); left > 0; left--) {
    if (purpose === 'control') frames.push(encodeStageControl(message(chance, open)))
    else if (chance.isOneIn(8)) frames.push(encodeStageCredit(open.generation, chance.below(4)))
    else frames.push(...step(chance, open.generation, width))
  }
  if (chance.isOneIn(20)) frames.shift()
  return frames
}

function message(chance: Chance, open: StageOpen): StageMessage {
  const { generation } = open
  return chance.pick<StageMessage>([
    open,
    open,
    { ...open, layers: { first: chance.below(8), last: 8 }, positionsMax: 1 + chance.below(600) },
    { ...open, deadlineMs: 1 + chance.below(50) },
    { kind: 'opened', generation },
    { kind: 'refused', generation, code: 'STAGE_BUSY', message: 'busy', retryAfterMs: chance.below(60_000) },
    { kind: 'cancel', generation },
    { kind: 'closed', generation },
    { kind: 'failed', generation, code: 'STAGE_LOST', message: 'x'.repeat(chance.below(500)) },
  ])
}

function* step(chance: Chance, generation: string, width: number): Generator<Uint8Array> {
  const count = chance.pick([1, 1, 2, 32])
  const rows = chance.isOneIn(4) ? strangeRows(chance, count * width) : new Uint8Array(4 * count * width)
  const number = (likely: number): number => (chance.isOneIn(6) ? Math.abs(chance.border()) : likely)
  const header: StepHeader = {
    kind: chance.isOneIn(6) ? 'result' : 'step',
    generation,
    step: number(chance.below(3)),
    position: number(chance.below(3)),
    count: number(count) % 65_536,
    outputs: number(chance.below(2)) % 65_536,
    dtype: chance.isOneIn(20) ? chance.below(256) : 0,
    width: number(width),
    deadlineMs: number(0),
    byteLength: chance.isOneIn(10) ? number(rows.byteLength) : rows.byteLength,
  }
  yield* encodeStageStepParts(header, rows)
}

/** Numbers that spread: not a number, infinite, as small as can be. */
function strangeRows(chance: Chance, count: number): Uint8Array {
  const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4e38, 1e-45, -0]
  return new Uint8Array(Float32Array.from({ length: count }, () => chance.pick(values)).buffer)
}

function check(input: Uint8Array): string {
  const whole = read([input])
  const pieces = read(cut(new Chance(seedOfBytes(input)), input))
  assert.deepEqual(pieces, whole, 'the cuts of a stream changed what was read from it')
  return whole.calls.at(-1)?.split(' ')[0] ?? 'nothing'
}

/** Rows that come in several calls count together. */
function read(pieces: readonly Uint8Array[]): { readonly calls: readonly string[]; readonly rows: number } {
  const calls: string[] = []
  let rows = 0
  let owed = 0
  const note = (text: string): undefined => void calls.push(text)
  const reader = new StageFrameReader({
    start: purpose => note(`start ${purpose}`),
    message: told => note(`${told.kind} ${JSON.stringify(told)}`),
    credit: (generation, number) => note(`credit ${generation} ${number}`),
    step: header => {
      owed = header.byteLength
      return note(`step ${JSON.stringify(header)}`)
    },
    rows: part => {
      rows += part.byteLength
      owed -= part.byteLength
      assert.ok(owed >= 0, 'more rows than were announced')
      return undefined
    },
  })
  let fault: StageFrameFault | undefined
  for (const piece of pieces) {
    const found = reader.push(piece)
    if (fault !== undefined) assert.deepEqual(found, fault)
    fault = found
  }
  if (fault !== undefined) calls.push(`fault ${fault.what}`)
  return { calls, rows }
}
