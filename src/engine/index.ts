/** The compute engine: ggml by FFI in child processes. The one module that knows ggml. */
export type { EngineDescription } from './child/description.ts'
export { createEdgeEngine } from './edge-engine.ts'
export type { EngineFault } from './errors.ts'
export type { QuantizeType } from './llama/quantize.ts'
export { describeEngine, measureMachine, quantize } from './one-shot.ts'
export { createReference } from './reference.ts'
export { createStageEngine } from './stage-engine.ts'
export type * from './types.ts'
