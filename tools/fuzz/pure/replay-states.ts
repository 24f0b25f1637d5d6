/** The replay filter's state as it lies in `node.db`, with bytes that a disk or somebody has changed. */
import assert from 'node:assert/strict'
import { concatBytes, ManualClock, silentLogger } from '#base'
import { sha256 } from '#crypto'
import { ReplayFilter } from '#protocol'
import { Chance } from '../lib/chance.ts'
import { byInputs, type Fuzzer, type FuzzContext, type Outcome, type Target } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

const NOW = 1_800_000_000_000
const DIGEST_BYTES = 32
/** Both generations of a restored state have turned by the end of them. */
const PAUSES_MS = [0, 20_000, 40_000, 70_000, 80_000, 80_000, 80_000]

export const replayStates: Fuzzer = { name: 'replay-states', kind: 'pure', open }

function open({ corpus }: FuzzContext): Target {
  const valid = [0, 1, 20].map(stateAfter)
  return byInputs({
    make: chance => {
      const bytes = mutateBytes(chance, chance.pick([...valid, ...corpus]), valid)
      if (chance.isOneIn(5)) return bytes
      // A digest that fits lets the rest be read.
      const body = bytes.subarray(0, Math.max(0, bytes.byteLength - DIGEST_BYTES))
      return concatBytes([body, sha256(body)])
    },
    check,
  })
}

/** What a filter writes down that has taken so many frames. */
function stateAfter(frames: number): Uint8Array {
  let state: Uint8Array = new Uint8Array()
  const store = { load: () => undefined, save: (bytes: Uint8Array) => void (state = bytes) }
  const { random } = new Chance(frames)
  const filter = new ReplayFilter({ clock: new ManualClock(NOW), random, store, log: silentLogger })
  for (let i = 0; i < frames; i++) filter.check(Uint8Array.of(i), NOW)
  filter.flush()
  return state
}

function check(input: Uint8Array): Outcome {
  const clock = new ManualClock(NOW)
  let isDamaged = false
  let saved: Uint8Array = input
  const log = { ...silentLogger, warn: () => void (isDamaged = true) }
  const store = { load: () => saved, save: (bytes: Uint8Array) => void (saved = bytes) }
  const filter = new ReplayFilter({ clock, random: new Chance(1).random, store, log })
  const verdicts = PAUSES_MS.map((pauseMs, index) => {
    clock.advance(pauseMs)
    return filter.check(Uint8Array.of(0xee, index), clock.now())
  })
  // A state from a clock that was far ahead makes the filter deaf for 30 s as each of its generations goes, never for good.
  assert.notEqual(verdicts.at(-1), 'stale', 'a state makes the filter refuse everything')
  assert.notEqual(
    filter.check(Uint8Array.of(0xee, PAUSES_MS.length - 1), clock.now()),
    'fresh',
    'a frame was taken twice',
  )
  filter.flush()
  return `${isDamaged ? 'damaged' : 'read'} ${verdicts.join(' ')}`
}
