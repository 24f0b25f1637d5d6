/** The options of `up`, `run` and `chat` that say how this machine computes. */
import { availableParallelism } from 'node:os'
import { type Command, Option } from 'commander'
import type { EngineOptions } from '#engine'
import { integerIn, parseSize } from './parse.ts'

/** As commander hands them over. */
export type EngineFlags = {
  readonly threads?: number
  readonly device: EngineOptions['device']
  readonly ctx?: number
  readonly memory?: number
}

/** Generations at once on a node's stage, where nothing else is asked for. */
export const SLOTS_DEFAULT = 8

export function addEngineOptions(command: Command): Command {
  return command
    .option('--threads <count>', 'threads of one computation (default: all cores allowed but one)', integerIn(1, 512))
    .addOption(
      new Option('--device <kind>', 'compute on a GPU where there is one, or not')
        .choices(['auto', 'cpu', 'gpu'])
        .default('auto'),
    )
    .option(
      '--ctx <tokens>',
      'most tokens of one generation (default: what the model was trained for, at most 4096)',
      integerIn(16, 1_048_576),
    )
    .option(
      '--memory <size>',
      'most memory for weights and KV cache, such as 6GB (default: 80 % of what is free)',
      parseSize,
    )
}

/**
 * All cores but one, which is left to the node itself and to the rest of the machine: a thread that must wait for its
 * core holds up all others at every operation, which costs far more than the core brings.
 */
function defaultThreads(cores: number): number {
  return Math.max(1, cores - 1)
}

/** The parts of a node's configuration that these options decide. */
export function engineConfig(flags: EngineFlags): {
  readonly engine: EngineOptions
  readonly contextMax?: number
  readonly memoryMax?: number
} {
  return {
    engine: { threads: flags.threads ?? defaultThreads(availableParallelism()), device: flags.device },
    ...(flags.ctx === undefined ? {} : { contextMax: flags.ctx }),
    ...(flags.memory === undefined ? {} : { memoryMax: flags.memory }),
  }
}
