/**
 * EXECUTE_TASK: runs a generation that enters here, and streams its text. A request is one of OpenAI's, with `kind` to
 * tell which: the same fields and the same checks as over HTTP.
 */
import { z } from 'zod'
import { defineCommand } from '#protocol'
import {
  chatCompletionRequestSchema,
  type CheckedChatRequest,
  type CheckedTextRequest,
  textCompletionRequestSchema,
  type TextPrompt,
  type TokenInfo,
} from '#wire'
import { fromChatRequest, fromTextRequest } from '../to-request.ts'
import { TASK_DEADLINE_MS } from '../limits.ts'
import { runTask } from './run-task.ts'
import { hashSchema, layersSchema, modelNameSchema } from './schemas.ts'
import type { CommandServices } from './services.ts'

type Task =
  | { readonly kind: 'chat'; readonly model: string | undefined; readonly body: CheckedChatRequest }
  | { readonly kind: 'completion'; readonly model: string | undefined; readonly body: CheckedTextRequest }

const request = z
  .looseObject({ kind: z.enum(['completion', 'chat']), model: modelNameSchema.optional() })
  .transform((task, context): Task => {
    const { kind, model } = task
    // OpenAI's requests must name a model; here it may be the one that the node has.
    const fields = { ...task, model: model ?? 'default' }
    const parsed =
      kind === 'chat' ? chatCompletionRequestSchema.safeParse(fields) : textCompletionRequestSchema.safeParse(fields)
    if (!parsed.success) {
      for (const { path, message } of parsed.error.issues.slice(0, 1)) {
        context.addIssue({ code: 'custom', path, message })
      }
      return z.NEVER
    }
    if ((parsed.data.n ?? 1) > 1) context.addIssue({ code: 'custom', path: ['n'], message: 'a task has one answer' })
    if ('prompt' in parsed.data && isSeveral(parsed.data.prompt)) {
      context.addIssue({ code: 'custom', path: ['prompt'], message: 'a task has one prompt' })
    }
    return { kind, model, body: parsed.data } as Task
  })

const tokenScore = z.object({ token: z.int(), text: z.string(), logprob: z.number() })

const event = z.object({
  /** May be empty while a character or a possible stop text is incomplete. */
  text: z.string(),
  tokens: z.array(z.object({ token: z.int(), logprob: z.number().optional(), top: z.array(tokenScore).optional() })),
})

const response = z.object({
  generation: z.string(),
  model: hashSchema,
  /** The whole answer. */
  text: z.string(),
  finish_reason: z.enum(['stop', 'length']),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }),
  route: z.array(z.object({ peer: z.string(), layers: layersSchema })),
})

export function executeTask(services: CommandServices) {
  return defineCommand({
    type: 33,
    name: 'EXECUTE_TASK',
    request,
    response,
    event,
    cost: 16,
    rate: { perSecond: 1, burst: 8 },
    right: 'member',
    deadlineMs: TASK_DEADLINE_MS,
    priority: 'normal',
    handle: async (task, context) => {
      const { model, random } = services
      const requests = task.kind === 'chat' ? fromChatRequest(task.body, random) : fromTextRequest(task.body, random)
      const [first] = requests
      if (first === undefined) throw new TypeError('a checked request has a prompt')
      const answer = await runTask(
        services,
        { ...first, model: task.model ?? model.id },
        { signal: context.signal, onDelta: (text, tokens) => context.emit({ text, tokens: tokens.map(toEvent) }) },
      )
      return {
        body: {
          generation: answer.generation,
          model: answer.model,
          text: answer.text,
          finish_reason: answer.reason,
          usage: { prompt_tokens: answer.usage.promptTokens, completion_tokens: answer.usage.completionTokens },
          route: answer.route.map(({ peer, layers }) => ({ peer, layers: { ...layers } })),
        },
      }
    },
  })
}

function toEvent({ token, logprob, top }: TokenInfo): z.infer<typeof event>['tokens'][number] {
  return {
    token,
    ...(logprob === undefined ? {} : { logprob: finite(logprob.logprob) }),
    ...(top === undefined
      ? {}
      : { top: top.map(score => ({ token: score.token, text: score.text, logprob: finite(score.logprob) })) }),
  }
}

/** A list of numbers is one prompt, as token ids. */
function isSeveral(prompt: TextPrompt): boolean {
  return typeof prompt !== 'string' && prompt.length > 1 && typeof prompt[0] !== 'number'
}

/** Neither JSON nor dag-cbor has infinity; OpenAI writes -9999 for "impossible". */
function finite(logprob: number): number {
  return Math.max(logprob, -9999)
}
