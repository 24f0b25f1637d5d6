/** `koinon pull`: fetches a model's weights, or those of some layers, from peers and other sources. */
import { stat, readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import type { Command } from 'commander'
import { formatBytes, formatLayers, type LayerRange, messageOf } from '#base'
import type { PullEnd, PullRequest } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { usageError } from './errors.ts'
import { followTransfer, keptText } from './follow-transfer.ts'
import { TORRENT_BYTES_MAX } from './limits.ts'
import { nameOf } from './model-argument.ts'
import { collect, parseLayerRange, parsePullPeer, parseSource } from './parse.ts'
import { renderFacts, renderTable, sentenceFor } from './table.ts'
import { createPaint, oneLine, type Paint, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { formatDuration, shortPeer } from './units.ts'

type PullFlags = DataDirFlags & {
  readonly layers?: LayerRange
  readonly edges?: boolean
  readonly from?: readonly string[]
  readonly source?: readonly string[]
  readonly json?: boolean
}

const HELP_AFTER = `
Every block is checked when it arrives. Ctrl-C leaves what has come: the same
command goes on from there.

Examples:
  $ koinon pull 77ab01cd
      all of it, by the beginning of its id
  $ koinon pull "Qwen3 8B" --layers 8-16
      what a node needs that serves layers 8 to 15
  $ koinon pull 77ab01cd --layers 0-8 --edges
      the same for a node that takes prompts too
  $ koinon pull qwen3-8b.torrent --from bt:192.168.1.9:6881
  $ koinon pull 77ab01cd --source mirror --source /mnt/models`

export function addPull(program: Command, deps: CliDeps): void {
  const command = program
    .command('pull')
    .description('fetch a model, or some layers of it')
    .argument('<model>', 'an id or its first 8 digits or more, a name, a magnet link, or a .torrent file')
    .option('--layers <range>', 'A-B: layers A up to, not including, B (default: everything)', parseLayerRange)
    .option('--edges', 'with --layers: embedding, norm and head too, which a node needs that takes prompts')
    .option(
      '--from <address>',
      'ask this node too, a multiaddr, or this BitTorrent client, bt:HOST:PORT (repeatable)',
      collect(parsePullPeer),
    )
    .option(
      '--source <source>',
      "fetch from here too: a name in the node's list of sources, a URL or a path (repeatable)",
      collect(parseSource),
    )
    .option('--json', 'print JSON, one event a line')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (model: string, flags: PullFlags) => pull(deps, model, flags))
}

async function pull(deps: CliDeps, model: string, flags: PullFlags): Promise<void> {
  const request: PullRequest = {
    ...(await modelOf(model)),
    ...(flags.layers === undefined ? {} : { layers: flags.layers }),
    ...(flags.edges === true ? { edges: true } : {}),
    ...(flags.from === undefined ? {} : { from: flags.from }),
    ...(flags.source === undefined ? {} : { sources: flags.source }),
  }
  const { weights } = await clientOf(deps, flags)
  const isJson = flags.json === true
  const outcome = await followTransfer(deps, options => weights.pull(request, options), { isJson, leftOver: keptText })
  if (isJson || outcome.kind !== 'pulled') return
  const { end } = outcome
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  deps.stdout.write(renderPulled(end, { layers: flags.layers, width: deps.stdout.columns, paint }))
  const layers = flags.layers === undefined ? '' : ` --layers ${formatLayers(flags.layers)}`
  const options = `--model ${oneLine(end.model).slice(0, 8)}${layers}`
  deps.stderr.write(`${sentenceFor(deps.stderr, `A node serves it that is started with: ${options}`)}\n`)
}

/** What is there as a file and looks like a torrent is one; everything else is for the node to resolve. */
async function modelOf(text: string): Promise<Pick<PullRequest, 'model' | 'torrent'>> {
  if (!/\.torrent$/i.test(text) || text.startsWith('magnet:')) return { model: text }
  try {
    const { size } = await stat(text)
    if (size === 0 || size > TORRENT_BYTES_MAX)
      throw new Error(`a torrent has 1 byte to ${formatBytes(TORRENT_BYTES_MAX)}`)
    return { model: basename(resolve(text)), torrent: (await readFile(text)).toString('base64') }
  } catch (error) {
    throw usageError(`${text} cannot be read: ${messageOf(error)}`)
  }
}

type PulledView = { readonly layers: LayerRange | undefined; readonly width: number; readonly paint: Paint }

/** What was fetched, how much of it was of no use, and who gave it. */
function renderPulled(end: PullEnd, { layers, width, paint }: PulledView): string {
  const { wantedBytes, hadBytes, receivedBytes, wastedBytes, seconds } = end
  const what = layers === undefined ? 'all of it' : `layers ${formatLayers(layers)}`
  const rate = seconds > 0 && receivedBytes > 0 ? ` (${formatBytes(receivedBytes / seconds)}/s)` : ''
  const had = hadBytes === wantedBytes ? 'all here before' : `${formatBytes(hadBytes)} here before`
  const head = `${paint.bold(nameOf({ name: end.name, id: end.model }))}: ${paint.green(`${what} is here.`.replace(/(layers \S+) is/, '$1 are'))}\n`
  const facts: (readonly [string, string])[] = [['Wanted', `${formatBytes(wantedBytes)}, ${had}`]]
  if (receivedBytes > 0) {
    facts.push(
      ['Received', `${formatBytes(receivedBytes)} in ${formatDuration(seconds * 1000)}${rate}`],
      ['Wasted', `${formatBytes(wastedBytes)} (${percentOf(wastedBytes, receivedBytes)})`],
    )
  }
  return head + renderFacts(facts, paint) + renderGivers(end, { width, paint })
}

function renderGivers(
  { from, receivedBytes }: PullEnd,
  options: { readonly width: number; readonly paint: Paint },
): string {
  if (from.length === 0) return ''
  return renderTable(
    [...from].sort((a, b) => b.bytes - a.bytes),
    [
      { title: '  FROM', cell: ({ name }) => `  ${giverText(name)}`, widthMin: 14 },
      { title: 'BYTES', cell: ({ bytes }) => formatBytes(bytes), align: 'right' },
      { title: 'SHARE', cell: ({ bytes }) => percentOf(bytes, receivedBytes), align: 'right' },
    ],
    options,
  )
}

/** Peer ids are shown as everywhere; other sources by their names. */
function giverText(name: string): string {
  const shown = oneLine(name)
  return /^12D3KooW\w+$/.test(shown) ? shortPeer(shown) : shown
}

/** "0.1 %", "54 %". */
function percentOf(part: number, whole: number): string {
  const percent = whole === 0 ? 0 : (100 * part) / whole
  return `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}
