/** Trials of models that are what their vector says, of others, and of files that end their process. */
import assert from 'node:assert/strict'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { silentLogger, systemClock } from '#base'
import { writeRandomGguf } from '../../../test/support/random-gguf.ts'
import { patchTensor } from '../../../test/support/patch-gguf.ts'
import { TRIAL_OTHER_PROFILE_DEVIATION_MAX, TRIAL_SAME_PROFILE_DEVIATION_MAX } from '../limits.ts'
import { createTrial, refuseMismatch } from './trial.ts'
import { deviationOf, reduceOutput, type TestVector, trialRows, trialTokens } from './vector.ts'

const MODELS = fileURLToPath(new URL('../../../models/', import.meta.url))
const STORY = path.join(MODELS, 'storyteller-2m-q8_0.gguf')
const deps = { clock: systemClock, log: silentLogger }
const trial = createTrial(deps, { threads: 1, device: 'cpu' })
const ALL = { layers: { first: 0, last: 8 }, edges: true } as const

let directory = ''
let vector: TestVector
before(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'koinon-trial-'))
  vector = await trial.measureVector(STORY, ALL, { seed: 7 })
})
after(() => rmSync(directory, { recursive: true }))

test('inputs follow from the seed, are the same everywhere, and look normal', () => {
  assert.deepEqual([...trialTokens(7, 4096)], [2395, 3924, 1382, 1390])
  const rows = trialRows(7, 3, 4096)
  assert.deepEqual(rows, trialRows(7, 3, 4096))
  assert.notDeepEqual(rows, trialRows(7, 4, 4096))
  assert.notDeepEqual(rows, trialRows(8, 3, 4096))
  const mean = rows.reduce((sum, number) => sum + number, 0) / rows.length
  const variance = rows.reduce((sum, number) => sum + (number - mean) ** 2, 0) / rows.length
  assert.ok(Math.abs(mean) < 0.1 && Math.abs(variance - 1) < 0.1, `${mean} ${variance}`)
})

test('a vector has a probe for each part, and the model passes it, whole and in part', async () => {
  assert.deepEqual(
    vector.probes.map(({ part }) => part),
    ['embed', 'head', 0, 1, 2, 3, 4, 5, 6, 7],
  )
  for (const parts of [ALL, { layers: { first: 2, last: 4 } }, { edges: true }]) {
    const result = await trial.checkVector(STORY, parts, { vector })
    assert.deepEqual([result.ok, result.worst, result.tolerance], [true, 0, TRIAL_SAME_PROFILE_DEVIATION_MAX])
    refuseMismatch(result)
  }
  const twoThreads = createTrial(deps, { threads: 2, device: 'cpu' })
  const result = await twoThreads.checkVector(STORY, { layers: { first: 0, last: 2 } }, { vector })
  assert.deepEqual([result.ok, result.tolerance], [true, TRIAL_OTHER_PROFILE_DEVIATION_MAX])
})

test('another quantisation of the same model is refused, even by the tolerance for other machines', async () => {
  const elsewhere = { ...vector, profile: 'another machine' }
  const result = await trial.checkVector(path.join(MODELS, 'storyteller-2m-f16.gguf'), ALL, { vector: elsewhere })
  assert.equal(result.tolerance, TRIAL_OTHER_PROFILE_DEVIATION_MAX)
  assert.throws(() => refuseMismatch(result), { code: 'ENGINE_TRIAL_MISMATCH', message: /layer \d/ })
})

test('layers in another order are refused', async () => {
  const swapped = vector.probes.map(probe => {
    if (probe.part === 2) return { ...probe, part: 3 }
    return probe.part === 3 ? { ...probe, part: 2 } : probe
  })
  const check = { vector: { ...vector, profile: 'another machine', probes: swapped } }
  const result = await trial.checkVector(STORY, { layers: { first: 0, last: 8 } }, check)
  const wrong = result.parts.filter(({ deviation }) => deviation > result.tolerance).map(({ part }) => part)
  assert.deepEqual(wrong, [2, 3])
})

test('one changed number in the weights of one layer is found there by the same profile', async () => {
  const file = path.join(directory, 'edited.gguf')
  copyFileSync(STORY, file)
  await patchTensor(file, 'blk.5.attn_norm.weight', { index: 3, value: 1.5 })
  const result = await trial.checkVector(file, { layers: { first: 0, last: 8 } }, { vector })
  const wrong = result.parts.filter(({ deviation }) => deviation > result.tolerance).map(({ part }) => part)
  assert.deepEqual([result.ok, wrong], [false, [5]])
})

test('a vector that lacks a part, or has no numbers for it, is passed by no model', async () => {
  const parts = { layers: { first: 0, last: 2 } }
  const lacking = { ...vector, probes: vector.probes.filter(({ part }) => part !== 1) }
  assert.equal((await trial.checkVector(STORY, parts, { vector: lacking })).worst, Infinity)
  const poisoned = vector.probes.map(probe => ({ ...probe, norm: NaN }))
  assert.equal((await trial.checkVector(STORY, parts, { vector: { ...vector, probes: poisoned } })).ok, false)
  const probe = reduceOutput(7, 0, Float32Array.of(1, 2, 3))
  assert.equal(deviationOf(probe, { ...probe, values: probe.values.subarray(1) }, 3), Infinity)
  assert.equal(deviationOf(probe, probe, 3), 0)
})

test('a model that is none, or computes no numbers, fails its trial', async () => {
  const failed = (cause: string) => ({ fault: { code: 'ENGINE_TRIAL_FAILED', cause } })
  const absent = path.join(directory, 'absent.gguf')
  await assert.rejects(trial.checkVector(absent, ALL, { vector }), failed('ENGINE_FILE_UNREADABLE'))
  const broken = path.join(directory, 'nan.gguf')
  await writeRandomGguf(broken, { architecture: 'llama', type: 'F32', layers: 2 })
  await patchTensor(broken, 'blk.1.ffn_norm.weight', { index: 0, value: NaN })
  const layers = { first: 0, last: 2 }
  await assert.rejects(trial.measureVector(broken, { layers }, { seed: 1 }), failed('ENGINE_NON_FINITE'))
})

test('the caller can end a trial', async () => {
  const signal = AbortSignal.abort()
  await assert.rejects(trial.checkVector(STORY, ALL, { vector, signal }), { name: 'AbortError' })
})
