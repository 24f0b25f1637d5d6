/** The architectures that can be computed, by their name in GGUF metadata. */
import type { LayerRange } from '#base'
import type { Architecture, GgufFile, ModelConfig } from '#formats'
import { EngineError } from '../errors.ts'
import type { WeightSpec } from '../weights.ts'
import type { ArchitectureGraph } from './architecture.ts'
import { gemma3 } from './gemma3.ts'
import { llama } from './llama.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'

export const ARCHITECTURE_GRAPHS: Readonly<Record<Architecture, ArchitectureGraph>> = { llama, qwen2, qwen3, gemma3 }

/** Tensors that old files carry and nothing reads. */
const UNUSED = /^blk\.\d+\.(attn_rot_embd|rope_freqs)\.weight$/

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

/**
 * Refuses a file whose layers have weights that the graph does not apply: it would run, and give wrong text.
 * @throws EngineError ENGINE_BAD_MODEL
 */
export function refuseUnusedWeights(gguf: GgufFile, specs: readonly WeightSpec[], layers: LayerRange): void {
  const known = new Set(specs.map(spec => spec.name))
  for (const { name } of gguf.tensors) {
    const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1)
    if (layer < layers.first || layer >= layers.last || known.has(name) || UNUSED.test(name)) continue
    throw new EngineError(
      { code: 'ENGINE_BAD_MODEL', tensor: name },
      `the model file has a tensor "${name}" that this architecture's graph does not use; running without it would give wrong text`,
    )
  }
}
