/** The node's local socket, as the command line uses it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stat, writeFile } from 'node:fs/promises'
import { createServer as createNetServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { ApiError, startLocalApi } from '#api'
import { ManualClock, seededRandom, silentLogger, TimeoutError } from '#base'
import type { KoinonNode } from '#node'
import { attachmentOfBytes, ProtocolError } from '#protocol'
import { type AskEvent, type CompletionRequest, GREEDY, type OpenAiError } from '#wire'
import { ASK_PIECE_BYTES_MAX } from '../src/api/limits.ts'
import { ask, open, socketPlace } from './support/local-requests.ts'
import {
  collect,
  createScriptedNode,
  failing,
  MODEL,
  saying,
  sayingOnceThenWaiting,
  type Script,
  type ScriptedNode,
} from './support/scripted-node.ts'

const REQUEST: CompletionRequest = {
  model: 'x',
  prompt: { kind: 'text', text: 'Hello' },
  sampling: GREEDY,
  stop: [],
}

const isWindows = process.platform === 'win32'

type Setup = { readonly node: ScriptedNode; readonly socket: string; readonly stopAsked: Promise<void> }

async function setUp(t: TestContext, script?: Script): Promise<Setup> {
  const node = createScriptedNode(script)
  const { socket } = await socketPlace(t)
  const stopAsked = Promise.withResolvers<void>()
  const api = await startLocalApi(
    { node, clock: new ManualClock(), random: seededRandom(1), log: silentLogger },
    { socket, onStop: () => stopAsked.resolve() },
  )
  t.after(() => api.stop())
  return { node, socket, stopAsked: stopAsked.promise }
}

function lines(text: string): unknown[] {
  assert.ok(text.endsWith('\n'))
  return text
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as unknown)
}

test('status, peers, models and a plan are told as they are', async t => {
  const { node, socket } = await setUp(t)
  assert.deepEqual(JSON.parse((await ask(socket, '/local/status')).text), node.status())
  assert.deepEqual(JSON.parse((await ask(socket, '/local/peers')).text), [])
  assert.deepEqual(JSON.parse((await ask(socket, '/local/models')).text), [MODEL])
  assert.deepEqual(JSON.parse((await ask(socket, '/local/plan?model=a%20b')).text), node.plan('a b'))
  assert.equal((await ask(socket, '/local/plan')).status, 400)
  assert.equal((await ask(socket, '/v1/models')).status, 200)
})

test('a completion is told event by event, one a line', async t => {
  const { node, socket } = await setUp(t, saying(['a', 'b']))
  const wanted = { ...REQUEST, tokensMax: 9, topLogprobs: 1, logits: true, ignoreEnd: true }
  const { status, text } = await ask(socket, '/local/complete', wanted)
  assert.equal(status, 200)
  assert.deepEqual(node.requests, [wanted])
  const expected = await collect(saying(['a', 'b'])(wanted, { signal: new AbortController().signal }))
  assert.deepEqual(lines(text), expected)
})

test('a generation that fails ends with a line that says why', async t => {
  for (const events of [0, 3]) {
    const { socket } = await setUp(t, failing(new TimeoutError('a step', 7), events))
    const { status, text } = await ask(socket, '/local/complete', REQUEST)
    assert.equal(status, 200)
    assert.equal(lines(text).length, events + 1)
    assert.deepEqual(lines(text).at(-1), {
      kind: 'error',
      code: 'TIMEOUT',
      message: 'a step took longer than 7 ms',
    })
  }
})

test('a request in the wrong form is refused before the node sees it', async t => {
  const { node, socket } = await setUp(t)
  const { sampling: _, ...noSampling } = REQUEST
  const wrong = [
    {},
    noSampling,
    { ...REQUEST, prompt: { kind: 'song' } },
    { ...REQUEST, prompt: { kind: 'tokens', tokens: [1.5] } },
    { ...REQUEST, sampling: { ...GREEDY, seed: 2 ** 32 } },
    { ...REQUEST, tokensMax: 0 },
    { ...REQUEST, topLogprobs: 21 },
  ]
  for (const body of wrong) {
    const { status, text } = await ask(socket, '/local/complete', body)
    assert.equal(status, 400, JSON.stringify(body))
    assert.equal((JSON.parse(text) as OpenAiError).error.code, 'API_REQUEST_INVALID')
  }
  assert.equal(node.requests.length, 0)
})

test('a command that goes away aborts its generation', async t => {
  const { node, socket } = await setUp(t, sayingOnceThenWaiting)
  const response = await open(socket, '/local/complete', REQUEST)
  await once(response, 'data')
  const aborted = once(node.signals[0] ?? assert.fail('no generation'), 'abort')
  response.destroy()
  await aborted
  await node.idle()
})

type Ask = KoinonNode['ask']

/** A local socket whose node gives commands to peers by this function. */
async function setUpAsk(t: TestContext, ask: Ask): Promise<string> {
  const { socket } = await socketPlace(t)
  const deps = { clock: new ManualClock(), random: seededRandom(1), log: silentLogger }
  const api = await startLocalApi(
    { ...deps, node: { ...createScriptedNode(), ask } },
    { socket, onStop: () => undefined },
  )
  t.after(() => api.stop())
  return socket
}

const ASK = { peer: 'bob', command: 'ECHO', body: { text: 'a' }, wantsAttachment: true }

test('a command for a peer is told event by event, then the answer and its attachment in pieces', async t => {
  const whole = Uint8Array.from({ length: ASK_PIECE_BYTES_MAX + 10 }, (_, i) => i % 251)
  let released = 0
  const socket = await setUpAsk(t, async (peer, asked, { onEvent, attachment, deadlineMs, signal }) => {
    assert.deepEqual([peer, asked], ['bob', { name: 'ECHO', body: { bytes: Uint8Array.of(0, 1, 255), list: [1] } }])
    assert.equal(deadlineMs, 1500)
    const brought = await collect(attachment?.read({ from: 0, signal }) ?? assert.fail('nothing was brought'))
    assert.deepEqual(brought, [Uint8Array.of(1, 2, 3)])
    await onEvent?.({ n: 1, bytes: Uint8Array.of(7) })
    const release = async (): Promise<void> => void released++
    return { body: { ok: true }, attachment: { ...attachmentOfBytes(whole), release } }
  })
  const body = { bytes: { '/': { bytes: 'AAH/' } }, list: [1] }
  const { status, text } = await ask(socket, '/local/ask', { ...ASK, body, timeoutMs: 1500, attachment: 'AQID' })
  const [event, answer, ...pieces] = lines(text) as AskEvent[]
  assert.equal(status, 200)
  assert.deepEqual(event, { kind: 'event', event: { n: 1, bytes: { '/': { bytes: 'Bw' } } } })
  assert.deepEqual(answer, { kind: 'answer', body: { ok: true }, attachment: { sizeBytes: whole.byteLength } })
  const bytes = pieces.map(piece => Buffer.from(piece.kind === 'bytes' ? piece.base64 : '', 'base64'))
  assert.deepEqual(
    bytes.map(piece => piece.byteLength),
    [ASK_PIECE_BYTES_MAX, 10],
  )
  assert.ok(Buffer.concat(bytes).equals(whole))
  assert.equal(released, 1)
})

test('an attachment that nobody wants is not read, and one that cannot be read is an error', async t => {
  let released = 0
  const attachment = {
    sizeBytes: 9,
    read: (): AsyncIterable<Uint8Array> => {
      throw new TimeoutError('the peer', 7)
    },
    release: async () => void released++,
  }
  const socket = await setUpAsk(t, async () => ({ body: {}, attachment }))
  const answer = { kind: 'answer', body: {}, attachment: { sizeBytes: 9 } }
  assert.deepEqual(lines((await ask(socket, '/local/ask', { ...ASK, wantsAttachment: false })).text), [answer])
  const failed = { kind: 'error', code: 'TIMEOUT', message: 'the peer took longer than 7 ms' }
  assert.deepEqual(lines((await ask(socket, '/local/ask', ASK)).text), [answer, failed])
  assert.equal(released, 2)
})

test('what a peer refuses is told with its own code and when to come back', async t => {
  const fault = { code: 'PROTOCOL_REMOTE', peer: 'bob', remoteCode: 'PROTOCOL_BUSY', retryAfterMs: 900 } as const
  const socket = await setUpAsk(t, () => Promise.reject(new ProtocolError(fault, 'the peer is busy')))
  assert.deepEqual(lines((await ask(socket, '/local/ask', ASK)).text), [
    {
      kind: 'error',
      code: 'PROTOCOL_REMOTE',
      message: 'the peer is busy',
      remoteCode: 'PROTOCOL_BUSY',
      retryAfterMs: 900,
    },
  ])
})

test('a command line that goes away cancels its command', async t => {
  const cancelled = Promise.withResolvers<unknown>()
  const socket = await setUpAsk(t, async (_peer, _asked, { signal, onEvent }) => {
    await onEvent?.({})
    await once(signal, 'abort')
    cancelled.resolve(signal.reason)
    throw signal.reason
  })
  const response = await open(socket, '/local/ask', ASK)
  await once(response, 'data')
  response.destroy()
  assert.ok((await cancelled.promise) instanceof ApiError)
})

test('a command in the wrong form is refused before the node sees it', async t => {
  const socket = await setUpAsk(t, () => assert.fail('not asked'))
  for (const wrong of [
    {},
    { ...ASK, peer: '' },
    { ...ASK, timeoutMs: 0 },
    { ...ASK, attachment: '!' },
    { ...ASK, body: { deep: [{ '/': { bytes: '!' } }] } },
  ]) {
    const { status, text } = await ask(socket, '/local/ask', wrong)
    assert.equal(status, 400, JSON.stringify(wrong))
    assert.equal((JSON.parse(text) as OpenAiError).error.code, 'API_REQUEST_INVALID')
  }
})

test('the order to stop is answered, then carried out', async t => {
  const { socket, stopAsked } = await setUp(t)
  const { status, text } = await ask(socket, '/local/stop', {})
  assert.equal(status, 202)
  assert.deepEqual(JSON.parse(text), { stopping: true })
  await stopAsked
})

test('only the owner may open the socket, and it is gone after a stop', { skip: isWindows }, async t => {
  const { socket } = await socketPlace(t)
  const deps = { node: createScriptedNode(), clock: new ManualClock(), random: seededRandom(1), log: silentLogger }
  const mask = process.umask()
  const api = await startLocalApi(deps, { socket, onStop: () => undefined })
  assert.equal((await stat(socket)).mode & 0o777, 0o600)
  assert.equal(process.umask(), mask)
  await Promise.all([api.stop(), api.stop()])
  await assert.rejects(stat(socket), { code: 'ENOENT' })
})

test('a socket that a killed node left is replaced; any other file stays', { skip: isWindows }, async t => {
  const deps = { node: createScriptedNode(), clock: new ManualClock(), random: seededRandom(1), log: silentLogger }
  const { socket: stale } = await socketPlace(t)
  // A listening socket whose file is still there when the new node starts.
  const old = createNetServer().listen(stale)
  await once(old, 'listening')
  const api = await startLocalApi(deps, { socket: stale, onStop: () => undefined })
  t.after(() => api.stop())
  assert.equal((await ask(stale, '/local/peers')).status, 200)
  old.close()

  const { socket: other } = await socketPlace(t)
  await writeFile(other, 'precious')
  await assert.rejects(startLocalApi(deps, { socket: other, onStop: () => undefined }), (error: unknown) => {
    assert.ok(error instanceof ApiError)
    assert.equal(error.code, 'API_LISTEN_FAILED')
    return true
  })
  assert.equal((await stat(other)).size, 8)
})

test('a path that is too long for a socket is a clear error', { skip: isWindows }, async t => {
  const deps = { node: createScriptedNode(), clock: new ManualClock(), random: seededRandom(1), log: silentLogger }
  const socket = `${(await socketPlace(t)).socket}${'x'.repeat(120)}`
  await assert.rejects(startLocalApi(deps, { socket, onStop: () => undefined }), /cannot listen on its socket/)
})
