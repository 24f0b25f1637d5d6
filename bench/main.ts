/**
 * `npm run -s bench -- NAME [options] --json`: measures one thing beside its reference in the same run. Machines are
 * noisy, so rounds of ours and of the reference alternate and medians are compared; the ratios are what counts.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { benchEngine } from './lib/engine-bench.ts'
import { benchPipeline } from './lib/pipeline-bench.ts'
import { benchProtocol } from './lib/protocol-bench.ts'
import { type Result, report } from './lib/report.ts'
import { STORYTELLER } from '../tools/swarm.ts'

const HELP = `usage: npm run -s bench -- NAME --model FILE [options]

  engine      one engine process beside libllama with the same threads: decode and prefill
  protocol    the session beside bare libp2p streams between two processes: commands, stage steps, bulk
  pipeline    stages in real processes on loopback beside one engine process: decode and time added per hop

  --model FILE    a GGUF file (default for protocol: the built-in model)
  --threads N     threads of every engine (default: all cores but one, as "koinon up" has it)
  --rounds N      interleaved rounds (default 5)
  --tokens N      tokens decoded in a round (default 64)
  --prompt N      positions of the prompt (default 512)
  --stages N      pipeline: how many stages (default 2)
  --json          end with one line of JSON`

export type BenchOptions = {
  readonly model: string
  readonly threads: number
  readonly rounds: number
  readonly tokens: number
  readonly prompt: number
  readonly stages: number
}

const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<Result>>> = {
  engine: benchEngine,
  pipeline: benchPipeline,
  protocol: benchProtocol,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    threads: { type: 'string', default: String(Math.max(1, availableParallelism() - 1)) },
    rounds: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '64' },
    prompt: { type: 'string', default: '512' },
    stages: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
  },
})

const name = positionals[0] ?? ''
const bench = BENCHES[name]
const model = values.model ?? (name === 'protocol' ? STORYTELLER : undefined)
if (bench === undefined || model === undefined) {
  console.error(HELP)
  process.exitCode = 2
} else {
  const result = await bench({
    model,
    threads: Number(values.threads),
    rounds: Number(values.rounds),
    tokens: Number(values.tokens),
    prompt: Number(values.prompt),
    stages: Number(values.stages),
  })
  report(result, { json: values.json })
}
