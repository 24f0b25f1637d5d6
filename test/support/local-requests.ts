/** A node's local socket, and requests to it as any client of HTTP makes them. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type IncomingMessage, request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { collect } from './scripted-node.ts'

/** A directory that goes away with the test, and in it a place for a socket (on Windows: a pipe, which lies in no directory). */
export async function socketPlace(t: TestContext): Promise<{ readonly directory: string; readonly socket: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-api-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const isWindows = process.platform === 'win32'
  const socket = isWindows ? `\\\\.\\pipe\\${directory.replaceAll(/\W/g, '-')}` : join(directory, 'node.sock')
  return { directory, socket }
}

/** @returns the answer's beginning; its body comes as it is read */
export async function open(socket: string, path: string, body?: unknown): Promise<IncomingMessage> {
  const request = httpRequest({
    socketPath: socket,
    path,
    agent: false,
    method: body === undefined ? 'GET' : 'POST',
    headers: { host: 'anything', ...(body !== undefined && { 'content-type': 'application/json' }) },
  })
  request.end(body === undefined ? undefined : JSON.stringify(body))
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return response
}

/** The whole answer. */
export async function ask(socket: string, path: string, body?: unknown): Promise<{ status: number; text: string }> {
  const response = await open(socket, path, body)
  return { status: response.statusCode ?? 0, text: (await collect(response.setEncoding('utf8'))).join('') }
}
