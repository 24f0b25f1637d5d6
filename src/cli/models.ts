/** `koinon models`: what the running node can answer with. */
import type { Command } from 'commander'
import { formatBytes, formatLayers } from '#base'
import type { ModelSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { renderTable } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { countOf, groupDigits, shortId } from './units.ts'

export function addModels(program: Command, deps: CliDeps): void {
  const command = program
    .command('models')
    .description('list the models that the running node can answer with')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  $ koinon models\n  $ koinon models --json | jq ".[].id"')
  addDataDirOption(command).action(async (flags: DataDirFlags & { readonly json?: boolean }) => {
    const models = await (await clientOf(deps, flags)).models()
    if (flags.json === true) {
      printJson(deps.stdout, models)
      return
    }
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    deps.stdout.write(
      models.length === 0 ? 'This node knows no model.\n' : renderModels(models, deps.stdout.columns, paint),
    )
  })
}

export function renderModels(models: readonly ModelSummary[], width: number, paint: Paint): string {
  return renderTable(
    models,
    [
      { title: 'NAME', cell: model => paint.bold(printable(model.name)), widthMin: 16 },
      { title: 'ID', cell: model => shortId(model.id) },
      { title: 'TYPE', cell: model => printable(model.architecture) },
      { title: 'LAYERS', cell: model => String(model.layerCount), align: 'right' },
      { title: 'CONTEXT', cell: model => groupDigits(model.contextTrain), align: 'right' },
      { title: 'SIZE', cell: model => formatBytes(model.fileBytes), align: 'right' },
      { title: 'SERVED', cell: model => servedText(model, paint), widthMin: 16 },
    ],
    { width, paint },
  )
}

/** "whole, 3 stages", or the ranges that nobody serves. */
function servedText(model: ModelSummary, paint: Paint): string {
  if (model.isComplete) return paint.green(`whole (${countOf(model.served.length, 'stage')})`)
  const missing = missingLayers(model)
  return paint.yellow(`missing ${missing.join(', ')}`)
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
