/** `koinon models add`: hashes a model file, so that every node can have it and tell it from any other. */
import { type Command, InvalidArgumentError } from 'commander'
import { z } from 'zod'
import { type AddModelRequest, benchmarksSchema, licenceSchema, MODEL_LABEL_CHARS_MAX, type ModelDetails } from '#wire'
import { addDataDirOption, clientOf, type DataDirFlags } from './data-dir.ts'
import { CliError, usageError } from './errors.ts'
import { followTransfer } from './follow-transfer.ts'
import { readJsonFile } from './json-file.ts'
import { CARD_BYTES_MAX } from './limits.ts'
import type { WeightsClient } from './weights-client.ts'
import { MODEL_HELP, nameOf } from './model-argument.ts'
import { modelFile } from './model-file.ts'
import { renderFacts } from './table.ts'
import { createPaint, oneLine, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'

type AddFlags = DataDirFlags & {
  readonly name?: string
  readonly licence?: string
  readonly card?: string
  readonly previous?: string
  readonly json?: boolean
}

const HELP_AFTER = `
The file stays where it is and is never written. Its id follows from every byte of
it. Name, licence and card are labels that this node signs.

A card is JSON: {"benchmarks": [{"name": "MMLU-Pro", "score": 56.7, "unit": "%"}]}

Examples:
  $ koinon models add qwen3-8b-q4_k_m.gguf
  $ koinon models add tuned.gguf --name "Qwen3 8B, tuned" --previous 77ab01cd`

export function addModelsAdd(models: Command, deps: CliDeps): void {
  const command = models
    .command('add')
    .description('make a model file known, and share it')
    .argument('<file>', 'GGUF file')
    .option('--name <name>', 'what people see (default: the name in the file)', parseName)
    .option('--licence <spdx>', 'SPDX licence expression, such as Apache-2.0', parseLicence)
    .option('--card <file>', 'benchmark results, as JSON')
    .option('--previous <model>', `the model that it replaces: ${MODEL_HELP}`)
    .option('--json', 'print JSON, one event a line')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (file: string, _flags: AddFlags, self: Command) => {
    await add(deps, file, self.optsWithGlobals<AddFlags>())
  })
}

async function add(deps: CliDeps, file: string, flags: AddFlags): Promise<void> {
  const path = modelFile(deps, file)
  if (path === undefined) throw new CliError({ code: 'CLI_MODEL_UNKNOWN', model: file }, `there is no file ${file}`)
  const card = flags.card === undefined ? undefined : readCard(flags.card)
  const { weights } = await clientOf(deps, flags)
  const request: AddModelRequest = {
    file: path,
    ...(flags.name === undefined ? {} : { name: flags.name }),
    ...(flags.licence === undefined ? {} : { licence: flags.licence }),
    ...card,
    ...(flags.previous === undefined ? {} : { previous: await idOf(weights, flags.previous) }),
  }
  const isJson = flags.json === true
  const end = await followTransfer(deps, options => weights.add(request, options), { isJson })
  if (!isJson && end.kind === 'added') printAdded(deps, end.model)
}

function printAdded({ stdout, env }: CliDeps, model: ModelDetails): void {
  const paint = createPaint(wantsColour(stdout, env))
  const facts: (readonly [string, string])[] = [['Id', oneLine(model.id)]]
  if (model.magnet !== '') facts.push(['Magnet', oneLine(model.magnet)])
  const shared = model.isShared ? 'here and shared' : 'here, and not shared'
  stdout.write(`${paint.bold(nameOf(model))} is ${shared}.\n${renderFacts(facts, paint)}`)
}

/** A whole id need not be known here. */
async function idOf(weights: WeightsClient, model: string): Promise<string> {
  return /^[0-9a-f]{64}$/.test(model) ? model : (await weights.details(model)).id
}

function parseName(text: string): string {
  const name = oneLine(text)
  if (name !== '' && name.length <= MODEL_LABEL_CHARS_MAX) return name
  throw new InvalidArgumentError(`Expected 1 to ${MODEL_LABEL_CHARS_MAX} characters.`)
}

function parseLicence(text: string): string {
  if (licenceSchema.safeParse(text).success) return text
  throw new InvalidArgumentError('Expected an SPDX expression, such as Apache-2.0 or LicenseRef-Llama-3.')
}

const cardSchema = z.strictObject({ benchmarks: benchmarksSchema })

function readCard(file: string): z.output<typeof cardSchema> {
  const given = cardSchema.safeParse(readJsonFile(file, { bytesMax: CARD_BYTES_MAX }))
  if (given.success) return given.data
  const [issue] = given.error.issues
  throw usageError(
    `${file} is no card: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.replace(/ +/g, ' ').trim(),
  )
}
