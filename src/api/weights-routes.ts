/**
 * The routes about models' weights: what is here, adding, pulling, verifying, sharing, votes. What takes long is told line
 * by line, at the pace of its reader; a client that goes away ends it.
 */
import type { FastifyReply } from 'fastify'
import type { Clock } from '#base'
import type { KoinonNode } from '#node'
import type { ModelTorrent, TransferEvent, TransferProgress, WeightsOptions } from '#wire'
import { TRANSFER_LINE_MS } from './limits.ts'
import { openStream, type StreamDeps } from './openai-routes.ts'
import type { Outlet } from './outlet.ts'
import type { Server } from './server.ts'
import { addModelSchema, modelSchema, pullSchema, shareSchema, voteSchema } from './weights-schema.ts'

export type WeightsDeps = StreamDeps & { readonly node: Pick<KoinonNode, 'weights'> }

export function addWeightsRoutes(server: Server, deps: WeightsDeps): void {
  const { app } = server
  const { weights } = deps.node
  app.get('/local/models/held', async () => weights.list())
  app.get('/local/models/details', { schema: { querystring: modelSchema } }, async ({ query }) =>
    weights.details(query.model),
  )
  app.get(
    '/local/models/torrent',
    { schema: { querystring: modelSchema } },
    async ({ query }): Promise<ModelTorrent> => ({
      torrent: Buffer.from(weights.torrent(query.model)).toString('base64'),
    }),
  )
  app.post('/local/models/add', { schema: { body: addModelSchema } }, async ({ body }, reply) =>
    tell(server, deps, {
      reply,
      task: async options => ({ kind: 'added', model: await weights.add(body, options) }),
    }),
  )
  app.post('/local/models/verify', { schema: { body: modelSchema } }, async ({ body }, reply) =>
    tell(server, deps, {
      reply,
      task: async options => ({ kind: 'verified', ...(await weights.verify(body.model, options)) }),
    }),
  )
  app.post('/local/pull', { schema: { body: pullSchema } }, async ({ body }, reply) =>
    tell(server, deps, {
      reply,
      task: async options => ({ kind: 'pulled', end: await weights.pull(body, options) }),
    }),
  )
  app.post('/local/models/remove', { schema: { body: modelSchema } }, async ({ body }) => ({
    freedBytes: await weights.remove(body.model),
  }))
  app.post('/local/models/vote', { schema: { body: voteSchema } }, async ({ body: { model, ...vote } }) =>
    weights.vote(model, vote),
  )
  app.post('/local/share', { schema: { body: shareSchema } }, async ({ body }) =>
    weights.share(body.model, body.isShared),
  )
}

type Told = {
  readonly reply: FastifyReply
  /** @returns the last event */
  readonly task: (options: WeightsOptions) => Promise<TransferEvent>
}

/** Runs something long, and tells how far it is and how it ended. */
function tell(server: Server, deps: WeightsDeps, { reply, task }: Told): Promise<undefined> {
  return server.attend(reply, async signal => {
    // Ends the task when nobody reads, and the last line about progress when the task has ended.
    const over = new AbortController()
    const either = AbortSignal.any([signal, over.signal])
    const outlet = openStream(deps, reply, { type: 'application/x-ndjson; charset=utf-8', signal: either })
    const lines = new ProgressLines(deps.clock, outlet, error => over.abort(error))
    let last: TransferEvent | undefined
    try {
      last = await task({ signal: either, onProgress: progress => lines.tell(progress) })
      await lines.idle()
    } catch (error) {
      const { message, code } = server.tell(error).body.error
      last = { kind: 'error', code: code ?? 'INTERNAL', message }
    } finally {
      over.abort()
      outlet.end(last === undefined ? undefined : toLine(last))
    }
    return undefined
  })
}

/**
 * Progress as lines: a few a second at most, and never more than the reader takes. What happens while a line waits for
 * room is told by the newest alone.
 */
class ProgressLines {
  readonly #clock: Clock
  readonly #outlet: Outlet
  readonly #onLeft: (error: unknown) => void
  #writing: Promise<void> | undefined
  #waiting: TransferProgress | undefined
  #toldAt = -Infinity
  /** Phase, and whether it is done: the beginning and the end of each are told at once. */
  #toldStep = ''

  /** @param onLeft the reader is gone, or does not read */
  constructor(clock: Clock, outlet: Outlet, onLeft: (error: unknown) => void) {
    this.#clock = clock
    this.#outlet = outlet
    this.#onLeft = onLeft
  }

  tell(progress: TransferProgress): void {
    const now = this.#clock.monotonic()
    const { phase, doneBytes, totalBytes } = progress
    const step = `${phase} ${doneBytes === totalBytes}`
    if (step === this.#toldStep && now - this.#toldAt < TRANSFER_LINE_MS) return
    this.#toldAt = now
    this.#toldStep = step
    this.#waiting = progress
    this.#writing ??= this.#write().catch(this.#onLeft)
  }

  /** Resolves when nothing waits to be written. */
  async idle(): Promise<void> {
    await this.#writing
  }

  async #write(): Promise<void> {
    try {
      for (let next = this.#take(); next !== undefined; next = this.#take()) {
        await this.#outlet.write(toLine({ kind: 'progress', progress: next }))
      }
    } finally {
      this.#writing = undefined
    }
  }

  #take(): TransferProgress | undefined {
    const next = this.#waiting
    this.#waiting = undefined
    return next
  }
}

function toLine(event: TransferEvent): string {
  return `${JSON.stringify(event)}\n`
}
