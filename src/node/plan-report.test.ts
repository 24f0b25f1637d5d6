import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PlanNode, RouteOffer } from '#planner'
import type { LocalModel } from './model-library.ts'
import { type PlanFacts, planReport } from './plan-report.ts'

const MODEL: LocalModel = {
  id: 'a'.repeat(64),
  name: 'm',
  file: '/m.gguf',
  fileBytes: 1,
  createdAt: 1,
  config: { layerCount: 4 } as LocalModel['config'],
  plan: { layers: Array.from({ length: 4 }, () => ({ weightBytes: 1000, kvBytesPerPosition: 2 })) },
  edgeBytes: 700,
  headBytes: 500,
  contextMax: 10,
}

const node = (id: string, memoryBytes: number): PlanNode => ({
  id,
  memoryBytes,
  kvPositions: 20,
  weightBytesPerSecond: 1_000_000,
})

const served = (peer: string, first: number, last: number): RouteOffer => ({
  peer,
  addresses: [],
  isSelf: peer === 'me',
  rttMs: 4,
  stage: {
    model: MODEL.id,
    layers: { first, last },
    layerCount: 4,
    contextMax: 10,
    slots: 2,
    slotsFree: 2,
    profile: 'p',
    stepMs: 5,
  },
})

const facts = (more: Partial<PlanFacts>): PlanFacts => ({
  model: MODEL,
  self: 'me',
  nodes: [node('me', 10_000), node('other', 10_000)],
  rttMs: new Map([['other', 4]]),
  offers: [],
  ...more,
})

test('a plan says who would run what, how fast, and why', () => {
  const report = planReport(facts({}))
  assert.ok(report.fits)
  assert.deepEqual(
    report.stages.map(({ peer, isSelf, layers, weightBytes, kvBytes }) => [peer, isSelf, layers, weightBytes, kvBytes]),
    [
      ['me', true, { first: 0, last: 2 }, 2000, 80],
      ['other', false, { first: 2, last: 4 }, 2000, 80],
    ],
  )
  assert.equal(report.kvBytesPerGeneration, 80)
  // 2 ms here, 2.3 ms over, 2 ms there, 2.3 ms back, 0.5 ms for the head.
  assert.ok(Math.abs(report.tokensPerSecond - 1000 / 9.1) < 1e-6)
  assert.equal(report.why.length, 6)
  assert.match(report.summary, /it fits: 2 machines give 20\.0 KB.*\(2 \+ 2\)/)
  assert.equal(report.current, undefined)
})

test('a plan that does not fit says what is missing', () => {
  const report = planReport(facts({ nodes: [node('me', 1100)] }))
  assert.equal(report.fits, false)
  assert.equal(report.tokensPerSecond, 0)
  assert.match(report.summary, /this machine gives 1\.1 KB; the model does not fit: layers 1-4 need 3\.1 KB more/)
})

test('what serves the model now is told beside the plan', () => {
  const { current } = planReport(facts({ offers: [served('me', 0, 1), served('other', 1, 4)] }))
  assert.deepEqual(current?.route, [
    { peer: 'me', layers: { first: 0, last: 1 } },
    { peer: 'other', layers: { first: 1, last: 4 } },
  ])
  assert.ok(Math.abs((current?.tokensPerSecond ?? 0) - 1000 / 15.1) < 1e-6)
})

test('an entry without layers plans with the others and guesses its own speed from theirs', () => {
  const report = planReport(facts({ nodes: [node('other', 10_000)] }))
  assert.deepEqual(
    report.stages.map(stage => stage.peer),
    ['other'],
  )
  assert.ok(Math.abs(report.tokensPerSecond - 1000 / 9.1) < 1e-6)
})

test('nobody who gives memory is a plan that does not fit', () => {
  assert.equal(planReport(facts({ nodes: [] })).fits, false)
})
