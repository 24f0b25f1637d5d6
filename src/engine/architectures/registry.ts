/** The architectures that can be computed, by their name in GGUF metadata. */
import type { LayerRange } from '#base'
import type { Architecture, ModelConfig } from '#formats'
import type { WeightSpec } from '../weights.ts'
import type { ArchitectureGraph } from './architecture.ts'
import { gemma3 } from './gemma3.ts'
import { llama } from './llama.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'

export const ARCHITECTURE_GRAPHS: Readonly<Record<Architecture, ArchitectureGraph>> = { llama, qwen2, qwen3, gemma3 }

/** Every weight that a stage with these layers needs, by full name. */
export function stageWeights(config: ModelConfig, layers: LayerRange): WeightSpec[] {
  const graph = ARCHITECTURE_GRAPHS[config.architecture]
  const perLayer = graph.layerWeights(config)
  const specs = [...graph.sharedWeights(config)]
  for (let layer = layers.first; layer < layers.last; layer++) {
    for (const spec of perLayer) specs.push({ ...spec, name: `blk.${layer}.${spec.name}` })
  }
  return specs
}
