/** The child that does one thing and ends: measures or describes this machine's engine, or rewrites a model file. */
import { describeRuntime } from './description.ts'
import { measureWeightBandwidth } from '../bandwidth.ts'
import { openLlama } from '../llama/library.ts'
import { quantizeFile, type QuantizeRequest } from '../llama/quantize.ts'
import { type ChildHost, type Handler, unknownCommand } from './handler.ts'
import { decodeJson, encodeJson, KIND } from './protocol.ts'

export function createToolHandler({ open }: ChildHost): Handler {
  return ({ kind, payload }) => {
    switch (kind) {
      case KIND.measure: {
        const runtime = open()
        return [encodeJson({ weightBytesPerSecond: measureWeightBandwidth(runtime), device: runtime.device })]
      }
      case KIND.describe:
        return [encodeJson(describeRuntime(open()))]
      case KIND.quantize:
        quantizeFile(openLlama(open()), decodeJson(payload) as QuantizeRequest)
        return []
      default:
        throw unknownCommand(kind)
    }
  }
}
