/** `koinon models show`: everything that the node knows about one model. */
import type { Command } from 'commander'
import { formatBytes } from '#base'
import type { ModelDetails, VoteSummary } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { heldText, renderLayerBar } from './layer-bar.ts'
import { MODEL_HELP, nameOf } from './model-argument.ts'
import { renderFacts, wrap } from './table.ts'
import { createPaint, jsonText, oneLine, type Paint, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { countOf, shortPeer } from './units.ts'

type ShowFlags = DataDirFlags & { readonly json?: boolean }

const HELP_AFTER = `
Name, licence, benchmarks and votes are what their signers say. The id alone vouches
for the weights.

Examples:
  $ koinon models show 77ab01cd
  $ koinon models show "Qwen3 8B" --json | jq -r .magnet`

export function addModelsShow(models: Command, deps: CliDeps): void {
  const command = models
    .command('show')
    .description('show one model: what is here, its card, votes, magnet link')
    .argument('<model>', MODEL_HELP)
    .option('--json', 'print JSON')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (name: string, _flags: ShowFlags, self: Command) => {
    const flags = self.optsWithGlobals<ShowFlags>()
    const model = await (await clientOf(deps, flags)).weights.details(name)
    if (flags.json === true) {
      deps.stdout.write(`${jsonText(model, 2)}\n`)
      return
    }
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    deps.stdout.write(renderModel(model, deps.stdout.columns, paint))
  })
}

type FactLine = readonly [name: string, value: string]

/** Columns before a value: two, the longest name, two. */
const INDENT = 15

/** The newest votes. */
const VOTES_SHOWN = 5

/** Ids, links and paths are there to be copied, so they are never broken. */
function renderModel(model: ModelDetails, width: number, paint: Paint): string {
  const room = Math.max(20, width - INDENT)
  const facts: FactLine[] = [
    ['Id', oneLine(model.id)],
    ['Type', `${oneLine(model.architecture)}, ${countOf(model.layerCount, 'layer')}, ${formatBytes(model.totalBytes)}`],
    ['Licence', model.licence === undefined ? '' : oneLine(model.licence)],
    ['Signed by', signerText(model)],
    ['Replaces', model.previous === undefined ? '' : oneLine(model.previous)],
    ['Held', `${wrap(heldLine(model), room)}\n${paint.cyan(renderLayerBar(model.heldLayers, model.layerCount, room))}`],
    ['File', model.file === undefined ? '' : oneLine(model.file)],
    ['Shared', wrap(sharedText(model), room)],
    ['Benchmarks', model.benchmarks.map(one => wrap(benchmarkText(one), room)).join('\n')],
    ['Test vector', model.hasTestVector ? 'yes: the model is tried on it before it is used' : ''],
    ['Votes', votesText(model.votes, room, paint)],
    ['Info-hash', oneLine(model.infoHash)],
    ['Magnet', oneLine(model.magnet)],
  ]
  const known = facts.map(([name, value]): FactLine => [name, name === 'Test vector' ? wrap(value, room) : value])
  return `${paint.bold(nameOf(model))}\n${renderFacts(
    known.filter(([, value]) => value !== ''),
    paint,
  )}`
}

function signerText({ signer, createdAt }: ModelDetails): string {
  if (signer === undefined) return 'nobody'
  const day = createdAt === undefined ? undefined : dayOf(createdAt)
  return `${shortPeer(oneLine(signer))}${day === undefined ? '' : `, ${day}`}`
}

/** "1.1 GB of 5.0 GB: layers 8-16, no edges". */
function heldLine(model: ModelDetails): string {
  const { layers, edges } = heldText(model)
  const named = layers === 'all' ? 'all layers' : layers === 'none' ? 'no layers' : `layers ${layers}`
  return `${amountOf(model.heldBytes)} of ${amountOf(model.totalBytes)}: ${named}, ${edges}`
}

/** With a space that does not break. */
function amountOf(bytes: number): string {
  return formatBytes(bytes).replace(' ', '\u00a0')
}

function sharedText({ isShared, peers, uploadedBytes, downloadedBytes }: ModelDetails): string {
  const moved = `${amountOf(uploadedBytes)} sent, ${amountOf(downloadedBytes)} received`
  return `${isShared ? 'yes' : 'no'}; ${countOf(peers, 'peer')} connected; ${moved}`
}

function benchmarkText({ name, score, unit }: ModelDetails['benchmarks'][number]): string {
  return oneLine(`${name} ${score} ${unit}`)
}

function votesText(votes: readonly VoteSummary[], room: number, paint: Paint): string {
  if (votes.length === 0) return 'none'
  const newest = [...votes].sort((a, b) => b.at - a.at).slice(0, VOTES_SHOWN)
  const left = votes.length - newest.length
  return [
    countsText(votes),
    ...newest.map(vote => voteLine(vote, room, paint)),
    ...(left > 0 ? [`and ${left} more; --json has all`] : []),
  ].join('\n')
}

/** "3 trust it, 1 does not". */
export function countsText(votes: readonly VoteSummary[]): string {
  const trusting = votes.filter(({ isTrusted }) => isTrusted).length
  const others = votes.length - trusting
  return `${trusting} ${trusting === 1 ? 'trusts' : 'trust'} it, ${others} ${others === 1 ? 'does' : 'do'} not`
}

/** "+ …q1Zk9fQx 2026-11-20 same answers as the original". */
function voteLine({ peer, isTrusted, comment, at }: VoteSummary, room: number, paint: Paint): string {
  const sign = isTrusted ? paint.green('+') : paint.red('-')
  const words = [shortPeer(oneLine(peer)), dayOf(at) ?? '', oneLine(comment)].filter(word => word !== '')
  return `${sign} ${wrap(words.join(' '), room - 2).replaceAll('\n', '\n  ')}`
}

/** Times come from others, and may be none. */
function dayOf(at: number): string | undefined {
  const date = new Date(at)
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString().slice(0, 10)
}
