/** The MODEL argument of commands about weights, and how a model is called in what they print. */
import type { ModelHolding } from '#wire'
import { oneLine } from './terminal.ts'

export const MODEL_HELP = 'its id, the first 8 digits or more of it, or its name'

/** A model's name as a person may see it; where it has none, its id. */
export function nameOf({ name, id }: Pick<ModelHolding, 'name' | 'id'>): string {
  const shown = oneLine(name)
  return shown === '' ? oneLine(id).slice(0, 12) : shown
}
