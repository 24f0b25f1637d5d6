/**
 * `npm run -s bench -- NAME [options] --json`: measures one thing beside its reference in the same run. Machines are
 * noisy, so rounds of ours and of the reference alternate and medians are compared; the ratios are what counts.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { benchEngine } from './lib/engine-bench.ts'
import { benchNet } from './lib/net-bench.ts'
import { benchPipeline } from './lib/pipeline-bench.ts'
import { benchProtocol } from './lib/protocol-bench.ts'
import { type Result, report } from './lib/report.ts'
import { benchSwarm } from './lib/swarm-bench.ts'

const HELP = `usage: npm run -s bench -- NAME --model FILE [options]

  engine      one engine process beside libllama with the same threads: decode and prefill
  protocol    the session beside bare libp2p streams between two processes: commands, stage steps, bulk
  net         streams over TCP, QUIC, WebSocket and the data plane beside node:tls between two processes;
              look-ups in Kademlia and Mainline, 100 nodes each
  swarm       weights between nodes on loopback beside libtorrent; one seeder to four leechers; hashing; memory
  pipeline    stages in real processes on loopback beside one engine process: decode and time added per hop

  --model FILE    a GGUF file (protocol and swarm make their own, net needs none)
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

export type ModelLessOptions = Omit<BenchOptions, 'model'> & { readonly model: string | undefined }

/** Undefined: there is nothing to measure without a model. */
type Bench = (options: ModelLessOptions) => Promise<Result> | undefined

const ofModel =
  (bench: (options: BenchOptions) => Promise<Result>): Bench =>
  ({ model, ...options }) =>
    model === undefined ? undefined : bench({ ...options, model })

const BENCHES: Readonly<Record<string, Bench>> = {
  engine: ofModel(benchEngine),
  net: benchNet,
  pipeline: ofModel(benchPipeline),
  protocol: benchProtocol,
  swarm: benchSwarm,
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

const result = await BENCHES[positionals[0] ?? '']?.({
  model: values.model,
  threads: Number(values.threads),
  rounds: Number(values.rounds),
  tokens: Number(values.tokens),
  prompt: Number(values.prompt),
  stages: Number(values.stages),
})
if (result === undefined) {
  console.error(HELP)
  process.exitCode = 2
} else report(result, { json: values.json })
