/** Which node a command speaks to: the one that runs in a data directory. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { createLocalClient, type LocalClient } from './local-client.ts'
import type { CliDeps } from './types.ts'

export type DataDirFlags = { readonly dataDir?: string }

export function addDataDirOption(command: Command): Command {
  return command.option('--data-dir <dir>', 'directory of the node (env KOINON_DATA_DIR)')
}

export function dataDirOf(deps: CliDeps, flags: DataDirFlags): string {
  const given = flags.dataDir ?? deps.env['KOINON_DATA_DIR']
  return given === undefined || given === '' ? deps.defaultDataDir() : resolve(given)
}

export async function clientOf(deps: CliDeps, flags: DataDirFlags): Promise<LocalClient> {
  const dataDir = dataDirOf(deps, flags)
  return createLocalClient({ clock: deps.clock }, { socket: await deps.findSocket(dataDir), dataDir })
}
