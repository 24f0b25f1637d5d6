/** `koinon models verify`, `rm` and `vote`. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { formatBytes } from '#base'
import { type ModelDetails, type ModelHolding, VOTE_COMMENT_CHARS_MAX } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { usageError } from './errors.ts'
import { EXIT } from './exit-codes.ts'
import { followTransfer } from './follow-transfer.ts'
import { MODEL_HELP, nameOf } from './model-argument.ts'
import { countsText } from './models-show.ts'
import { sentenceFor } from './table.ts'
import { createPaint, jsonText, oneLine, wantsColour } from './terminal.ts'
import { canAsk, confirm } from './typed-input.ts'
import type { CliDeps, SetExitCode } from './types.ts'
import { countOf } from './units.ts'

type CommonFlags = DataDirFlags & { readonly json?: boolean }
type RemoveFlags = CommonFlags & { readonly yes?: boolean }
type VoteFlags = CommonFlags & { readonly trust?: boolean; readonly distrust?: boolean; readonly comment?: string }

const VERIFY_HELP = `
Reads everything that is here of it and holds it against its hashes. Bad pieces are
dropped; \`koinon pull\` fetches them again. Exits with 1 where there were any.

Examples:
  $ koinon models verify 77ab01cd
  $ koinon models verify 77ab01cd --json | tail -n 1`

export function addModelsVerify(models: Command, deps: CliDeps, setExitCode: SetExitCode): void {
  const command = models
    .command('verify')
    .description('read what is here of a model again, and check it')
    .argument('<model>', MODEL_HELP)
    .option('--json', 'print JSON, one event a line')
    .addHelpText('after', VERIFY_HELP)
  addDataDirOption(command).action(async (name: string, _flags: CommonFlags, self: Command) => {
    const flags = self.optsWithGlobals<CommonFlags>()
    const isJson = flags.json === true
    const { weights } = await clientOf(deps, flags)
    const end = await followTransfer(deps, options => weights.verify(name, options), { isJson })
    if (end.kind !== 'verified') return
    const { goodBytes, badPieces } = end
    if (badPieces.length > 0) setExitCode(EXIT.failed)
    if (isJson) return
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    const good = paint.green(`${formatBytes(goodBytes)} are as they should be.`)
    const dropped = `${countOf(badPieces.length, 'bad piece')} dropped; \`koinon pull\` fetches what is missing again.`
    const bad = badPieces.length === 0 ? '' : `${paint.red(sentenceFor(deps.stdout, dropped))}\n`
    deps.stdout.write(`${good}\n${bad}`)
  })
}

const REMOVE_HELP = `
A file of your own stays where it is. What was pulled is deleted.

Examples:
  $ koinon models rm 77ab01cd
  $ koinon models rm 77ab01cd --yes`

export function addModelsRemove(models: Command, deps: CliDeps): void {
  const command = models
    .command('rm')
    .description('forget a model, and free its space')
    .argument('<model>', MODEL_HELP)
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .addHelpText('after', REMOVE_HELP)
  addDataDirOption(command).action(async (name: string, _flags: RemoveFlags, self: Command) => {
    const flags = self.optsWithGlobals<RemoveFlags>()
    const { weights } = await clientOf(deps, flags)
    const model = await weights.details(name)
    if (flags.yes !== true) {
      if (!canAsk(deps)) throw usageError(`${removalText(model)} Confirm with --yes`)
      await confirm(deps, removalText(model))
    }
    const freedBytes = await weights.remove(model.id)
    if (flags.json === true) deps.stdout.write(`${jsonText({ model: model.id, freedBytes })}\n`)
    else deps.stdout.write(`${sentenceFor(deps.stdout, removedText(model, freedBytes))}\n`)
  })
}

/** What it would do, in one sentence. */
function removalText(model: ModelHolding): string {
  if (model.file !== undefined) return `This forgets ${nameOf(model)}; your file ${oneLine(model.file)} stays.`
  return `This deletes ${formatBytes(model.heldBytes)} of ${nameOf(model)} here.`
}

function removedText(model: ModelHolding, freedBytes: number): string {
  const kept = model.file === undefined ? '' : `; ${oneLine(model.file)} is where it was`
  const freed = freedBytes === 0 && kept !== '' ? '' : `; ${formatBytes(freedBytes)} are free now`
  return `${nameOf(model)} is forgotten${freed}${kept}.`
}

const VOTE_HELP = `
A vote is signed with this node's key and told to its peers. Each node has one for a
model; the newest counts.

Examples:
  $ koinon models vote 77ab01cd --trust --comment "same answers as the original"
  $ koinon models vote 77ab01cd --distrust`

export function addModelsVote(models: Command, deps: CliDeps): void {
  const command = models
    .command('vote')
    .description('say to the swarm whether you trust a model')
    .argument('<model>', MODEL_HELP)
    .addOption(new Option('--trust', 'you do').conflicts('distrust'))
    .addOption(new Option('--distrust', 'you do not'))
    .option('--comment <text>', 'why; everybody can read it', parseComment)
    .option('--json', 'print JSON')
    .addHelpText('after', VOTE_HELP)
  addDataDirOption(command).action(async (name: string, _flags: VoteFlags, self: Command) => {
    const flags = self.optsWithGlobals<VoteFlags>()
    if (flags.trust !== true && flags.distrust !== true) throw usageError('say --trust or --distrust')
    const vote = { isTrusted: flags.trust === true, comment: flags.comment ?? '' }
    const model = await (await clientOf(deps, flags)).weights.vote(name, vote)
    if (flags.json === true) deps.stdout.write(`${jsonText(model, 2)}\n`)
    else deps.stdout.write(votedText(deps, model, vote.isTrusted))
  })
}

function votedText({ stdout }: CliDeps, model: ModelDetails, isTrusted: boolean): string {
  const said = `You said that you ${isTrusted ? 'trust' : 'do not trust'} ${nameOf(model)}.`
  return `${sentenceFor(stdout, `${said} So far ${countsText(model.votes)}.`)}\n`
}

function parseComment(text: string): string {
  const comment = oneLine(text)
  if (comment.length <= VOTE_COMMENT_CHARS_MAX) return comment
  throw new InvalidArgumentError(`Expected at most ${VOTE_COMMENT_CHARS_MAX} characters.`)
}
