import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#base'
import { PREDICTED_PORTS_MAX } from './limits.ts'
import { type PortPattern, type PortSample, portPatternOf, predictPorts } from './port-prediction.ts'

/** Samples from inside ports that follow no order. */
function samples(outsidePorts: readonly number[]): PortSample[] {
  const inside = [40_111, 52_007, 33_333, 61_002, 45_678, 50_050, 39_000, 47_000]
  return outsidePorts.map((outsidePort, index) => ({ insidePort: inside[index] ?? 0, outsidePort }))
}

const one = (outsidePorts: readonly number[]): PortSample[] =>
  outsidePorts.map(outsidePort => ({ insidePort: 40_000, outsidePort }))

type Case = readonly [
  what: string,
  samples: readonly PortSample[],
  pattern: PortPattern['kind'],
  next: readonly number[],
]

const CASES: readonly Case[] = [
  ['nothing', [], 'unknown', []],
  ['one mapping', one([5000]), 'unknown', []],
  ['one mapping, seen twice', one([5000, 5000]), 'unknown', []],
  ['ports kept', samples([40_111, 52_007, 33_333]), 'preserved', [40_000]],
  ['ports kept, one after the other', [1, 2, 3].map(i => ({ insidePort: i, outsidePort: i })), 'preserved', [40_000]],
  ['an offset', samples([40_211, 52_107, 33_433]), 'offset', [40_100]],
  ['+1', samples([5000, 5001, 5002, 5003]), 'sequence', [5004, 5005, 5006]],
  ['+2', samples([5000, 5002, 5004, 5006]), 'sequence', [5008, 5010, 5012]],
  ['-1', samples([5003, 5002, 5001, 5000]), 'sequence', [4999, 4998, 4997]],
  ['+1 from one inside port', one([5000, 5001, 5002]), 'sequence', [5003, 5004, 5005]],
  ['+1 with others in between', samples([5000, 5001, 5004, 5005, 5006]), 'sequence', [5007, 5008, 5009]],
  ['+2 with others in between', samples([5000, 5002, 5008, 5010, 5012]), 'sequence', [5014, 5016, 5018]],
  ['+1 round the end', samples([65_534, 65_535, 1024, 1025]), 'sequence', [1026, 1027, 1028]],
  ['+1 before the end', samples([65_532, 65_533, 65_534]), 'sequence', [65_535, 1024, 1025]],
  [
    'inside and outside count',
    [7, 8, 9].map(i => ({ insidePort: i, outsidePort: i + 5000 })),
    'sequence',
    [5010, 5011, 5012],
  ],
  ['random', samples([5000, 61_001, 23_456, 40_404]), 'random', []],
  ['there and back', samples([5000, 5001, 5000, 5001]), 'random', []],
  ['far steps', samples([5000, 5100, 5200, 5300]), 'random', []],
  ['mostly kept', samples([40_111, 52_007, 1_500]), 'random', []],
]

for (const [what, given, kind, next] of CASES) {
  test(`${what}: ${kind}`, () => {
    const pattern = portPatternOf(given)
    assert.equal(pattern.kind, kind)
    assert.deepEqual(predictPorts(pattern, 40_000, 3), next)
  })
}

test('random ports are not taken for a pattern', t => {
  const seed = 0x9047
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  let found = 0
  for (let turn = 0; turn < 10_000; turn++) {
    const given = samples(Array.from({ length: 5 }, () => 1024 + (random.uint32() % 64_512)))
    if (portPatternOf(given).kind !== 'random') found++
  }
  assert.equal(found, 0)
})

test('as many ports are predicted as may be', () => {
  const pattern = portPatternOf(samples([5000, 5001, 5002]))
  assert.equal(predictPorts(pattern, 1, 1e9).length, PREDICTED_PORTS_MAX)
  assert.deepEqual(predictPorts({ kind: 'offset', offset: 10 }, 65_530, 3), [])
  assert.deepEqual(predictPorts({ kind: 'preserved' }, 1, 0), [])
})
