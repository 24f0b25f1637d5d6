/** `POST /local/find`: looks for a service, and tells line by line who was found. A client that goes away ends the search. */
import type { KoinonNode } from '#node'
import type { FindEvent } from '#wire'
import { findRequestSchema } from './local-schema.ts'
import { openStream, type StreamDeps } from './openai-routes.ts'
import type { Server } from './server.ts'

export type FindDeps = StreamDeps & { readonly node: Pick<KoinonNode, 'find'> }

export function addFindRoute(server: Server, deps: FindDeps): void {
  server.app.post('/local/find', { schema: { body: findRequestSchema } }, async (request, reply) =>
    server.attend(reply, async signal => {
      const outlet = openStream(deps, reply, { type: 'application/x-ndjson; charset=utf-8', signal })
      let last = toLine({ kind: 'end' })
      try {
        for await (const found of deps.node.find(request.body, { signal })) {
          await outlet.write(toLine({ kind: 'found', found }))
        }
      } catch (error) {
        const { message, code } = server.tell(error).body.error
        last = toLine({ kind: 'error', code: code ?? 'INTERNAL', message })
      } finally {
        outlet.end(last)
      }
      return undefined
    }),
  )
}

function toLine(event: FindEvent): string {
  return `${JSON.stringify(event)}\n`
}
