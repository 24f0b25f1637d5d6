/** Generations over stages. */
export { PipelineError, type PipelineFault, type StageCode } from './errors.ts'
export { createPipeline } from './pipeline.ts'
export type * from './types.ts'
