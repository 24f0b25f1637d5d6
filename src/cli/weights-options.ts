/** The options of `up` that say what the node does about models' weights: where from, how much, how fast, for whom. */
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import type { LayerChoice, NodeConfig } from '#node'
import { usageError } from './errors.ts'
import { modelFile } from './model-file.ts'
import { integerIn, parseRate, parseSize } from './parse.ts'
import type { CliDeps } from './types.ts'

/** As commander hands them over. */
export type WeightsFlags = {
  readonly model?: string
  readonly layers: LayerChoice
  readonly stageOnly?: boolean
  readonly sources?: string
  readonly storageMax?: number
  readonly uploadMax?: number
  readonly downloadMax?: number
  readonly bittorrent?: number
  readonly share: boolean
}

export function addWeightsOptions(command: Command): Command {
  return command
    .option('--stage-only', 'serve layers, take no prompts: needs neither embedding nor head')
    .option('--sources <file>', 'where weights may come from beside peers (docs/guides/models.md)', text =>
      resolve(text),
    )
    .option('--storage-max <size>', 'most space for pulled weights, such as 200GB', parseSize)
    .option('--upload-max <rate>', 'most weights that go out, such as 5MB/s (bytes a second)', parseRate)
    .option('--download-max <rate>', 'most weights that come in, such as 20MiB/s', parseRate)
    .addOption(
      new Option(
        '--bittorrent [port]',
        'fetch from and serve BitTorrent clients too, at this TCP port (any that is free)',
      )
        .argParser(integerIn(0, 65_535))
        .preset('0'),
    )
    .option('--no-share', 'let nobody fetch weights here')
}

type WeightsConfig = Pick<
  NodeConfig,
  'model' | 'stageOnly' | 'sources' | 'storageBytesMax' | 'uploadRateMax' | 'downloadRateMax' | 'bittorrent' | 'share'
>

/** The parts of a node's configuration that these options decide. @throws CliError CLI_USAGE, CLI_MODEL_UNKNOWN */
export function weightsConfig(deps: Pick<CliDeps, 'builtInModel'>, flags: WeightsFlags): WeightsConfig {
  if (flags.stageOnly === true && flags.layers.kind === 'none') {
    throw usageError('--stage-only takes no prompts and --layers none serves no layers: nothing would be left to do')
  }
  return {
    model: modelChoice(deps, flags.model),
    ...(flags.stageOnly === true ? { stageOnly: true } : {}),
    ...(flags.sources === undefined ? {} : { sources: flags.sources }),
    ...(flags.storageMax === undefined ? {} : { storageBytesMax: flags.storageMax }),
    ...(flags.uploadMax === undefined ? {} : { uploadRateMax: flags.uploadMax }),
    ...(flags.downloadMax === undefined ? {} : { downloadRateMax: flags.downloadMax }),
    ...(flags.bittorrent === undefined ? {} : { bittorrent: { port: flags.bittorrent } }),
    ...(flags.share ? {} : { share: false }),
  }
}

/** A file where there is one of that name; else which model is meant. */
function modelChoice(deps: Pick<CliDeps, 'builtInModel'>, model: string | undefined): NodeConfig['model'] {
  if (model === undefined) return deps.builtInModel
  if (model.startsWith('magnet:')) return { named: model }
  return modelFile(deps, model) ?? { named: model }
}
