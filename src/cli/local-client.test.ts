import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#base'
import { type AskRequest, type CompletionEvent, type CompletionRequest, GREEDY } from '#wire'
import { CliError } from './errors.ts'
import { LOCAL_EVENT_BYTES_MAX } from './limits.ts'
import { type AskAnswer, createLocalClient, type LocalClient } from './local-client.ts'

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** A node's socket with the given answers. */
async function clientFor(t: TestContext, handler: Handler): Promise<LocalClient> {
  const dataDir = mkdtempSync(join(tmpdir(), 'koinon-test-'))
  const socket = join(dataDir, 's')
  const server = createServer(handler)
  server.listen(socket)
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
    rmSync(dataDir, { recursive: true })
  })
  return createLocalClient({ clock: systemClock }, { socket, dataDir })
}

const request: CompletionRequest = {
  model: 'm',
  prompt: { kind: 'text', text: 'x' },
  sampling: GREEDY,
  stop: [],
}

const events: readonly CompletionEvent[] = [
  { kind: 'start', generation: 'g', model: 'm', promptTokens: 1, route: [] },
  { kind: 'delta', text: 'fox 🦊', tokens: [] },
  { kind: 'end', reason: 'stop', usage: { promptTokens: 1, completionTokens: 1 } },
]

async function collect(client: LocalClient, signal = new AbortController().signal): Promise<CompletionEvent[]> {
  const collected: CompletionEvent[] = []
  for await (const event of client.complete(request, { signal })) collected.push(event)
  return collected
}

const hasCode = (code: string) => (error: unknown) => error instanceof CliError && error.code === code

test('a short answer comes back as it was sent', async t => {
  const client = await clientFor(t, (asked, response) => response.end(JSON.stringify({ model: asked.url })))
  assert.deepEqual(await client.plan('a b&c'), { model: '/local/plan?model=a%20b%26c' })
})

test('a directory without a node, or with the socket of a killed one, is CLI_NO_NODE', async t => {
  const dataDir = mkdtempSync(join(tmpdir(), 'koinon-test-'))
  t.after(() => rmSync(dataDir, { recursive: true }))
  writeFileSync(join(dataDir, 'stale'), '')
  for (const name of ['none', 'stale']) {
    const client = createLocalClient({ clock: systemClock }, { socket: join(dataDir, name), dataDir })
    await assert.rejects(client.status(), hasCode('CLI_NO_NODE'))
    await assert.rejects(collect(client), hasCode('CLI_NO_NODE'))
  }
})

test('a refusal keeps the code and the sentence of the node', async t => {
  const client = await clientFor(t, (_asked, response) => {
    response.statusCode = 404
    response.end(JSON.stringify({ error: { code: 'NODE_MODEL_UNKNOWN', message: 'no such model', type: 'x' } }))
  })
  await assert.rejects(client.plan('m'), error => {
    assert.ok(error instanceof CliError)
    assert.deepEqual(error.fault, { code: 'CLI_NODE_REFUSED', remote: 'NODE_MODEL_UNKNOWN' })
    return error.message === 'no such model'
  })
})

test('events arrive whole however the bytes are cut', async t => {
  const body = Buffer.from(events.map(event => `${JSON.stringify(event)}\n`).join(''))
  const client = await clientFor(t, (asked, response) => {
    asked.resume().on('end', () => {
      // One byte at a time also cuts inside the emoji.
      for (const byte of body) response.write(Buffer.of(byte))
      response.end()
    })
  })
  assert.deepEqual(await collect(client), events)
})

test('an error line ends the answer with the code of the node', async t => {
  const client = await clientFor(t, (_asked, response) => {
    response.end(`${JSON.stringify(events[0])}\n{"kind":"error","code":"ENGINE_CRASHED","message":"it died"}\n`)
  })
  await assert.rejects(
    collect(client),
    error =>
      error instanceof CliError && error.fault.code === 'CLI_NODE_REFUSED' && error.fault.remote === 'ENGINE_CRASHED',
  )
})

test('an answer that ends early, breaks off, is no JSON, or is too long is CLI_ANSWER_INVALID', async t => {
  const answers: readonly Handler[] = [
    (_asked, response) => response.end(`${JSON.stringify(events[0])}\n`),
    (_asked, response) => response.write(`${JSON.stringify(events[0])}\n`, () => response.destroy()),
    (_asked, response) => response.end('{"kind":\n'),
    (_asked, response) => response.end('{"kind":"strange"}\n'),
    (_asked, response) => response.end('7\n'),
    (_asked, response) => response.end('x'.repeat(LOCAL_EVENT_BYTES_MAX + 1)),
  ]
  for (const answer of answers) {
    const client = await clientFor(t, (asked, response) => {
      asked.resume()
      answer(asked, response)
    })
    await assert.rejects(collect(client), hasCode('CLI_ANSWER_INVALID'))
  }
})

const ASK: AskRequest = { peer: 'bob', command: 'ECHO', body: {}, wantsAttachment: true }

/** What a node's socket says to a command, and what the client makes of it. */
async function askOver(t: TestContext, lines: readonly object[]): Promise<AskAnswer[]> {
  const client = await clientFor(t, (asked, response) => {
    asked.resume()
    response.end(lines.map(line => `${JSON.stringify(line)}\n`).join(''))
  })
  const answers: AskAnswer[] = []
  for await (const answer of client.ask(ASK, { signal: new AbortController().signal })) answers.push(answer)
  return answers
}

test('a command is answered with events, the answer and all of its attachment', async t => {
  const lines = [
    { kind: 'event', event: 1 },
    { kind: 'answer', body: {}, attachment: { sizeBytes: 4 } },
    { kind: 'bytes', base64: 'AQID' },
    { kind: 'bytes', base64: 'BA==' },
  ]
  assert.deepEqual(await askOver(t, lines), lines)
  assert.deepEqual(await askOver(t, [{ kind: 'answer', body: {} }]), [{ kind: 'answer', body: {} }])
  const incomplete = [lines.slice(0, 1), lines.slice(0, 3), [...lines, lines[3] ?? {}], [{ kind: 'bytes' }], [{}]]
  for (const some of incomplete) await assert.rejects(askOver(t, some), hasCode('CLI_ANSWER_INVALID'))
})

test('a refusal of a peer keeps its code and when to come back', async t => {
  const line = { kind: 'error', code: 'PROTOCOL_REMOTE', message: 'no', remoteCode: 'PROTOCOL_BUSY', retryAfterMs: 9 }
  await assert.rejects(askOver(t, [line]), error => {
    assert.ok(error instanceof CliError)
    const fault = { code: 'CLI_NODE_REFUSED', remote: 'PROTOCOL_REMOTE', peerCode: 'PROTOCOL_BUSY', retryAfterMs: 9 }
    assert.deepEqual(error.fault, fault)
    return true
  })
})

test('aborting, or leaving the loop, ends the connection', async t => {
  for (const way of ['abort', 'leave']) {
    let closed: Promise<unknown> = Promise.resolve()
    const client = await clientFor(t, (asked, response) => {
      asked.resume()
      closed = once(response, 'close')
      response.write(`${JSON.stringify(events[0])}\n`)
    })
    const controller = new AbortController()
    const read = async (): Promise<void> => {
      for await (const _event of client.complete(request, { signal: controller.signal })) {
        if (way === 'leave') return
        controller.abort(new Error('enough'))
      }
    }
    if (way === 'abort') await assert.rejects(read(), /enough/)
    else await read()
    await closed
  }
})
