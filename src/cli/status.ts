/** `koinon status`: the running node at a glance. */
import type { Command } from 'commander'
import { formatBytes, formatLayers } from '#base'
import type { EngineStatus, GenerationStatus, NodeStatus, StageStatus } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { renderFacts, renderTable, type TableOptions } from './table.ts'
import { createPaint, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { countOf, formatDuration, formatLatency, groupDigits, shortPeer } from './units.ts'

export function addStatus(program: Command, deps: CliDeps): void {
  const command = program
    .command('status')
    .description('show the running node: stages, engines, generations, KV rows')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  $ koinon status\n  $ koinon status --json | jq .kvRows')
  addDataDirOption(command).action(async (flags: DataDirFlags & { readonly json?: boolean }) => {
    const status = await (await clientOf(deps, flags)).status()
    if (flags.json === true) {
      printJson(deps.stdout, status)
      return
    }
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    deps.stdout.write(renderStatus(status, deps.stdout.columns, paint))
  })
}

export function renderStatus(status: NodeStatus, width: number, paint: Paint): string {
  const options = { width, paint }
  const parts = [
    `${paint.bold(`Node ${shortPeer(status.peer)}`)} (process ${status.pid}), up ${formatDuration(status.uptimeMs)}\n` +
      renderFacts(
        [
          ['Placement', printable(status.placement)],
          ['Peers', groupDigits(status.peers)],
          ['API', status.api === undefined ? 'none' : `${status.api}/v1`],
          ['Data', status.dataDir],
          ['Address', status.addresses.length === 0 ? 'none' : status.addresses.join('\n')],
          ['KV rows', `${groupDigits(status.kvRows)} in use`],
        ],
        paint,
      ),
  ]
  if (status.stages.length > 0) parts.push(heading('Stages', paint) + renderStages(status.stages, options))
  if (status.engines.length > 0) parts.push(heading('Engines', paint) + renderEngines(status.engines, options))
  const generations = status.generations.length === 0 ? '  none\n' : renderGenerations(status.generations, options)
  parts.push(heading('Generations', paint) + generations)
  return parts.join('\n')
}

function heading(text: string, paint: Paint): string {
  return `${paint.bold(text)}\n`
}

function renderStages(stages: readonly StageStatus[], options: TableOptions): string {
  return renderTable(
    stages,
    [
      { title: '  MODEL', cell: stage => `  ${printable(stage.name)}`, widthMin: 10 },
      { title: 'LAYERS', cell: stage => `${formatLayers(stage.layers)} of ${stage.layerCount}` },
      { title: 'SLOTS IN USE', cell: stage => `${stage.slots - stage.slotsFree} of ${stage.slots}` },
      { title: 'KV ROWS', cell: stage => groupDigits(stage.kvRows), align: 'right' },
      { title: 'STEP', cell: stage => formatLatency(stage.stepMs), align: 'right' },
    ],
    options,
  )
}

function renderEngines(engines: readonly EngineStatus[], options: TableOptions): string {
  const { paint } = options
  const stateText = (engine: EngineStatus): string => {
    if (engine.state === 'ready') return paint.green(engine.state)
    return engine.state === 'failed' ? paint.red(engine.state) : paint.yellow(engine.state)
  }
  const table = renderTable(
    engines,
    [
      { title: '  ROLE', cell: engine => `  ${engine.role}` },
      { title: 'STATE', cell: stateText },
      { title: 'PROCESS', cell: engine => String(engine.pid ?? '-'), align: 'right' },
      { title: 'DEVICE', cell: engine => engine.device ?? '-', widthMin: 10 },
      { title: 'WEIGHTS', cell: engine => formatBytes(engine.weightBytes), align: 'right' },
      { title: 'KV CACHE', cell: engine => formatBytes(engine.kvBytes), align: 'right' },
      { title: 'RESTARTS', cell: engine => String(engine.restarts), align: 'right' },
    ],
    options,
  )
  const sandboxes = engines.flatMap(({ role, sandbox }) =>
    sandbox === undefined ? [] : [`  ${role}: ${printable(sandbox)}\n`],
  )
  const errors = engines.filter(engine => engine.lastError !== undefined)
  return (
    table +
    sandboxes.join('') +
    errors.map(engine => `  ${engine.role}: ${printable(engine.lastError ?? '')}\n`).join('')
  )
}

function renderGenerations(generations: readonly GenerationStatus[], options: TableOptions): string {
  return renderTable(
    generations,
    [
      { title: '  GENERATION', cell: one => `  ${one.generation.slice(0, 12)}` },
      { title: 'ROLE', cell: one => one.role },
      { title: 'AGE', cell: one => formatDuration(one.ageMs), align: 'right' },
      { title: 'POSITIONS', cell: one => `${groupDigits(one.positions)} of ${groupDigits(one.positionsMax)}` },
      { title: 'WHERE', cell: whereText, widthMin: 10 },
    ],
    options,
  )
}

function whereText(one: GenerationStatus): string {
  if (one.route !== undefined) return `through ${countOf(one.route.length, 'stage')}`
  if (one.layers === undefined) return '-'
  return `layers ${formatLayers(one.layers)}${one.slot === undefined ? '' : `, slot ${one.slot}`}`
}
