/** The local socket's routes about models' weights. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ApiError, startLocalApi } from '#api'
import { abortable, ManualClock, seededRandom, silentLogger } from '#base'
import type { OpenAiError, PullRequest, TransferEvent, TransferProgress, WeightsService } from '#wire'
import { READER_STALL_MS, TRANSFER_LINE_MS } from '../src/api/limits.ts'
import { createHeldModels, heldModel } from './support/held-models.ts'
import { ask, open, socketPlace } from './support/local-requests.ts'
import { createScriptedNode } from './support/scripted-node.ts'

const MODEL = heldModel({ heldLayers: [{ first: 0, last: 2 }], hasEdges: false })

type Setup = { readonly socket: string; readonly directory: string; readonly clock: ManualClock }

async function setUp(t: TestContext, weights: WeightsService): Promise<Setup> {
  const { directory, socket } = await socketPlace(t)
  const clock = new ManualClock()
  const api = await startLocalApi(
    { node: { ...createScriptedNode(), weights }, clock, random: seededRandom(1), log: silentLogger },
    { socket, onStop: () => undefined },
  )
  t.after(() => api.stop())
  return { socket, directory, clock }
}

async function follow(socket: string, path: string, body: unknown): Promise<readonly TransferEvent[]> {
  const { status, text } = await ask(socket, path, body)
  assert.equal(status, 200)
  assert.ok(text.endsWith('\n'))
  return text
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as TransferEvent)
}

test('what is here is told, changed and forgotten', async t => {
  const weights = createHeldModels({ models: [MODEL] })
  const { socket } = await setUp(t, weights)
  assert.deepEqual(JSON.parse((await ask(socket, '/local/models/held')).text), weights.list())
  assert.deepEqual(JSON.parse((await ask(socket, '/local/models/details?model=Qwen3%208B')).text), MODEL)
  const torrent = JSON.parse((await ask(socket, '/local/models/torrent?model=77ab01cd')).text) as { torrent: string }
  assert.deepEqual(Buffer.from(torrent.torrent, 'base64'), weights.torrent('77ab01cd'))
  const shared = await ask(socket, '/local/share', { model: '77ab01cd', isShared: false })
  assert.equal((JSON.parse(shared.text) as typeof MODEL).isShared, false)
  const voted = await ask(socket, '/local/models/vote', { model: '77ab01cd', isTrusted: true, comment: 'good' })
  assert.deepEqual((JSON.parse(voted.text) as typeof MODEL).votes, weights.details('77ab01cd').votes)
  assert.equal(weights.details('77ab01cd').votes.length, 1)
  const removed = await ask(socket, '/local/models/remove', { model: '77ab01cd' })
  assert.deepEqual(JSON.parse(removed.text), { freedBytes: MODEL.heldBytes })
  const unknown = await ask(socket, '/local/models/details?model=77ab01cd')
  assert.equal(unknown.status, 404)
  assert.equal((JSON.parse(unknown.text) as OpenAiError).error.code, 'NODE_MODEL_UNKNOWN')
})

test('a pull is told line by line, and how it ended last', async t => {
  const weights = createHeldModels({ models: [MODEL] })
  const { socket } = await setUp(t, weights)
  const request: PullRequest = {
    model: '77ab01cd',
    layers: { first: 2, last: 6 },
    edges: true,
    from: ['/ip4/10.0.0.1/tcp/1', 'bt:10.0.0.2:6881'],
    sources: ['mirror', 'https://example.org/m.gguf'],
    torrent: 'ZDE=',
  }
  const events = await follow(socket, '/local/pull', request)
  assert.deepEqual(weights.asked, [request])
  const phases = events.map(event => (event.kind === 'progress' ? event.progress.phase : event.kind))
  assert.deepEqual(phases, ['manifest', 'pulling', 'pulling', 'pulled'])
  const last = events.at(-1)
  assert.ok(last?.kind === 'pulled')
  assert.deepEqual([last.end.wantedBytes, last.end.receivedBytes, last.end.hadBytes], [4_500_000, 4_500_000, 0])
})

test('adding and verifying are told in the same way', async t => {
  const weights = createHeldModels({ models: [MODEL] })
  const { socket, directory } = await setUp(t, weights)
  const file = join(directory, 'm.gguf')
  await writeFile(file, 'some weights')
  const benchmarks = [{ name: 'MMLU', score: 56.7, unit: '%' }]
  const request = { file, name: 'Mine', licence: 'MIT OR (Apache-2.0)', benchmarks, previous: MODEL.id }
  const added = (await follow(socket, '/local/models/add', request)).at(-1)
  assert.ok(added?.kind === 'added')
  assert.deepEqual(added.model, weights.details('Mine'))
  assert.deepEqual(weights.asked, [request])
  weights.badPieces.push(3)
  const verified = (await follow(socket, '/local/models/verify', { model: 'Mine' })).at(-1)
  assert.ok(verified?.kind === 'verified')
  assert.deepEqual(verified.badPieces, [3])
})

test('what fails ends with a line that says why', async t => {
  const { socket } = await setUp(t, createHeldModels({ models: [] }))
  for (const [path, body] of [
    ['/local/pull', { model: 'nothing' }],
    ['/local/models/verify', { model: 'nothing' }],
  ] as const) {
    const events = await follow(socket, path, body)
    const message = 'no model is called "nothing" here'
    assert.deepEqual(events, [{ kind: 'error', code: 'NODE_MODEL_UNKNOWN', message }])
  }
})

test('a command line that goes away ends the transfer', async t => {
  const started = Promise.withResolvers<AbortSignal>()
  const ended = Promise.withResolvers<unknown>()
  const weights = createHeldModels({
    models: [MODEL],
    pace: async (step, signal) => {
      if (step < 2) return
      started.resolve(signal)
      await abortable(new Promise<never>(() => undefined), signal).catch(ended.resolve)
    },
  })
  const { socket } = await setUp(t, weights)
  const response = await open(socket, '/local/pull', { model: '77ab01cd' })
  await once(response, 'data')
  const signal = await started.promise
  assert.equal(signal.aborted, false)
  response.destroy()
  assert.ok((await ended.promise) instanceof ApiError)
})

const PROGRESS: TransferProgress = { phase: 'pulling', doneBytes: 0, totalBytes: 10, rate: 1, sources: 1, peers: 1 }

/** Weights whose pull reports as it is told to. */
function reporting(pull: WeightsService['pull']): WeightsService {
  return { ...createHeldModels({ models: [MODEL] }), pull }
}

test('of many reports at once the reader gets the first and the newest; of many in one moment the first', async t => {
  const end = await createHeldModels({ models: [MODEL] }).pull(
    { model: '77ab01cd' },
    { signal: new AbortController().signal, onProgress: () => undefined },
  )
  const setup: { clock?: ManualClock } = {}
  const weights = reporting(async (_request, { onProgress }) => {
    for (let doneBytes = 0; doneBytes < 5; doneBytes++) onProgress({ ...PROGRESS, doneBytes })
    setup.clock?.advance(TRANSFER_LINE_MS)
    onProgress({ ...PROGRESS, doneBytes: 5 })
    for (let i = 0; i < 10_000; i++) {
      onProgress({ ...PROGRESS, phase: i % 2 === 0 ? 'checking' : 'pulling', doneBytes: 6 })
    }
    return end
  })
  const { socket, clock } = await setUp(t, weights)
  setup.clock = clock
  const events = await follow(socket, '/local/pull', { model: '77ab01cd' })
  assert.deepEqual(events, [
    { kind: 'progress', progress: PROGRESS },
    { kind: 'progress', progress: { ...PROGRESS, doneBytes: 6 } },
    { kind: 'pulled', end },
  ])
})

test('a reader that stops reading ends the transfer, and nothing piles up for it', async t => {
  const ended = Promise.withResolvers<unknown>()
  const setup: { clock?: ManualClock } = {}
  const weights = reporting(async (_request, { onProgress, signal }) => {
    for (let i = 0; !signal.aborted; i++) {
      onProgress({ ...PROGRESS, phase: i % 2 === 0 ? 'checking' : 'pulling' })
      await new Promise(resolve => setImmediate(resolve))
      setup.clock?.advance(READER_STALL_MS / 10)
    }
    ended.resolve(signal.reason)
    throw signal.reason
  })
  const { socket, clock } = await setUp(t, weights)
  setup.clock = clock
  const response = await open(socket, '/local/pull', { model: '77ab01cd' })
  response.on('error', () => undefined)
  const reason = await ended.promise
  assert.ok(reason instanceof ApiError)
  assert.ok(['API_CLIENT_SLOW', 'API_CLIENT_GONE'].includes(reason.code), reason.code)
  response.destroy()
})

test('a request in the wrong form is refused before the node sees it', async t => {
  const weights = createHeldModels({ models: [MODEL] })
  const { socket } = await setUp(t, weights)
  const model = '77ab01cd'
  const wrong: readonly (readonly [string, unknown])[] = [
    ['/local/pull', {}],
    ['/local/pull', { model: '' }],
    ['/local/pull', { model: 'x'.repeat(5_000) }],
    ['/local/pull', { model, layers: { first: 4, last: 4 } }],
    ['/local/pull', { model, layers: { first: -1, last: 4 } }],
    ['/local/pull', { model, from: Array.from({ length: 65 }, () => '/ip4/10.0.0.1/tcp/1') }],
    ['/local/pull', { model, sources: [''] }],
    ['/local/pull', { model, torrent: 'not base64!' }],
    ['/local/pull', { model, surplus: 1 }],
    ['/local/models/add', { file: 'relative.gguf' }],
    ['/local/models/add', { file: '/m.gguf\0' }],
    ['/local/models/add', { file: '/m.gguf', licence: '<script>' }],
    ['/local/models/add', { file: '/m.gguf', previous: 'abc' }],
    ['/local/models/add', { file: '/m.gguf', benchmarks: [{ name: 'a', score: '1', unit: '' }] }],
    ['/local/models/verify', {}],
    ['/local/models/remove', { model: 7 }],
    ['/local/models/vote', { model, isTrusted: 'yes', comment: '' }],
    ['/local/models/vote', { model, isTrusted: true, comment: 'x'.repeat(501) }],
    ['/local/share', { model }],
  ]
  for (const [path, body] of wrong) {
    const { status, text } = await ask(socket, path, body)
    assert.equal(status, 400, `${path} ${JSON.stringify(body).slice(0, 80)}`)
    assert.equal((JSON.parse(text) as OpenAiError).error.code, 'API_REQUEST_INVALID')
  }
  assert.equal((await ask(socket, '/local/models/details')).status, 400)
  assert.deepEqual(weights.asked, [])
  assert.deepEqual(weights.details(model), MODEL)
})
