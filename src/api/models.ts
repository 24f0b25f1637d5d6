/** Models as OpenAI lists them, and how a request names one. */
import type { ModelSummary, OpenAiModel } from '#wire'
import { ApiError } from './errors.ts'

/** Shortest prefix of a model id that names it. */
const PREFIX_DIGITS_MIN = 8

export function toOpenAiModel(model: ModelSummary): OpenAiModel {
  return {
    id: model.id,
    object: 'model',
    created: model.createdAt,
    owned_by: 'koinon',
    name: model.name,
    architecture: model.architecture,
    layer_count: model.layerCount,
    context_length: model.contextTrain,
    ready: model.isComplete,
  }
}

/** Finds a model by id, a prefix of it, its name or its file's name. @throws ApiError API_MODEL_UNKNOWN */
export function findModel(models: readonly ModelSummary[], wanted: string): ModelSummary {
  const isPrefix = new RegExp(`^[0-9a-f]{${PREFIX_DIGITS_MIN},64}$`).test(wanted)
  const model = models.find(
    ({ id, name, file }) =>
      id === wanted || name === wanted || file.split(/[/\\]/).at(-1) === wanted || (isPrefix && id.startsWith(wanted)),
  )
  if (model === undefined) {
    throw new ApiError({ code: 'API_MODEL_UNKNOWN' }, 'this node knows no such model; GET /v1/models lists them')
  }
  return model
}
