/** A stage's offer in the words of the commands. */
import type { StageOffer } from '#wire'
import type { StageFacts } from './schemas.ts'

export function toStageFacts(stage: StageOffer): StageFacts {
  const { model, name, architecture, layers, layerCount, width, contextMax, slots, slotsFree, profile } = stage
  return {
    model,
    name,
    architecture,
    layers: { ...layers },
    layer_count: layerCount,
    width,
    context: contextMax,
    slots,
    slots_free: slotsFree,
    profile,
  }
}
