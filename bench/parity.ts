/**
 * `npm run -s parity`: greedy tokens and logits of a model that is split over real processes, beside libllama's.
 *
 *   npm run -s parity -- --model FILE --stages N --tokens 64 --json
 *   npm run -s parity -- --matrix quick|all [--json]
 *
 * Ends with exit code 1 where anything differs. With `--json` the last line is one JSON object; `equal` says it all.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type BenchModel, readModel } from './lib/model.ts'
import { type MatrixModel, matrixModels } from './lib/parity-matrix.ts'
import { type ParityResult, type ParitySettings, type ReferenceRun, runParity, runReference } from './lib/parity-run.ts'

const HELP = `usage: npm run -s parity -- --model FILE [--stages N] | --matrix quick|all

  --model FILE      a GGUF file
  --stages N        processes that share the layers (default 2); the entry is one more and holds none
  --matrix KIND     the built-in model and small random ones of every architecture and type, 1 to 4 stages each;
                    quick: a cross-section
  --tokens N        tokens of each answer (default 64)
  --prompts A,B,…   lengths of the prompts (default 1,7,300,1500)
  --threads N       threads of every engine, the reference too (default 1)
  --seed N          prompts are drawn from it (default 1)
  --json            end with one line of JSON`

/** A random model whose reference says fewer different tokens than this proves little: it gets another seed. */
const DISTINCT_TOKENS_MIN = 16
const SEEDS_MAX = 20

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    matrix: { type: 'string' },
    stages: { type: 'string', default: '2' },
    tokens: { type: 'string', default: '64' },
    prompts: { type: 'string', default: '1,7,300,1500' },
    threads: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
})
const settings: ParitySettings = {
  tokens: Number(values.tokens),
  threads: Number(values.threads),
  promptLengths: values.prompts.split(',').map(Number),
  seed: Number(values.seed),
}

if (values.model !== undefined) await runOne(values.model)
else if (values.matrix === 'quick' || values.matrix === 'all') await runMatrix(values.matrix)
else {
  console.error(HELP)
  process.exitCode = 2
}

async function runOne(path: string): Promise<void> {
  const model = await readModel(path)
  const references = await runReference(model, settings)
  const result = await runParity(model, references, { ...settings, stages: Number(values.stages) })
  finish(result.equal, result, describe(result))
}

async function runMatrix(kind: 'quick' | 'all'): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-parity-'))
  const failed: ParityResult[] = []
  let runs = 0
  try {
    for (const entry of matrixModels(kind, directory)) {
      const { model, references } = await prepare(entry)
      for (let stages = 1; stages <= Math.min(4, model.config.layerCount); stages++) {
        const result = await runParity(model, references, { ...settings, stages })
        runs++
        if (!result.equal || result.logits_max_abs_diff !== 0) failed.push(result)
        say(`${entry.name.padEnd(24)} ${describe(result)}`)
      }
      if (entry.isRandom) await rm(model.file)
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  const equal = failed.length === 0
  const summary = `${runs - failed.length} of ${runs} runs equal libllama, token for token and bit for bit`
  finish(equal, { equal, matrix: kind, runs, failed }, summary)
}

/** The model and what libllama says to it; a model that repeats itself is made anew from the next seed. */
async function prepare(entry: MatrixModel): Promise<{ model: BenchModel; references: ReferenceRun[] }> {
  for (let seed = 1; seed <= SEEDS_MAX; seed++) {
    const model = await readModel(await entry.make(seed))
    const references = await runReference(model, settings)
    const distinct = Math.min(...references.map(run => new Set(run.tokens).size))
    if (!entry.isRandom || distinct >= Math.min(DISTINCT_TOKENS_MIN, settings.tokens)) return { model, references }
    say(`${entry.name.padEnd(24)} seed ${seed}: only ${distinct} distinct tokens, trying another`)
    await rm(model.file)
  }
  throw new Error(`${entry.name}: no seed of ${SEEDS_MAX} gave ${DISTINCT_TOKENS_MIN} distinct tokens`)
}

function describe(result: ParityResult): string {
  const prompts = result.prompts.map(prompt => `${prompt.prompt_tokens}${prompt.equal ? '' : ' DIFFERS'}`).join(', ')
  const verdict = result.equal ? 'equal' : 'NOT EQUAL'
  const difference = `largest logit difference ${result.logits_max_abs_diff}`
  return `${verdict}: ${result.stages} stages [${result.layers.join(' ')}], prompts of ${prompts}; ${difference}`
}

function say(line: string): void {
  if (values.json) console.error(line)
  else console.log(line)
}

function finish(equal: boolean, result: object, summary: string): void {
  say(summary)
  if (values.json) console.log(JSON.stringify(result))
  if (!equal) process.exitCode = 1
}
