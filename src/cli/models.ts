/** `koinon models`: the models of the running node, and what can be done with one. */
import type { Command } from 'commander'
import { formatBytes, formatLayers } from '#base'
import type { ModelHolding, ModelSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { usageError } from './errors.ts'
import { heldText } from './layer-bar.ts'
import { addModelsAdd } from './models-add.ts'
import { addModelsRemove, addModelsVerify, addModelsVote } from './models-change.ts'
import { addModelsShow } from './models-show.ts'
import { renderTable } from './table.ts'
import { createPaint, jsonText, oneLine, type Paint, wantsColour } from './terminal.ts'
import type { CliDeps, SetExitCode } from './types.ts'
import { countOf } from './units.ts'

const HELP_AFTER = `
HELD: layers whose weights are on this machine; with + the edges (embedding, norm,
head) are here too. SERVED: layers that this node or a connected one computes.

Examples:
  $ koinon models
  $ koinon models add qwen3-8b-q4_k_m.gguf --licence Apache-2.0
      every node of the swarm can have it now
  $ koinon models show 77ab01cd
  $ koinon models --json | jq ".[].id"`

export function addModels(program: Command, deps: CliDeps, setExitCode: SetExitCode): void {
  const command = program
    .command('models')
    .description('list the models of the running node; add, show, verify, remove one, vote on it')
    .helpCommand(false)
    .allowExcessArguments(true)
    .option('--json', 'print JSON')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (flags: DataDirFlags & { readonly json?: boolean }, { args }: Command) => {
    if (args[0] !== undefined) throw usageError(`models has no command "${oneLine(args[0])}"; --help lists them`)
    const client = await clientOf(deps, flags)
    const [summaries, holdings] = await Promise.all([client.models(), client.weights.held()])
    const models = joinModels(summaries, holdings)
    if (flags.json === true) {
      deps.stdout.write(`${jsonText(models, 2)}\n`)
      return
    }
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    deps.stdout.write(
      models.length === 0
        ? 'This node knows no model; `koinon models add FILE.gguf` adds one.\n'
        : renderModels(models, deps.stdout.columns, paint),
    )
  })
  addModelsAdd(command, deps)
  addModelsShow(command, deps)
  addModelsVerify(command, deps, setExitCode)
  addModelsRemove(command, deps)
  addModelsVote(command, deps)
}

/** A model that the node can answer with, or whose weights or manifest it holds, or both. */
type ListedModel = Pick<ModelSummary, 'id' | 'name' | 'architecture' | 'layerCount' | 'served' | 'isComplete'> &
  Partial<ModelSummary> & {
    /** What is here of it. */
    readonly holding?: ModelHolding
  }

/** One entry for each model: first those that the node answers with, in its order. */
function joinModels(summaries: readonly ModelSummary[], holdings: readonly ModelHolding[]): readonly ListedModel[] {
  const held = new Map(holdings.map(holding => [holding.id, holding]))
  const answered = new Set(summaries.map(({ id }) => id))
  return [
    ...summaries.map(summary => {
      const holding = held.get(summary.id)
      return holding === undefined ? summary : { ...summary, holding }
    }),
    ...holdings
      .filter(({ id }) => !answered.has(id))
      .map(holding => {
        const { id, name, architecture, layerCount, totalBytes } = holding
        const file = holding.file === undefined ? {} : { file: holding.file }
        return {
          id,
          name,
          architecture,
          layerCount,
          fileBytes: totalBytes,
          ...file,
          served: [],
          isComplete: false,
          holding,
        }
      }),
  ]
}

export function renderModels(models: readonly ListedModel[], width: number, paint: Paint): string {
  return renderTable(
    models,
    [
      { title: 'NAME', cell: model => paint.bold(oneLine(model.name)), widthMin: 12 },
      { title: 'ID', cell: model => oneLine(model.id).slice(0, ID_DIGITS) },
      { title: 'TYPE', cell: model => oneLine(model.architecture), widthMin: 8, optional: 5 },
      { title: 'LAYERS', cell: model => String(model.layerCount), align: 'right', optional: 2 },
      { title: 'SIZE', cell: model => sizeText(model), align: 'right', optional: 1 },
      { title: 'HELD', cell: model => heldCell(model.holding, paint), widthMin: 9 },
      { title: 'SERVED', cell: model => servedText(model, paint), widthMin: 16, optional: 3 },
      { title: 'PEERS', cell: ({ holding }) => String(holding?.peers ?? '-'), align: 'right', optional: 4 },
    ],
    { width, paint },
  )
}

/** As many digits as name a model. */
const ID_DIGITS = 8

function sizeText({ holding, fileBytes }: ListedModel): string {
  const bytes = holding?.totalBytes ?? fileBytes
  return bytes === undefined ? '-' : formatBytes(bytes)
}

/** "all", "8-16+": the plus says that the edges are here; "all" has them. */
function heldCell(holding: ModelHolding | undefined, paint: Paint): string {
  if (holding === undefined) return '-'
  const { layers } = heldText(holding)
  if (layers === 'none') return holding.hasEdges ? 'edges' : paint.dim(layers)
  if (layers === 'all') return holding.hasEdges ? paint.green(layers) : `0-${holding.layerCount}`
  return `${layers}${holding.hasEdges ? '+' : ''}`
}

/** "whole (3 stages)", or the ranges that nobody serves. */
function servedText(model: Pick<ListedModel, 'served' | 'layerCount' | 'isComplete'>, paint: Paint): string {
  if (model.isComplete) return paint.green(`whole (${countOf(model.served.length, 'stage')})`)
  if (model.served.length === 0) return paint.dim('by nobody')
  return paint.yellow(`missing ${missingLayers(model).join(', ')}`)
}

/** The gaps between served ranges, as "A-B". */
export function missingLayers(model: Pick<ModelSummary, 'served' | 'layerCount'>): readonly string[] {
  const gaps: string[] = []
  let covered = 0
  for (const { layers } of [...model.served].sort((a, b) => a.layers.first - b.layers.first)) {
    if (layers.first > covered) gaps.push(formatLayers({ first: covered, last: layers.first }))
    covered = Math.max(covered, layers.last)
  }
  if (covered < model.layerCount) gaps.push(formatLayers({ first: covered, last: model.layerCount }))
  return gaps
}
