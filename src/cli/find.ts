/** `koinon find`: who serves something, a line for each as it is found. */
import type { Command } from 'commander'
import { formatLayers } from '#base'
import type { FindRequest, FoundServiceSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { usageError } from './errors.ts'
import { integerIn } from './parse.ts'
import { interruptible } from './signals.ts'
import { sentenceFor } from './table.ts'
import { createPaint, jsonText, type Paint, printable, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { countOf, shortId, shortPeer } from './units.ts'

type FindFlags = DataDirFlags & { readonly model?: string; readonly timeout?: number; readonly json?: boolean }

const TIMEOUT_S_MAX = 300

const HELP_AFTER = `
Asks connected peers and the DHTs that the node is in. Each result was signed by the peer that serves it.

Examples:
  $ koinon find stage
      whoever serves layers of any model
  $ koinon find stage --model 2fcbfd6b --timeout 60
      layers of one model, by the beginning of its id or by its name
  $ koinon find stage --json | jq -r .peer`

export function addFind(program: Command, deps: CliDeps): void {
  const command = program
    .command('find')
    .description('look for nodes that serve something')
    .argument('<service>', '"stage" for layers of a model, or the name of another service')
    .option('--model <model>', 'its id, the first 8 digits or more of it, or its name')
    .option('--timeout <seconds>', 'look no longer than this', integerIn(1, TIMEOUT_S_MAX))
    .option('--json', 'print JSON, one result a line')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (service: string, flags: FindFlags) => find(deps, service, flags))
}

async function find(deps: CliDeps, service: string, flags: FindFlags): Promise<void> {
  if (!/^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/.test(service)) {
    throw usageError('the name of a service has lower-case letters, digits, dots and dashes')
  }
  const client = await clientOf(deps, flags)
  const request: FindRequest = {
    service,
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout * 1000 }),
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  const interruption = interruptible(deps)
  let count = 0
  try {
    for await (const found of client.find(request, { signal: interruption.signal })) {
      count++
      deps.stdout.write(flags.json === true ? `${jsonText(found)}\n` : renderFound(found, paint))
    }
  } finally {
    interruption.done()
  }
  if (flags.json !== true) deps.stderr.write(`${sentenceFor(deps.stderr, `${countOf(count, 'result')}.`)}\n`)
}

const VIA = { self: 'this node', peer: 'a peer', kad: 'Kademlia', mainline: 'Mainline' } as const

/** "…q1Zk9fQx  stage  Storyteller 0-4 of 8  2fcbfd6bcba3  via a peer  /ip4/…": what is not known is left out. */
function renderFound(found: FoundServiceSummary, paint: Paint): string {
  const { peer, service, model, modelName, layers, layerCount, addresses, via } = found
  const of = layerCount === undefined ? '' : ` of ${layerCount}`
  const parts = [
    paint.bold(shortPeer(printable(peer))),
    printable(service),
    [modelName === undefined ? '' : printable(modelName), layers === undefined ? '' : `${formatLayers(layers)}${of}`]
      .filter(part => part !== '')
      .join(' '),
    model === undefined ? '' : shortId(printable(model)),
    `via ${VIA[via] ?? 'somebody'}`,
    paint.dim(printable(addresses[0] ?? '').replace(/\/p2p\/[^/]+$/, '')),
  ]
  return `${parts.filter(part => part !== '' && part !== paint.dim('')).join('  ')}\n`
}
