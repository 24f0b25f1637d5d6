/** Model files and what belongs to them: GGUF, hyper-parameters, model id, chat templates, text from tokens. Pure. */
export { type ByteSource, memorySource } from './byte-source.ts'
export { FormatError, type FormatFault } from './errors.ts'
export { type GgmlType, GGML_TYPES, ggmlTypeNamed, tensorBytes } from './ggml-types.ts'
export { type GgufFile, type GgufScalar, type GgufTensor, type GgufValue, readGguf } from './gguf.ts'
export {
  type Architecture,
  ARCHITECTURES,
  describeModel,
  isSlidingLayer,
  type ModelConfig,
  type RopeScaling,
  type SlidingWindow,
} from './model-config.ts'
export { edgeWeightBytes, kvBytesPerPosition, layerOf, layerWeightBytes } from './footprint.ts'
export { checkTensors, type ModelShape, type TensorShape, tensorShapes } from './tensor-shapes.ts'
export { type ModelFile, modelId, type ModelIdentity, type ModelIdOptions } from './model-id.ts'
export { type TextPiece, TextStream } from './text-stream.ts'
export type { TemplateMessage } from './template-protocol.ts'
export {
  CHATML_TEMPLATE,
  createTemplateRenderer,
  type TemplateRenderer,
  type TemplateRendererOptions,
  type TemplateRequest,
} from './template-renderer.ts'
