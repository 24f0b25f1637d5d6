import assert from 'node:assert/strict'
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { type TestContext, test } from 'node:test'
import { assert as check, property, string, uint8Array } from 'fast-check'
import { z } from 'zod'
import { type Clock, createStreamPair, ManualClock, silentLogger, systemClock, systemRandom } from '#base'
import {
  attachmentOfBytes,
  type Command,
  CommandRegistry,
  defineCommand,
  Dispatcher,
  Penalties,
  PenaltyRecords,
  RateLimits,
  readAll,
} from '#protocol'
import { PROTOCOLS } from '#wire'
import { JsonPeer } from '../../../test/support/json-peer.ts'
import { startLoneNode } from '../../../test/support/lone-node.ts'
import {
  JSON_ADMISSION_MS_MAX,
  JSON_FAULTS_MAX,
  JSON_IDLE_MS_MAX,
  JSON_MESSAGE_BYTES_MAX,
  JSON_MESSAGE_MS_MAX,
  JSON_REQUESTS_MAX,
} from '../limits.ts'
import { decodeJsonRequest } from './messages.ts'
import { type JsonDeps, serveJson } from './serve-json.ts'

const any = { cost: 1, rate: { perSecond: 1000, burst: 1000 }, deadlineMs: 60_000, priority: 'normal' } as const
const anything = z.record(z.string(), z.unknown())

/** Commands that do what a test of the transport wants. */
const PLAIN: readonly Command[] = [
  defineCommand({
    ...any,
    type: 64,
    name: 'ECHO',
    right: 'guest',
    attachmentBytesMax: 1024 * 1024,
    request: anything,
    response: anything,
    event: anything,
    handle: async (body, context) => {
      await context.emit({ right: context.caller.right })
      const { attachment, signal } = context
      if (attachment === undefined) return { body }
      return { body, attachment: attachmentOfBytes(await readAll(attachment, { maxBytes: 1024, signal })) }
    },
  }),
  defineCommand({
    ...any,
    type: 65,
    name: 'HANG',
    right: 'member',
    request: anything,
    response: anything,
    handle: (_body, { signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  }),
  defineCommand({
    ...any,
    type: 66,
    name: 'LARGE',
    right: 'member',
    request: z.object({ bytes: z.int() }),
    response: anything,
    handle: async ({ bytes }) => ({ body: {}, attachment: attachmentOfBytes(new Uint8Array(bytes)) }),
  }),
]

type Bench = {
  readonly peer: JsonPeer
  readonly served: Promise<void>
  readonly clock: ManualClock
  readonly dispatcher: Dispatcher
  readonly blamed: string[]
}

function dispatcherOf(clock: Clock, commands: readonly Command[]): Dispatcher {
  const registry = new CommandRegistry()
  for (const command of commands) registry.register(command, { isPlugin: command.type >= 64 })
  const audit = { record: () => undefined }
  const store = { load: () => [], save: () => undefined, remove: () => undefined }
  const records = new PenaltyRecords({ clock, store })
  const penalties = new Penalties({ clock, records, audit })
  return new Dispatcher({ clock, log: silentLogger, audit, registry, limiter: new RateLimits({ clock }), penalties })
}

function serve(t: TestContext, change: Partial<JsonDeps> & { readonly commands?: readonly Command[] } = {}): Bench {
  const { commands = PLAIN, ...rest } = change
  const clock = new ManualClock()
  const dispatcher = dispatcherOf(rest.clock ?? clock, commands)
  const blamed: string[] = []
  const [here, there] = createStreamPair(PROTOCOLS.json, { a: 'peer', b: 'node' })
  const served = serveJson(there, {
    clock,
    random: systemRandom,
    log: silentLogger,
    dispatcher,
    self: 'node',
    rightOf: () => 'member',
    misbehaved: (peer, what) => void blamed.push(`${peer} ${what}`),
    ...rest,
  })
  t.after(() => {
    here.abort(new Error('the test is over'))
    return served
  })
  return { peer: new JsonPeer(here), served, clock, dispatcher, blamed }
}

test('a request is answered under its own id, with events before it, and bytes both ways', async t => {
  const { peer } = serve(t)
  const params = { text: 'ä', bytes: { '/': { bytes: 'AAEC/w' } }, list: [1, [2]], '/': 'no bytes' }
  const { answer, events } = await peer.ask({ id: 'a', command: 'ECHO', version: '1.0', params, attachment: 'AQID' })
  assert.deepEqual(answer, { id: 'a', status: 'ok', result: params, attachment: 'AQID' })
  assert.deepEqual(events, [{ id: 'a', status: 'event', event: { right: 'member' } }])
})

test('what cannot be used is answered with what is wrong, and the stream goes on', async t => {
  const { peer, blamed } = serve(t)
  for (const [text, id, code] of [
    ['{"id":"a"', null, 'JSON_MALFORMED'],
    ['[1]', null, 'JSON_MALFORMED'],
    ['', null, 'JSON_MALFORMED'],
    [Uint8Array.of(0x22, 0xff, 0x22), null, 'JSON_MALFORMED'],
    ['{"id":"a","command":"echo"}', 'a', 'JSON_MALFORMED'],
    ['{"command":"ECHO"}', null, 'JSON_MALFORMED'],
    [`{"id":"${'a'.repeat(65)}","command":"ECHO"}`, null, 'JSON_MALFORMED'],
    ['{"id":"a","command":"ECHO","params":{"x":{"/":{"bytes":"AAA*"}}}}', 'a', 'JSON_MALFORMED'],
    ['{"id":"a","command":"ECHO","attachment":"A"}', 'a', 'JSON_MALFORMED'],
    ['{"id":"a","command":"ECHO","version":"2.0"}', 'a', 'JSON_VERSION'],
    [`{"id":"a","command":"ECHO","params":{"x":${'['.repeat(40)}${']'.repeat(40)}}}`, null, 'JSON_SHAPE'],
    [`[${'0,'.repeat(2 ** 17)}0]`, null, 'JSON_SHAPE'],
    ['{"id":"a","command":"NOTHING"}', 'a', 'PROTOCOL_UNKNOWN_TYPE'],
    ['{"id":"a","command":"LARGE","params":{"bytes":"x"}}', 'a', 'PROTOCOL_BAD_REQUEST'],
  ] as const) {
    peer.sendText(text)
    const answer = await peer.next()
    assert.deepEqual([answer?.id, answer?.status, answer?.error?.code], [id, 'error', code], String(text).slice(0, 60))
  }
  assert.equal((await peer.ask({ id: 'b', command: 'ECHO' })).answer.status, 'ok')
  assert.equal(blamed.length, 11)
})

test('one message too many that is of no use ends the stream, a second each is forgiven', async t => {
  const { peer, clock, served } = serve(t)
  for (let i = 0; i < JSON_FAULTS_MAX; i++) assert.equal(await peer.codeOf({}), 'JSON_MALFORMED')
  clock.advance(2000)
  for (let i = 0; i < 3; i++) assert.equal(await peer.codeOf({}), 'JSON_MALFORMED')
  assert.equal(await peer.next(), undefined)
  await peer.stream.close()
  await served
})

test('a message that announces too much is refused before it comes, and ends the stream', async t => {
  const { peer, served } = serve(t)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(JSON_MESSAGE_BYTES_MAX + 1)
  peer.stream.send(new Uint8Array(length))
  assert.equal((await peer.next())?.error?.code, 'JSON_LENGTH')
  assert.equal(await peer.next(), undefined)
  await peer.stream.close()
  await served
})

test('an answer that no message holds is an error, the largest that fits is not', async t => {
  const { peer } = serve(t)
  const large = (bytes: number) => peer.ask({ id: 'a', command: 'LARGE', params: { bytes } })
  assert.equal((await large(4 * 1024 * 1024)).answer.error?.code, 'JSON_ANSWER_SIZE')
  const { answer } = await large(1024 * 1024)
  assert.equal(Buffer.from(answer.attachment ?? '', 'base64').byteLength, 1024 * 1024)
})

test('requests of one stream are bounded, have ids of their own, and can be cancelled', async t => {
  const { peer, dispatcher } = serve(t)
  for (let i = 0; i < JSON_REQUESTS_MAX; i++) peer.send({ id: `${i}`, command: 'HANG' })
  assert.equal(await peer.codeOf({ id: '0', command: 'HANG' }), 'JSON_ID_IN_USE')
  const busy = (await peer.ask({ id: 'more', command: 'ECHO' })).answer.error
  assert.deepEqual([busy?.code, busy?.retry_after_ms], ['JSON_BUSY', 1000])
  peer.send({ command: 'CANCEL', params: { id: '3' } })
  const cancelled = await peer.next()
  assert.deepEqual([cancelled?.id, cancelled?.error?.code], ['3', 'PROTOCOL_CANCELLED'])
  const { answer } = await peer.ask({ id: 'c', command: 'CANCEL', params: { id: 'unknown' } })
  assert.deepEqual(answer.result, { cancelled: false })
  assert.equal((await peer.ask({ id: 'now', command: 'ECHO' })).answer.status, 'ok')
  assert.equal(dispatcher.counts().open, JSON_REQUESTS_MAX - 1)
})

test('a stream that breaks takes its requests along; one that only ends its direction gets its answers', async t => {
  const broken = serve(t)
  broken.peer.send({ id: 'a', command: 'HANG' })
  await broken.peer.ask({ id: 'b', command: 'ECHO' })
  assert.equal(broken.dispatcher.counts().open, 1)
  broken.peer.stream.abort(new Error('gone'))
  await broken.served
  assert.equal(broken.dispatcher.counts().open, 0)

  const { peer, served, dispatcher } = serve(t)
  peer.send({ id: 'a', command: 'HANG', deadline_ms: 50 })
  peer.send({ id: 'b', command: 'ECHO' })
  await peer.stream.close()
  assert.equal((await peer.next())?.status, 'event')
  assert.equal((await peer.next())?.id, 'b')
  dispatcher.callerGone('peer')
  assert.equal((await peer.next())?.error?.code, 'PROTOCOL_CANCELLED')
  assert.equal(await peer.next(), undefined)
  await served
})

test('a length that never fills, a silent peer and an open request are told apart', async t => {
  const slow = serve(t)
  await slow.peer.ask({ id: 'a', command: 'ECHO' })
  for (let ms = 0; ms < JSON_MESSAGE_MS_MAX; ms += 10_000) {
    slow.peer.stream.send(Uint8Array.of(0))
    await new Promise(resolve => setImmediate(resolve))
    slow.clock.advance(10_000)
  }
  assert.equal((await slow.peer.next())?.error?.code, 'JSON_SLOW')
  await slow.served

  const silent = serve(t)
  silent.clock.advance(JSON_IDLE_MS_MAX)
  await silent.served

  const working = serve(t)
  working.peer.send({ id: 'a', command: 'HANG', deadline_ms: 10 * JSON_IDLE_MS_MAX })
  await working.peer.ask({ id: 'b', command: 'ECHO' })
  working.clock.advance(JSON_IDLE_MS_MAX - 1)
  assert.equal((await working.peer.ask({ id: 'c', command: 'ECHO' })).answer.status, 'ok')
  assert.equal(working.dispatcher.counts().open, 1)
})

const secret = new Uint8Array(randomBytes(32))

/** The proof as the protocol's page has it, computed apart. */
function proofOf(role: string, nonces: readonly [peer: string, node: string], key: Uint8Array = secret): string {
  const hmac = createHmac('sha256', key)
  const parts = ['koinon-swarm/1', role, 'peer', 'node', ...nonces.map(nonce => Buffer.from(nonce, 'hex'))]
  for (const part of parts) {
    const bytes = Buffer.from(part)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.byteLength)
    hmac.update(length).update(bytes)
  }
  return hmac.digest('hex')
}

test('in a swarm with a secret nothing is answered before the proof, and both sides prove', async t => {
  const { peer, clock } = serve(t, { secret })
  assert.equal(await peer.codeOf({ id: 'a', command: 'ECHO' }), 'JSON_NOT_ADMITTED')
  const { answer: hello } = await peer.ask({ command: 'HELLO' })
  assert.equal(hello.id, null)
  const nodeNonce = String(hello.result?.['nonce'])
  assert.deepEqual([hello.result?.['secret'], nodeNonce.length], [true, 64])
  const nonce = randomBytes(32).toString('hex')
  const { answer } = await peer.ask({
    id: 'b',
    command: 'AUTH',
    params: { mac: proofOf('dialler', [nonce, nodeNonce]), nonce },
  })
  assert.deepEqual(answer.result, { mac: proofOf('listener', [nonce, nodeNonce]) })
  assert.equal((await peer.ask({ id: 'c', command: 'ECHO' })).answer.status, 'ok')
  clock.advance(JSON_ADMISSION_MS_MAX)
  assert.equal((await peer.ask({ id: 'd', command: 'ECHO' })).answer.status, 'ok')
})

test('a wrong, reused or late proof ends the stream', async t => {
  const nonce = '11'.repeat(32)
  const begin = async () => {
    const bench = serve(t, { secret })
    const { answer } = await bench.peer.ask({ command: 'HELLO' })
    return { ...bench, nodeNonce: String(answer.result?.['nonce']) }
  }
  const wrong = await begin()
  const mac = proofOf('dialler', [nonce, wrong.nodeNonce], randomBytes(32))
  assert.equal(await wrong.peer.codeOf({ command: 'AUTH', params: { mac, nonce } }), 'JSON_AUTH_FAILED')
  assert.equal(await wrong.peer.next(), undefined)
  assert.deepEqual(wrong.blamed, ['peer authentication'])

  const first = await begin()
  const second = await begin()
  const stolen = proofOf('dialler', [nonce, first.nodeNonce])
  assert.equal(await second.peer.codeOf({ command: 'AUTH', params: { mac: stolen, nonce } }), 'JSON_AUTH_FAILED')

  const mirrored = await begin()
  const listener = proofOf('listener', [nonce, mirrored.nodeNonce])
  assert.equal(await mirrored.peer.codeOf({ command: 'AUTH', params: { mac: listener, nonce } }), 'JSON_AUTH_FAILED')

  const late = await begin()
  late.clock.advance(JSON_ADMISSION_MS_MAX)
  await late.served
  assert.equal((await late.peer.next())?.error?.code, 'JSON_SLOW')

  const long = await begin()
  long.peer.send({ id: 'a', command: 'ECHO', params: { text: 'x'.repeat(5000) } })
  assert.equal((await long.peer.next())?.error?.code, 'JSON_LENGTH')
})

test('an open swarm takes peers as they come, and a proof of a secret that it has not is refused', async t => {
  const { peer } = serve(t)
  const { answer } = await peer.ask({ id: 'h', command: 'HELLO' })
  assert.deepEqual([answer.id, answer.result?.['secret'], answer.result?.['peer']], ['h', false, 'node'])
  const params = { mac: '00'.repeat(32), nonce: '00'.repeat(32) }
  assert.equal(await peer.codeOf({ command: 'AUTH', params }), 'JSON_AUTH_FAILED')
})

test('no bytes make the reader of messages throw, and any text survives it', () => {
  check(property(uint8Array({ maxLength: 200 }), bytes => void decodeJsonRequest(bytes)))
  check(
    property(string({ unit: 'binary' }), text => {
      const message = JSON.stringify({ id: 'a', command: 'ECHO', params: { text: text.toWellFormed() } })
      const request = decodeJsonRequest(new TextEncoder().encode(message))
      assert.ok('params' in request)
      assert.deepEqual(request.params, { text: text.toWellFormed() })
    }),
  )
})

test('a JSON-only peer lists capabilities, fetches and checks a piece, and runs a task', async t => {
  const file = fileURLToPath(new URL('../../../models/storyteller-2m-q8_0.gguf', import.meta.url))
  const node = await startLoneNode(t, { file, layers: { first: 0, last: 8 } })
  const { peer } = serve(t, { commands: node.commands, clock: systemClock })
  const result = async (command: string, params: object = {}) => (await peer.ask({ id: 'x', command, params })).answer
  const capabilities = await result('GET_CAPABILITIES')
  assert.equal(capabilities.result?.['peer'], node.services.self)
  assert.deepEqual((await result('FIND_NODES')).result, { nodes: [] })

  const files = (await result('LIST_FILES')).result?.['files'] as { file: string; piece_count: number }[]
  const root = String(files[0]?.file)
  const piece = await result('REQUEST_PIECE', { file: root, piece: 0 })
  const bytes = Buffer.from(piece.attachment ?? '', 'base64')
  assert.equal(bytes.byteLength, 1024 * 1024)
  const sha256 = (...parts: readonly Uint8Array[]): Buffer => {
    const hash = createHash('sha256')
    for (const part of parts) hash.update(part)
    return hash.digest()
  }
  let level = Array.from({ length: 64 }, (_, i) => sha256(bytes.subarray(i * 16_384, (i + 1) * 16_384)))
  while (level.length > 1) {
    level = Array.from({ length: level.length / 2 }, (_, i) => sha256(level[2 * i] ?? bytes, level[2 * i + 1] ?? bytes))
  }
  let hash = level[0] ?? bytes
  const proof = (piece.result ?? {})['proof'] as string[]
  for (const sibling of proof) hash = sha256(hash, Buffer.from(sibling, 'hex'))
  assert.equal(hash.toString('hex'), root)

  const task = { kind: 'completion', prompt: 'Once upon a time', max_tokens: 8, temperature: 0 }
  const { answer, events } = await peer.ask({ id: 't', command: 'EXECUTE_TASK', params: task })
  assert.equal(answer.status, 'ok', answer.error?.message)
  assert.equal(events.map(({ event }) => event?.['text']).join(''), answer.result?.['text'])
  assert.ok(String(answer.result?.['text']).length > 0)
  // A member may not do what takes trust.
  const load = await result('LOAD_SHARD', { model: node.model.id, layers: { first: 0, last: 1 } })
  assert.equal(load.error?.code, 'PROTOCOL_NOT_AUTHORISED')
})
