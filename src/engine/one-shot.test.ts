import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { KoinonError, silentLogger, systemClock } from '#base'
import { describeEngine, measureMachine, quantize } from './one-shot.ts'
import { createReference } from './reference.ts'

const MODELS = fileURLToPath(new URL('../../models/', import.meta.url))
const deps = { clock: systemClock, log: silentLogger }
const options = { threads: 1, device: 'cpu' } as const

test('the engine describes itself and its devices', async () => {
  const description = await describeEngine(deps, options)
  assert.match(description.package, /^@node-llama-cpp\/\S+ 3\.21\.1$/)
  assert.match(description.version, /^\d+\.\d+\.\d+$/)
  assert.match(description.commit, /^[0-9a-f]{7,}$/)
  assert.ok(description.cpuVariant !== '')
  const cpu = description.devices.find(({ name }) => name.startsWith('CPU'))
  assert.ok(cpu !== undefined && cpu.memoryTotal >= cpu.memoryFree && cpu.memoryFree > 0)
})

test('what is wrong with the engine is told, not crashed over', async () => {
  await assert.rejects(
    describeEngine(deps, { ...options, threads: 0 }),
    (error: unknown) => error instanceof KoinonError && error.code === 'ENGINE_BAD_LOAD',
  )
})

test('the machine is measured', async () => {
  const { weightBytesPerSecond, device } = await measureMachine(deps, options)
  assert.ok(weightBytesPerSecond > 50e6 && weightBytesPerSecond < 5e12, String(weightBytesPerSecond))
  assert.match(device, /^CPU/)
})

test('a quantized model runs in the reference engine', async t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'koinon-quantize-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const files = { fileIn: path.join(MODELS, 'storyteller-2m-f16.gguf'), fileOut: path.join(directory, 'q5_0.gguf') }
  await quantize(deps, files, { type: 'q5_0' })
  const reference = await createReference(deps, { file: files.fileOut, threads: 1, contextMax: 256 })
  t.after(() => reference.stop())
  const once = await reference.generate(Int32Array.of(1, 2, 3), 8, { logits: true })
  // From an empty cache each time: the answer to the same prompt is the same.
  assert.deepEqual((await reference.generate(Int32Array.of(1, 2, 3), 8)).tokens, once.tokens)
  assert.equal(once.logits?.length, 8)
  const { decodeMs, decodeTokensPerSecond } = await reference.benchmark({ promptTokens: 32, decodeTokens: 8 })
  assert.equal(decodeMs.length, 8)
  assert.ok(decodeTokensPerSecond > 0)
  await assert.rejects(
    reference.generate(new Int32Array(200), 100),
    (error: unknown) => error instanceof KoinonError && error.code === 'ENGINE_CONTEXT_FULL',
  )
})

test('a file that is no model cannot be quantized', async () => {
  const files = { fileIn: path.join(MODELS, 'README.md'), fileOut: path.join(tmpdir(), 'never.gguf') }
  await assert.rejects(
    quantize(deps, files, { type: 'q8_0' }),
    (error: unknown) => error instanceof KoinonError && error.code === 'ENGINE_BAD_MODEL',
  )
})
