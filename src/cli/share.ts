/** `koinon share`: lets peers and BitTorrent clients fetch a model here, or no longer. */
import { readFile, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { codeOf, formatBytes, messageOf } from '#base'
import type { ModelDetails } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { usageError } from './errors.ts'
import { MODEL_HELP, nameOf } from './model-argument.ts'
import { renderFacts, sentenceFor } from './table.ts'
import { createPaint, jsonText, oneLine, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'

type ShareFlags = DataDirFlags & { readonly off?: boolean; readonly torrent?: string; readonly json?: boolean }

const HELP_AFTER = `
Models are shared from the moment that they are added or pulled, except where the
node runs with --no-share. BitTorrent clients can fetch them here while it runs
with --bittorrent; they must know BitTorrent v2.

Examples:
  $ koinon share 77ab01cd
      prints the magnet link
  $ koinon share 77ab01cd --torrent qwen3-8b.torrent
  $ koinon share 77ab01cd --off`

export function addShare(program: Command, deps: CliDeps): void {
  const command = program
    .command('share')
    .description('let others fetch a model here; print its magnet link')
    .argument('<model>', MODEL_HELP)
    .option('--off', 'do not share it any more; what is here stays')
    .option('--torrent <file>', 'write a .torrent file')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (model: string, flags: ShareFlags) => share(deps, model, flags))
}

async function share(deps: CliDeps, name: string, flags: ShareFlags): Promise<void> {
  if (flags.off === true && flags.torrent !== undefined) throw usageError('--off writes no torrent')
  const { weights } = await clientOf(deps, flags)
  const model = await weights.share(name, flags.off !== true)
  const torrent = flags.torrent === undefined ? undefined : resolve(flags.torrent)
  const size = torrent === undefined ? 0 : await writeTorrent(torrent, await weights.torrent(model.id))
  if (flags.json === true) {
    deps.stdout.write(`${jsonText({ ...model, ...(torrent === undefined ? {} : { torrent }) }, 2)}\n`)
    return
  }
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  const facts = linksOf(model).concat(torrent === undefined ? [] : [['Torrent', `${torrent} (${formatBytes(size)})`]])
  const said = model.isShared ? 'is shared.' : 'is not shared any more; what is here stays.'
  deps.stdout.write(
    `${sentenceFor(deps.stdout, `${nameOf(model)} ${said}`)}\n${model.isShared ? renderFacts(facts, paint) : ''}`,
  )
}

function linksOf({ magnet, infoHash }: ModelDetails): (readonly [string, string])[] {
  const links: (readonly [string, string])[] = [
    ['Magnet', oneLine(magnet)],
    ['Info-hash', oneLine(infoHash)],
  ]
  return links.filter(([, value]) => value !== '')
}

/** A file of that name that says something else is not overwritten. @returns bytes */
async function writeTorrent(file: string, torrent: Uint8Array): Promise<number> {
  try {
    await writeFile(file, torrent, { flag: 'wx' })
  } catch (error) {
    const isSame = codeOfFile(error) === 'EEXIST' && torrent.length > 0 && (await readFile(file)).equals(torrent)
    if (!isSame) throw usageError(`${file} cannot be written: ${messageOf(error)}`)
  }
  return torrent.byteLength
}

function codeOfFile(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : codeOf(error)
}
