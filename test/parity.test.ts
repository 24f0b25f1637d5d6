/**
 * Equality with libllama across real processes, as the command `npm run -s parity` shows it: a part of the matrix that
 * `.ci/run` goes through in full. Each command here is one that a person can type.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { silentLogger, systemClock } from '#base'
import { quantize, type QuantizeType } from '#engine'
import { runProgram, temporaryDir } from './support/command.ts'
import { type RandomGgufOptions, writeRandomGguf } from './support/random-gguf.ts'
import { STORYTELLER } from '../tools/swarm.ts'

const PARITY = fileURLToPath(new URL('../bench/parity.ts', import.meta.url))
const BENCH = fileURLToPath(new URL('../bench/main.ts', import.meta.url))

type Parity = {
  readonly equal: boolean
  readonly logits_max_abs_diff: number
  readonly pids: readonly number[]
  readonly layers: readonly string[]
  readonly prompts: readonly { readonly tokens: readonly number[]; readonly reference_tokens: readonly number[] }[]
}

async function lastLine(script: string, args: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await runProgram([process.execPath, script, ...args, '--json'])
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '')
}

async function checkParity(
  model: string,
  options: { readonly stages: number; readonly prompts: string },
): Promise<void> {
  const args = ['--model', model, '--stages', String(options.stages), '--prompts', options.prompts, '--tokens', '24']
  const result = (await lastLine(PARITY, args)) as Parity
  assert.equal(result.equal, true)
  assert.equal(result.logits_max_abs_diff, 0)
  assert.equal(new Set(result.pids).size, options.stages + 1, 'each stage and the entry is a process of its own')
  assert.equal(result.layers.length, options.stages)
  for (const { tokens, reference_tokens } of result.prompts) {
    assert.equal(tokens.length, 24)
    assert.deepEqual(tokens, reference_tokens)
  }
}

test('the built-in model in three processes says what libllama says, bit for bit', async () => {
  await checkParity(STORYTELLER, { stages: 3, prompts: '1,7,300' })
})

const MODELS: ReadonlyArray<readonly [RandomGgufOptions, QuantizeType]> = [
  [{ architecture: 'llama', ropeFreqs: true }, 'q4_0'],
  [{ architecture: 'qwen2' }, 'q6_k'],
  [{ architecture: 'qwen3' }, 'q8_0'],
  [{ architecture: 'gemma3' }, 'q4_k'],
]

for (const [shape, type] of MODELS) {
  test(`a random ${shape.architecture} in ${type} over two processes equals libllama, over prefill chunks too`, async t => {
    const directory = temporaryDir(t)
    const full = join(directory, 'full.gguf')
    const file = join(directory, 'model.gguf')
    await writeRandomGguf(full, { ...shape, seed: 7 })
    await quantize({ clock: systemClock, log: silentLogger }, { fileIn: full, fileOut: file }, { type, pure: true })
    await checkParity(file, { stages: 2, prompts: '7,700' })
  })
}

test('parity of a file that is not there is an error', async () => {
  const { code, stderr } = await runProgram([process.execPath, PARITY, '--model', '/no/such/file.gguf', '--json'])
  assert.notEqual(code, 0)
  assert.match(stderr, /no such file/i)
})

test('a benchmark ends with one line that holds figures, ratios and goals', async () => {
  const args = ['engine', '--model', STORYTELLER, '--rounds', '1', '--tokens', '8', '--prompt', '32', '--threads', '1']
  const result = (await lastLine(BENCH, args)) as Readonly<Record<string, Readonly<Record<string, number>>>>
  assert.equal(result['bench'], 'engine')
  for (const figure of ['decode', 'decode_reference', 'prefill', 'prefill_reference']) {
    assert.ok((result['figures']?.[figure] ?? 0) > 0, figure)
  }
  assert.deepEqual(Object.keys(result['ratios'] ?? {}), ['decode_ratio', 'prefill_ratio'])
  assert.deepEqual(result['goals'], { decode_ratio: 0.97, prefill_ratio: 0.92 })
  assert.equal(typeof result['met'], 'boolean')
})

test('the pipeline benchmark says what a hop adds and where it goes', async () => {
  const args = [
    'pipeline',
    '--model',
    STORYTELLER,
    '--rounds',
    '1',
    '--tokens',
    '8',
    '--prompt',
    '32',
    '--threads',
    '1',
  ]
  const result = (await lastLine(BENCH, args)) as Readonly<Record<string, Readonly<Record<string, number>>>>
  for (const figure of ['decode', 'decode_single', 'hop_ms_p50', 'hop_pipe_ms', 'hop_wire_ms', 'hop_rest_ms']) {
    assert.ok(Number.isFinite(result['figures']?.[figure]), figure)
  }
  assert.deepEqual(result['goals'], { decode_ratio: 0.85, hop_ms_p50: 1.5 })
})
