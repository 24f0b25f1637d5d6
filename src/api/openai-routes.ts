/** OpenAI's routes over a node: models, chat completions, completions; and health. The same on both surfaces. */
import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { toHex } from '#base'
import { type ChoiceRequests, fromChatRequest, fromTextRequest, type KoinonNode } from '#node'
import {
  chatCompletionRequestSchema,
  type HealthReport,
  type OpenAiModelList,
  textCompletionRequestSchema,
} from '#wire'
import { type ChoiceEvent, collectChoices, runChoices, UsageCounter } from './choices.ts'
import { findModel, toOpenAiModel } from './models.ts'
import { createOutlet, type Outlet } from './outlet.ts'
import type { Server, ServerDeps } from './server.ts'
import { chatWording, type Head, textWording, type Wording } from './wording.ts'

export type RouteDeps = ServerDeps & {
  readonly node: Pick<KoinonNode, 'models' | 'complete' | 'health'>
}

export function addOpenAiRoutes(server: Server, deps: RouteDeps): void {
  const { app } = server
  const head = (kind: string, model: string): Head => ({
    id: `${kind}-${toHex(deps.random.bytes(12))}`,
    created: Math.floor(deps.clock.now() / 1000),
    model,
  })
  app.get(
    '/v1/models',
    async (): Promise<OpenAiModelList> => ({
      object: 'list',
      data: deps.node.models().map(toOpenAiModel),
    }),
  )
  app.get<{ Params: { id: string } }>('/v1/models/:id', async ({ params }) =>
    toOpenAiModel(findModel(deps.node.models(), params.id)),
  )
  app.post('/v1/chat/completions', { schema: { body: chatCompletionRequestSchema } }, async (request, reply) => {
    const { body } = request
    return answer(server, deps, {
      reply,
      requests: fromChatRequest(body, deps.random),
      wording: chatWording(head('chatcmpl', body.model), { hasLogprobs: body.logprobs === true }),
      choicesPerPrompt: body.n ?? 1,
      isStream: body.stream === true,
      hasStreamUsage: body.stream_options?.include_usage === true,
    })
  })
  app.post('/v1/completions', { schema: { body: textCompletionRequestSchema } }, async (request, reply) => {
    const { body } = request
    return answer(server, deps, {
      reply,
      requests: fromTextRequest(body, deps.random),
      wording: textWording(head('cmpl', body.model), { hasLogprobs: typeof body.logprobs === 'number' }),
      choicesPerPrompt: body.n ?? 1,
      isStream: body.stream === true,
      hasStreamUsage: body.stream_options?.include_usage === true,
    })
  })
  app.get('/healthz', async (_request: FastifyRequest, reply): Promise<HealthReport> => {
    const health = deps.node.health()
    if (health.ok) return { status: 'ok' }
    reply.code(503)
    return { status: 'unavailable', reason: health.reason ?? 'not ready' }
  })
}

type Work = {
  readonly reply: FastifyReply
  readonly requests: ChoiceRequests
  readonly wording: Wording
  readonly choicesPerPrompt: number
  readonly isStream: boolean
  readonly hasStreamUsage: boolean
}

/** @returns the whole answer, or nothing where it was streamed or nobody is left to read it */
function answer(server: Server, deps: RouteDeps, work: Work): Promise<object | undefined> {
  return server.attend(work.reply, async signal => {
    const events = runChoices(deps.node, work.requests, { signal })
    const usage = new UsageCounter(work.choicesPerPrompt)
    if (!work.isStream) return work.wording.whole(await collectChoices(events, usage), usage.total())
    // What fails before the first event (unknown model, no route, too long) still gets its own status.
    const first = await events.next()
    const outlet = openStream(deps, work.reply, { type: 'text/event-stream; charset=utf-8', signal })
    let last = 'data: [DONE]\n\n'
    try {
      if (first.done !== true) await writeChoice(outlet, { ...work, usage }, first.value)
      for await (const event of events) await writeChoice(outlet, { ...work, usage }, event)
      if (work.hasStreamUsage) await outlet.write(frame({ ...work.wording.last(), usage: usage.total() }))
    } catch (error) {
      last = frame(server.tell(error).body)
    } finally {
      await events.return()
      outlet.end(last)
    }
    return undefined
  })
}

export type StreamDeps = Pick<ServerDeps, 'clock'>

/** Takes the connection over from Fastify, with the headers that its hooks have set. */
export function openStream(
  deps: StreamDeps,
  reply: FastifyReply,
  options: { readonly type: string; readonly signal: AbortSignal },
): Outlet {
  reply.hijack()
  const headers = reply.getHeaders() as OutgoingHttpHeaders
  reply.raw.writeHead(200, { ...headers, 'content-type': options.type, 'x-accel-buffering': 'no' })
  return createOutlet({ clock: deps.clock, response: reply.raw }, { signal: options.signal })
}

function frame(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`
}

async function writeChoice(
  outlet: Outlet,
  work: Work & { readonly usage: UsageCounter },
  choiceEvent: ChoiceEvent,
): Promise<void> {
  const { index, event } = choiceEvent
  work.usage.add(choiceEvent)
  const chunk =
    event.kind === 'start'
      ? work.wording.start(index)
      : event.kind === 'delta'
        ? work.wording.delta(index, event)
        : work.wording.end(index, event.reason)
  if (chunk !== undefined) await outlet.write(frame(work.hasStreamUsage ? { ...chunk, usage: null } : chunk))
}
