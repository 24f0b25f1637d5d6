/** What the API refuses and how it says so, over real HTTP with a scripted node behind it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingHttpHeaders, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Api, ApiError, type ApiOptions, startApi } from '#api'
import { type Clock, ManualClock, seededRandom, silentLogger } from '#base'
import type { OpenAiError } from '#wire'
import { createScriptedNode, failing, type Script, type ScriptedNode, start } from './support/scripted-node.ts'

const CHAT = { model: 'x', messages: [{ role: 'user', content: 'Hello.' }] }

type Setup = { readonly node: ScriptedNode; readonly api: Api; readonly port: number }

async function setUp(
  t: TestContext,
  options: Partial<ApiOptions> & { readonly script?: Script; readonly clock?: Clock } = {},
): Promise<Setup> {
  const { script, clock = new ManualClock(), ...rest } = options
  const node = createScriptedNode(script)
  const deps = { node, clock, random: seededRandom(1), log: silentLogger }
  const api = await startApi(deps, { host: '127.0.0.1', port: 0, ...rest })
  t.after(() => api.stop())
  return { node, api, port: Number(new URL(api.address).port) }
}

type Asked = {
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}
type Answered = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly text: string }

/** One request as it is given, with headers that fetch() would not send. */
async function ask(port: number, asked: Asked): Promise<Answered> {
  const request = httpRequest({
    host: '127.0.0.1',
    port,
    agent: false,
    method: asked.method ?? (asked.body === undefined ? 'GET' : 'POST'),
    path: asked.path ?? '/v1/models',
    headers: { ...(asked.body !== undefined && { 'content-type': 'application/json' }), ...asked.headers },
  })
  const answered = new Promise<Answered>((resolve, reject) => {
    request.on('error', reject)
    request.on('response', response => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
    })
  })
  request.end(asked.body)
  return answered
}

function errorOf({ text }: Answered): OpenAiError['error'] {
  const { error } = JSON.parse(text) as OpenAiError
  assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'param', 'type'])
  assert.ok(error.message.length > 5)
  return error
}

test('a request that names another host is refused, and so is one that names none', async t => {
  const { port, node } = await setUp(t)
  for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', 'localhost@evil.example']) {
    const answered = await ask(port, { headers: { host } })
    assert.equal(answered.status, 403, host)
    assert.equal(errorOf(answered).code, 'host_refused')
    const posted = await ask(port, { path: '/v1/chat/completions', body: JSON.stringify(CHAT), headers: { host } })
    assert.equal(posted.status, 403, host)
  }
  for (const host of ['localhost', `localhost:${port}`, `127.0.0.1:${port}`, '127.0.0.1:1', '[::1]:80', 'LOCALHOST.']) {
    assert.equal((await ask(port, { headers: { host } })).status, 200, host)
  }
  assert.equal(node.requests.length, 0)
})

test('names in allowedHosts may be addressed and used from pages', async t => {
  const { port } = await setUp(t, { allowedHosts: ['box.lan'] })
  assert.equal((await ask(port, { headers: { host: 'box.lan:80' } })).status, 200)
  assert.equal((await ask(port, { headers: { origin: 'https://box.lan' } })).status, 200)
  assert.equal((await ask(port, { headers: { host: 'other.lan' } })).status, 403)
  const any = await setUp(t, { allowedHosts: ['*'] })
  assert.equal((await ask(any.port, { headers: { host: 'other.lan' } })).status, 200)
})

test('a page of another origin is refused, also on its preflight; nothing is ever shared across origins', async t => {
  const { port, node } = await setUp(t)
  const foreign = ['https://evil.example', 'null', 'http://localhost:1', 'file://', 'http://127.0.0.1', 'nonsense']
  for (const origin of foreign) {
    for (const method of ['GET', 'POST', 'OPTIONS']) {
      const asked = {
        method,
        path: '/v1/chat/completions',
        headers: { origin },
        ...(method === 'POST' && { body: JSON.stringify(CHAT) }),
      }
      const answered = await ask(port, asked)
      assert.equal(answered.status, 403, `${method} from ${origin}`)
      assert.equal(errorOf(answered).code, 'origin_refused')
      assert.equal(answered.headers['access-control-allow-origin'], undefined)
    }
  }
  assert.equal(node.requests.length, 0)
  const own = await ask(port, { headers: { origin: `http://127.0.0.1:${port}` } })
  assert.equal(own.status, 200)
  assert.equal(own.headers['access-control-allow-origin'], undefined)
})

test('every answer forbids sniffing, framing and caching, and has an id', async t => {
  const { port } = await setUp(t)
  for (const path of ['/v1/models', '/nowhere', '/healthz', '/v1/%']) {
    const { headers } = await ask(port, { path })
    assert.equal(headers['x-content-type-options'], 'nosniff', path)
    assert.equal(headers['x-frame-options'], 'DENY')
    assert.equal(headers['cache-control'], 'no-store')
  }
  assert.match(String((await ask(port, {})).headers['x-request-id']), /^req_[0-9a-f]{24}$/)
})

test('an unknown path, a wrong method, a wrong type and bad JSON are refused in OpenAI form', async t => {
  const { port, node } = await setUp(t, { bodyBytesMax: 2000 })
  const path = '/v1/chat/completions'
  const json = JSON.stringify(CHAT)
  const cases: readonly [Asked, number, string][] = [
    [{ path: '/v1/nothing' }, 404, 'unknown_url'],
    [{ path: '/v1/%' }, 400, 'invalid_json'],
    [{ path: `/v1/models/${'x'.repeat(2000)}` }, 404, 'unknown_url'],
    [{ path, method: 'GET' }, 405, 'method_not_allowed'],
    [{ path, method: 'OPTIONS' }, 405, 'method_not_allowed'],
    [{ path: '/v1/models', method: 'DELETE' }, 405, 'method_not_allowed'],
    [{ path, body: '{"model":' }, 400, 'invalid_json'],
    [{ path, body: '' }, 400, 'invalid_json'],
    [{ path, body: '{"__proto__":{"x":1}}' }, 400, 'invalid_json'],
    [{ path, body: '[]' }, 400, 'invalid_value'],
    [{ path, body: 'null' }, 400, 'invalid_value'],
    [{ path, method: 'POST' }, 400, 'invalid_value'],
    [{ path, body: json, headers: { 'content-type': 'text/plain' } }, 415, 'unsupported_content_type'],
    [
      { path, body: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      415,
      'unsupported_content_type',
    ],
    [{ path, body: JSON.stringify({ ...CHAT, user: 'u'.repeat(2000) }) }, 413, 'request_too_large'],
  ]
  for (const [asked, status, code] of cases) {
    const answered = await ask(port, asked)
    assert.equal(answered.status, status, `${JSON.stringify(asked)}: ${answered.text}`)
    assert.equal(errorOf(answered).code, code)
    assert.match(String(answered.headers['content-type']), /^application\/json/)
  }
  assert.equal((await ask(port, { path, method: 'GET' })).headers.allow, 'POST')
  assert.equal(node.requests.length, 0)
  assert.equal((await ask(port, { path, body: json })).status, 200)
})

test('what is not HTTP, a missing Host and headers without end get an answer and no more', async t => {
  const { port } = await setUp(t)
  for (const [sent, status] of [
    ['NONSENSE\r\n\r\n', 400],
    ['GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n', 403],
    [`GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, 431],
  ] as const) {
    const socket = connect(port, '127.0.0.1')
    let text = ''
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    socket.write(sent)
    await once(socket, 'close')
    assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `))
    errorOf({ status, headers: {}, text: text.slice(text.indexOf('\r\n\r\n')) })
  }
})

test('health says 200, or 503 and why', async t => {
  const { port, node } = await setUp(t)
  const well = await ask(port, { path: '/healthz' })
  assert.equal(well.status, 200)
  assert.deepEqual(JSON.parse(well.text), { status: 'ok' })
  node.health = () => ({ ok: false, reason: 'layers 4-8 are served by nobody' })
  const ill = await ask(port, { path: '/healthz' })
  assert.equal(ill.status, 503)
  assert.deepEqual(JSON.parse(ill.text), { status: 'unavailable', reason: 'layers 4-8 are served by nobody' })
})

test('a busy node is told as 503 with Retry-After', async t => {
  const { port } = await setUp(t, {
    script: failing(new ApiError({ code: 'API_STOPPING' }, 'busy')),
  })
  const answered = await ask(port, { path: '/v1/chat/completions', body: JSON.stringify(CHAT) })
  assert.equal(answered.status, 503)
  assert.equal(answered.headers['retry-after'], '1')
})

test('a client that stops reading holds up the generation, then loses it', async t => {
  let pulled = 0
  const clock = new ManualClock()
  const { port, node } = await setUp(t, {
    clock,
    script: async function* (request) {
      yield start(request)
      for (;;) {
        pulled++
        yield { kind: 'delta', text: 'x'.repeat(4096), tokens: [] }
      }
    },
  })
  const socket = connect(port, '127.0.0.1')
  const body = JSON.stringify({ ...CHAT, stream: true })
  const head = ['POST /v1/chat/completions HTTP/1.1', 'host: localhost', 'content-type: application/json']
  socket.write(`${head.join('\r\n')}\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
  socket.on('error', () => undefined) // The server resets the connection at the end of this test.
  // Nothing tells that nothing happens any more; many turns of the event loop without a new piece do.
  for (let last = -1, still = 0; still < 200; ) {
    await new Promise(resolve => {
      setImmediate(resolve)
    })
    still = pulled > 0 && pulled === last ? still + 1 : 0
    last = pulled
    // What the operating system holds for the connection is some megabytes; without a bound this would never end.
    assert.ok(pulled * 4096 < 64 * 1024 * 1024, `${pulled} pieces were made for nobody`)
  }
  const aborted = once(node.signals[0] ?? assert.fail('no generation'), 'abort')
  clock.advance(30_000)
  await aborted
  await node.idle()
  socket.destroy()
})

test('a pipelined second request is aborted with its connection too', async t => {
  const reached = Promise.withResolvers<void>()
  const { port, node } = await setUp(t, {
    script: async function* (request, { signal }) {
      yield start(request)
      if (node.requests.length === 2) reached.resolve()
      await new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')))
      })
    },
  })
  const socket = connect(port, '127.0.0.1')
  const body = JSON.stringify(CHAT)
  const head = ['POST /v1/chat/completions HTTP/1.1', 'host: localhost', 'content-type: application/json']
  const one = `${head.join('\r\n')}\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  socket.write(one + one)
  await reached.promise
  socket.destroy()
  await node.idle()
  assert.deepEqual(
    node.signals.map(signal => signal.aborted),
    [true, true],
  )
})

test('an address that is taken is a clear error', async t => {
  const { port } = await setUp(t)
  await assert.rejects(setUp(t, { port }), (error: unknown) => {
    assert.ok(error instanceof ApiError)
    assert.equal(error.code, 'API_LISTEN_FAILED')
    assert.match(error.message, /another program does/)
    return true
  })
})
