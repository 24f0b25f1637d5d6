/** Reads a MODEL argument: a file on this machine, the built-in model, or a name for the running node to resolve. */
import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { CliError } from './errors.ts'
import type { CliDeps } from './types.ts'

/** What people type for the model that comes with Koinon. */
const BUILT_IN_NAME = 'storyteller'

/**
 * The absolute path of the file that `model` means, or undefined where it reads like a name.
 * @throws CliError CLI_MODEL_UNKNOWN where it reads like a path and no file is there
 */
export function modelFile(deps: Pick<CliDeps, 'builtInModel'>, model: string): string | undefined {
  const path = resolve(model)
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === true) return path
  if (model.toLowerCase() === BUILT_IN_NAME) return deps.builtInModel
  if (/[/\\]/.test(model) || model.endsWith('.gguf')) {
    throw new CliError({ code: 'CLI_MODEL_UNKNOWN', model }, `there is no file ${path}`)
  }
  return undefined
}
