/** What `koinon up` prints: text for people, or one JSON event a line for programs (`--json`). */
import { formatLayers } from '#base'
import type { KoinonNode, NodeProgress } from '#node'
import { createProgress } from './progress.ts'
import { renderFacts } from './table.ts'
import { createPaint, printable, wantsColour } from './terminal.ts'
import type { CliDeps, Served } from './types.ts'
import { shortPeer } from './units.ts'

/** The line that says that a node can be used; `npm start` and tests wait for it. */
export type ReadyEvent = {
  readonly event: 'ready'
  readonly peer: string
  readonly pid: number
  readonly addresses: readonly string[]
  /** Base address of the HTTP API. */
  readonly api?: string
  readonly socket: string
  readonly dataDir: string
  /** "0-3", or "none". */
  readonly layers: string
  /** Name and id of the model. */
  readonly model?: string
  readonly modelId?: string
}

export type UpEvent =
  | ReadyEvent
  | {
      readonly event: 'progress'
      readonly phase: string
      readonly done?: number
      readonly total?: number
      readonly text?: string
    }
  /** Every layer of the model is served, here or by peers: prompts can be answered. */
  | { readonly event: 'serving' }
  | { readonly event: 'stopping'; readonly reason: string }
  | { readonly event: 'failed'; readonly code: string; readonly message: string }

export interface UpPrinter {
  /** A line of the log; without its line end. */
  readonly log: (line: string) => void
  readonly progress: NodeProgress
  ready(served: Served, dataDir: string): void
  /** Once, when prompts can be answered; that may be at the same time as `ready`, or when other nodes have come. */
  serving(): void
  stopping(reason: string): void
  failed(code: string, message: string): void
}

export function createUpPrinter(deps: CliDeps, options: { readonly isJson: boolean }): UpPrinter {
  return options.isJson ? createJsonPrinter(deps) : createTextPrinter(deps)
}

/** Within one phase: a reader wants to see movement, not every tensor. */
const PROGRESS_PERIOD_MS = 200

function createJsonPrinter(deps: CliDeps): UpPrinter {
  const emit = (event: UpEvent): void => deps.stdout.write(`${JSON.stringify(event)}\n`)
  let phaseBefore = ''
  let progressAt = -Infinity
  return {
    log: line => deps.stderr.write(`${line}\n`),
    progress: (phase, facts) => {
      const now = deps.clock.monotonic()
      if (phase === phaseBefore && now - progressAt < PROGRESS_PERIOD_MS) return
      phaseBefore = phase
      progressAt = now
      emit({ event: 'progress', phase, ...facts })
    },
    ready: (served, dataDir) => emit(readyEvent(deps, served, dataDir)),
    serving: () => emit({ event: 'serving' }),
    stopping: reason => emit({ event: 'stopping', reason }),
    failed: (code, message) => emit({ event: 'failed', code, message }),
  }
}

function readyEvent(deps: CliDeps, served: Served, dataDir: string): ReadyEvent {
  const { node, api } = served
  const model = node.models()[0]
  return {
    event: 'ready',
    peer: node.peer,
    pid: deps.pid,
    addresses: node.status().addresses,
    ...(api === undefined ? {} : { api }),
    socket: node.socket,
    dataDir,
    layers: layersOf(node),
    ...(model === undefined ? {} : { model: model.name, modelId: model.id }),
  }
}

function layersOf(node: KoinonNode): string {
  const stages = node.status().stages
  return stages.length === 0 ? 'none' : stages.map(stage => formatLayers(stage.layers)).join(',')
}

function createTextPrinter(deps: CliDeps): UpPrinter {
  const paint = createPaint(wantsColour(deps.stderr, deps.env))
  const progress = createProgress({ output: deps.stderr, clock: deps.clock, paint })
  return {
    log: line => {
      progress.clear()
      deps.stderr.write(`${line}\n`)
    },
    progress: progress.report,
    ready: (served, dataDir) => {
      progress.clear()
      deps.stderr.write(readyText(deps, served, dataDir))
    },
    serving: () => {
      deps.stderr.write(`${paint.green('Ready.')} Ctrl-C stops it; \`koinon chat\` talks with it.\n`)
    },
    stopping: reason => deps.stderr.write(`Stopping (${reason === 'SIGINT' ? 'Ctrl-C' : reason}) …\n`),
    failed: () => progress.clear(), // The sentence is printed where all errors are.
  }
}

function readyText(deps: CliDeps, { node, api }: Served, dataDir: string): string {
  const paint = createPaint(wantsColour(deps.stderr, deps.env))
  const status = node.status()
  const model = node.models()[0]
  const stage = status.stages[0]
  const layers = stage === undefined ? 'no layers here' : `layers ${layersOf(node)} of ${stage.layerCount}`
  const facts: (readonly [string, string])[] = [
    ['Model', model === undefined ? 'none' : `${printable(model.name)}, ${layers}`],
    ['API', api === undefined ? 'none' : `${api}/v1`],
    ['Address', status.addresses.length === 0 ? 'none' : status.addresses.join('\n')],
    ['Data', dataDir],
  ]
  const health = node.health()
  const waiting = health.ok ? '' : `${paint.yellow('Waiting:')} ${printable(health.reason ?? 'not ready yet')}.\n`
  return `${paint.bold(`Node ${shortPeer(node.peer)}`)} (process ${deps.pid})\n${renderFacts(facts, paint)}${waiting}`
}
