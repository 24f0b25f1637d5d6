/** HTTP with a gateway on the own network: one request, one connection, no redirects, an answer of bounded size. */
import { request } from 'node:http'
import { UPNP_BODY_BYTES_MAX } from '../limits.ts'

export type HttpAnswer = { readonly status: number; readonly body: string }

export type HttpRequest = {
  readonly url: URL
  /** This machine's address on the gateway's network. */
  readonly localAddress: string
  readonly signal: AbortSignal
  /** Makes it a POST. */
  readonly body?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** @throws Error where the connection or the answer fails; the signal's reason */
export function askGateway(ask: HttpRequest): Promise<HttpAnswer> {
  const { url, localAddress, signal, body } = ask
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      { agent: false, localAddress, signal, method: body === undefined ? 'GET' : 'POST', headers: { ...ask.headers } },
      incoming => {
        const chunks: Buffer[] = []
        let size = 0
        incoming.on('data', (chunk: Buffer) => {
          size += chunk.byteLength
          if (size > UPNP_BODY_BYTES_MAX) outgoing.destroy(new Error('the answer is too long'))
          else chunks.push(chunk)
        })
        incoming.on('end', () =>
          resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
        )
        incoming.on('error', reject)
        // A connection that breaks off before the end emits no error of its own on the answer in every case.
        incoming.on('close', () => reject(new Error('the answer broke off')))
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}
