/** Prompts for measurements: token ids drawn from a seed, the same on every machine. */
import { seededRandom } from '#base'

/**
 * `length` ordinary tokens. The first ids of a vocabulary are often control tokens and the last ones too, so the ids
 * come from its middle.
 */
export function randomPrompt(options: {
  readonly length: number
  readonly vocabularySize: number
  readonly seed: number
}): number[] {
  const { length, vocabularySize, seed } = options
  const random = seededRandom(seed)
  const low = Math.floor(vocabularySize / 8)
  const span = Math.max(1, Math.floor((vocabularySize * 3) / 4))
  return Array.from({ length }, () => low + (random.uint32() % span))
}
