/**
 * INFERENCE_REQUEST: one generation, answered whole, with all that somebody needs who wants to check it: the tokens, the
 * seed, the model's id and the numeric profiles of everything that computed.
 */
import { z } from 'zod'
import { defineCommand } from '#protocol'
import { textCompletionRequestSchema, TOKEN_ID_MAX } from '#wire'
import { fromTextRequest } from '../to-request.ts'
import { INFERENCE_PROMPT_TOKENS_MAX, INFERENCE_TOKENS_MAX, TASK_DEADLINE_MS } from '../limits.ts'
import { runTask, type TaskAnswer } from './run-task.ts'
import { hashSchema, layersSchema, modelNameSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

const { temperature, top_p, top_k, min_p, repeat_penalty, repeat_last_n, presence_penalty, frequency_penalty } =
  textCompletionRequestSchema.shape
const { seed, stop, logit_bias } = textCompletionRequestSchema.shape

const request = z
  .object({
    model: modelNameSchema,
    prompt: z.string().min(1).optional(),
    /** The prompt as token ids. */
    tokens: z.array(z.int().min(0).max(TOKEN_ID_MAX)).min(1).max(INFERENCE_PROMPT_TOKENS_MAX).optional(),
    max_tokens: z.int().min(1).max(INFERENCE_TOKENS_MAX).default(16),
    temperature,
    top_p,
    top_k,
    min_p,
    repeat_penalty,
    repeat_last_n,
    presence_penalty,
    frequency_penalty,
    seed,
    stop,
    logit_bias,
  })
  .refine(body => (body.prompt === undefined) !== (body.tokens === undefined), 'either prompt or tokens')

const response = z.object({
  model: hashSchema,
  text: z.string(),
  /** Every token that was made, an end token too. */
  tokens: z.array(z.int()),
  finish_reason: z.enum(['stop', 'length']),
  seed: z.int(),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }),
  profile: z.object({
    edge: z.string(),
    stages: z.array(z.object({ peer: z.string(), layers: layersSchema, profile: z.string() })),
  }),
})

export function inferenceRequest(services: CommandServices) {
  return defineCommand({
    type: 41,
    name: 'INFERENCE_REQUEST',
    answerName: 'INFERENCE_RESPONSE',
    request,
    response,
    cost: 16,
    rate: { perSecond: 1, burst: 8 },
    right: 'member',
    deadlineMs: TASK_DEADLINE_MS,
    priority: 'normal',
    handle: async ({ prompt, tokens, ...fields }, { signal }) => {
      const [first] = fromTextRequest({ ...fields, prompt: prompt ?? tokens ?? '' }, services.random)
      if (first === undefined) throw new TypeError('a checked request has a prompt')
      const answer = await runTask(services, first, { signal })
      return {
        body: {
          model: answer.model,
          text: answer.text,
          tokens: [...answer.tokens],
          finish_reason: answer.reason,
          seed: first.sampling.seed,
          usage: { prompt_tokens: answer.usage.promptTokens, completion_tokens: answer.usage.completionTokens },
          profile: { edge: services.edgeProfile, stages: profilesOf(services, answer) },
        },
      }
    },
  })
}

/** A stage takes a generation only with the profile that it offers, so the offers say what computed. */
function profilesOf({ routeOffers }: CommandServices, { model, route }: TaskAnswer) {
  const offers = routeOffers(model)
  return route.map(({ peer, layers }) => ({
    peer,
    layers: { ...layers },
    profile: offers.find(offer => offer.peer === peer)?.stage.profile ?? '',
  }))
}
