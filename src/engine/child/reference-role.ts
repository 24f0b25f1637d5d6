/** The child of the reference engine: libllama with a whole model, apart from everything of ours. */
import { systemClock } from '#base'
import { openLlama } from '../llama/library.ts'
import { type ReferenceLoad, ReferenceModel } from '../llama/reference-model.ts'
import { asBytes, decodeGenerate, encodeReferenceStep } from './codec.ts'
import { type ChildHost, type Handler, requireLoaded, unknownCommand } from './handler.ts'
import { decodeJson, encodeJson, KIND } from './protocol.ts'

export function createReferenceHandler({ open }: ChildHost): Handler {
  let model: ReferenceModel | undefined
  return async ({ kind, payload }, notify) => {
    switch (kind) {
      case KIND.load: {
        model?.free()
        model = undefined
        model = new ReferenceModel(
          { llama: openLlama(open()), clock: systemClock },
          decodeJson(payload) as ReferenceLoad,
        )
        return [encodeJson({ vocabularySize: model.vocabularySize, contextMax: model.contextMax })]
      }
      case KIND.generate: {
        const request = decodeGenerate(payload)
        for (const { logits, ...step } of requireLoaded(model).generate(request.tokens, request.count)) {
          await notify(encodeReferenceStep(step), request.logits ? asBytes(logits) : new Uint8Array(0))
        }
        return []
      }
      default:
        throw unknownCommand(kind)
    }
  }
}
