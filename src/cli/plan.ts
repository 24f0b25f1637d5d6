/** `koinon plan`: who would run what of a model, whether it fits, and how fast it should be, with the reasons. */
import type { Command } from 'commander'
import { formatBytes, formatLayers } from '#base'
import type { PlanReport } from '#wire'
import { addDataDirOption, clientOf, dataDirOf } from './data-dir.ts'
import { addEngineOptions, engineConfig, SLOTS_DEFAULT } from './engine-options.ts'
import { CliError } from './errors.ts'
import { modelFile } from './model-file.ts'
import { createProgress } from './progress.ts'
import { isMeant, type SessionFlags } from './session.ts'
import { interruptible } from './signals.ts'
import { renderTable, wrap } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { formatLatency, formatRate, shortPeer } from './units.ts'

type PlanFlags = SessionFlags & { readonly json?: boolean }

export function addPlan(program: Command, deps: CliDeps): void {
  const command = program
    .command('plan')
    .description('show who would run what of a model, whether it fits, and the expected speed')
    .argument('<model>', 'a model of the running node (name, id or file name), or a GGUF file')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
With a running node, the plan is for the machines that it sees now. A GGUF file that
the node does not serve, or no running node, gives a plan for this machine alone.

Examples:
  $ koinon plan storyteller
  $ koinon plan ~/models/qwen3-8b-q4_k_m.gguf --json`,
    )
  addDataDirOption(addEngineOptions(command)).action(async (model: string, flags: PlanFlags) => {
    const report = await planOf(deps, model, flags)
    if (flags.json === true) {
      printJson(deps.stdout, report)
      return
    }
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    deps.stdout.write(renderPlan(report, deps.stdout.columns, paint))
  })
}

async function planOf(deps: CliDeps, model: string, flags: SessionFlags): Promise<PlanReport> {
  const client = await clientOf(deps, flags)
  const file = modelFile(deps, model)
  try {
    const models = await client.models()
    const served = models.find(candidate => isMeant(candidate, { name: model, file }))
    if (file === undefined || served !== undefined) return await client.plan(served?.id ?? model)
  } catch (error) {
    const isNodeAbsent = error instanceof CliError && error.code === 'CLI_NO_NODE'
    if (!isNodeAbsent || file === undefined) throw error
  }
  return planAlone(deps, file, flags)
}

/** The plan for this machine alone: the file's header is read and the machine measured, which takes a moment. */
async function planAlone(deps: CliDeps, file: string, flags: SessionFlags): Promise<PlanReport> {
  const paint = createPaint(wantsColour(deps.stderr, deps.env))
  const progress = createProgress({ output: deps.stderr, clock: deps.clock, paint })
  const { signal, done } = interruptible(deps)
  const config = { dataDir: dataDirOf(deps, flags), model: file, slots: SLOTS_DEFAULT, ...engineConfig(flags) }
  try {
    return await deps.planFile(config, { onProgress: progress.report, signal })
  } finally {
    progress.clear()
    done()
  }
}

export function renderPlan(report: PlanReport, width: number, paint: Paint): string {
  const verdict = report.fits ? paint.green('fits') : paint.red('does not fit')
  const title = `${paint.bold(printable(report.name))}: ${report.layerCount} layers, ${formatBytes(report.weightBytes)}, ${verdict}\n`
  const summary = `${wrap(sentence(printable(report.summary)), width)}\n`
  const parts = [title + summary]
  if (report.stages.length > 0) parts.push(renderStages(report, width, paint))
  if (report.fits) {
    const why = report.why
      .map(reason => `  ${wrap(withShortPeers(printable(reason), report), width - 4).replaceAll('\n', '\n    ')}\n`)
      .join('')
    parts.push(`Expected ${paint.bold(`${formatRate(report.tokensPerSecond)} tokens/s`)}, because\n${why}`)
  }
  if (report.current !== undefined) {
    const route = report.current.route.map(hop => `${shortPeer(printable(hop.peer))} ${formatLayers(hop.layers)}`)
    const rate = formatRate(report.current.tokensPerSecond)
    parts.push(`${wrap(`Served now by ${route.join(', ')}: ${rate} tokens/s expected`, width)}\n`)
  }
  return parts.join('\n')
}

function renderStages(report: PlanReport, width: number, paint: Paint): string {
  return renderTable(
    report.stages,
    [
      { title: 'NODE', cell: stage => (stage.isSelf ? paint.bold('this node') : shortPeer(printable(stage.peer))) },
      { title: 'LAYERS', cell: stage => formatLayers(stage.layers) },
      { title: 'WEIGHTS', cell: stage => formatBytes(stage.weightBytes), align: 'right' },
      { title: 'KV CACHE', cell: stage => formatBytes(stage.kvBytes), align: 'right' },
      { title: 'MEMORY', cell: stage => formatBytes(stage.memoryBytes), align: 'right' },
      { title: 'STEP', cell: stage => formatLatency(stage.stepMs), align: 'right' },
    ],
    { width, paint },
  )
}

function withShortPeers(text: string, { stages }: PlanReport): string {
  return stages.reduce((shorter, { peer }) => shorter.replaceAll(peer, shortPeer(printable(peer))), text)
}

/** Reports' sentences begin in lower case, as part of a longer one. */
function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}
