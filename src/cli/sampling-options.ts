/** The options of `run` and `chat` that say how tokens are chosen. */
import type { Command } from 'commander'
import type { Random } from '#base'
import { GREEDY } from '#wire'
import type { AnswerOptions } from './answer.ts'
import { integerIn, numberIn } from './parse.ts'

/** As commander hands them over. */
export type SamplingFlags = {
  readonly maxTokens?: number
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly seed?: number
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('--max-tokens <count>', 'stop after this many tokens', integerIn(1, 1_000_000))
    .option('--temperature <t>', '0 always takes the likeliest token; higher is freer', numberIn(0, 2), 0.7)
    .option('--top-k <count>', 'choose among the likeliest; 0: all', integerIn(0, 1_000_000), 40)
    .option('--top-p <p>', 'choose among those whose probability adds up to p', numberIn(0, 1), 0.95)
    .option('--min-p <p>', 'drop tokens less likely than p times the best', numberIn(0, 1), 0.05)
    .option('--seed <number>', 'the same seed gives the same answer', integerIn(0, 0xffff_ffff))
}

/** Without --seed the answer differs from run to run, except at temperature 0. */
export function answerOptions(flags: SamplingFlags, random: Random): AnswerOptions {
  const sampling = {
    ...GREEDY,
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    minP: flags.minP,
    seed: flags.seed ?? random.uint32(),
  }
  return flags.maxTokens === undefined ? { sampling } : { sampling, tokensMax: flags.maxTokens }
}
