/** The protocols of the systems before, asked by peers that know nothing else. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { type Clock, createStreamPair, ManualClock, silentLogger, systemClock, systemRandom } from '#base'
import {
  type Command,
  CommandRegistry,
  defineCommand,
  Dispatcher,
  Penalties,
  PenaltyRecords,
  RateLimits,
} from '#protocol'
import { PROTOCOLS } from '#wire'
import { z } from 'zod'
import type { CommandServices } from '../commands/services.ts'
import { getFileMetadata } from '../commands/get-file-metadata.ts'
import { listFiles } from '../commands/list-files.ts'
import { requestPiece } from '../commands/request-piece.ts'
import { OLDER_REQUEST_BYTES_MAX, OLDER_REQUEST_MS_MAX } from '../limits.ts'
import { type LocalModel, openModel } from '../model-library.ts'
import { SharedFiles } from '../shared-files.ts'
import { createOlderServer, type OlderDeps, type OlderHandler } from './older-exchange.ts'
import { createOlderMetrics } from './older-metrics.ts'
import { answerOlderTorrent } from './older-torrent.ts'

const STORYTELLER = fileURLToPath(new URL('../../../models/storyteller-2m-q8_0.gguf', import.meta.url))
const bytes = await readFile(STORYTELLER)
const signal = new AbortController().signal
const model: LocalModel = await openModel(
  { modelIds: { find: () => undefined, remember: () => undefined }, onProgress: () => undefined },
  STORYTELLER,
  { signal },
)

/** The services that these commands use, and nothing else. */
function fileCommands(over: Partial<LocalModel> = {}): readonly Command[] {
  const files = new SharedFiles({ model: { ...model, ...over }, stopping: signal }, { isShared: true })
  const services = { files } as unknown as CommandServices
  return [listFiles(services), getFileMetadata(services), requestPiece(services)]
}

const capabilities = defineCommand({
  type: 32,
  name: 'GET_CAPABILITIES',
  request: z.object({}),
  response: z.object({ peer: z.string(), models: z.array(z.object({ name: z.string() })) }),
  cost: 1,
  rate: { perSecond: 5, burst: 20 },
  right: 'guest',
  deadlineMs: 10_000,
  priority: 'normal',
  handle: async () => ({ body: { peer: 'node', models: [{ name: 'Storyteller' }] } }),
})

type Bench = {
  /** Asks on a stream of its own; undefined: the stream was reset. */
  readonly ask: (question: string | Uint8Array) => Promise<unknown>
  readonly open: () => ReturnType<typeof createStreamPair>[0]
  readonly blamed: string[]
  readonly dispatcher: Dispatcher
}

function bench(
  handlerOf: (dispatcher: Dispatcher) => OlderHandler,
  change: Partial<OlderDeps> & { readonly commands?: readonly Command[] } = {},
): Bench {
  const { commands = fileCommands(), clock = systemClock, ...rest } = change
  const dispatcher = dispatcherOf(clock, commands)
  const blamed: string[] = []
  const deps: OlderDeps = {
    clock,
    random: systemRandom,
    log: silentLogger,
    dispatcher,
    rightOf: () => 'member',
    misbehaved: (peer, what) => void blamed.push(`${peer} ${what}`),
    ...rest,
  }
  const serve = createOlderServer(deps, handlerOf(dispatcher))
  const open = (): ReturnType<typeof createStreamPair>[0] => {
    const [here, there] = createStreamPair(PROTOCOLS.olderTorrent, { a: 'peer', b: 'node' })
    void serve(there)
    return here
  }
  const ask = async (question: string | Uint8Array): Promise<unknown> => {
    const stream = open()
    try {
      if (question.length > 0) stream.send(Buffer.from(question))
      await stream.close()
      const parts: Uint8Array[] = []
      for await (const part of stream.received) parts.push(part)
      return JSON.parse(Buffer.concat(parts).toString('utf8'))
    } catch {
      return undefined // Reset.
    }
  }
  return { ask, open, blamed, dispatcher }
}

function dispatcherOf(clock: Clock, commands: readonly Command[]): Dispatcher {
  const registry = new CommandRegistry()
  for (const command of commands) registry.register(command)
  const audit = { record: () => undefined }
  const store = { load: () => [], save: () => undefined, remove: () => undefined }
  const penalties = new Penalties({ clock, records: new PenaltyRecords({ clock, store }), audit })
  return new Dispatcher({ clock, log: silentLogger, audit, registry, limiter: new RateLimits({ clock }), penalties })
}

type Metadata = {
  readonly info_hash: string
  readonly file_size: number
  readonly piece_size: number
  readonly pieces: string[]
}

test('a peer of the systems before lists files, reads one from its hashes and pieces, and has the file', async () => {
  const { ask, blamed } = bench(() => answerOlderTorrent)
  const list = (await ask('"ListFiles"')) as {
    FileList: { files: { info_hash: string; filename: string; size: number }[] }
  }
  const [file] = list.FileList.files
  assert.ok(file)
  assert.match(file.filename, /^[\w-]+\.gguf$/)
  assert.equal(file.size, bytes.byteLength)
  const answer = (await ask(JSON.stringify({ RequestMetadata: { info_hash: file.info_hash } }))) as {
    Metadata: { metadata: Metadata }
  }
  const { metadata } = answer.Metadata
  assert.equal(metadata.file_size, bytes.byteLength)
  assert.equal(metadata.piece_size, 65_536)
  assert.equal(metadata.pieces.length, Math.ceil(bytes.byteLength / 65_536))
  for (const piece_index of [0, 15, 16, metadata.pieces.length - 1]) {
    const got = (await ask(JSON.stringify({ RequestPiece: { info_hash: file.info_hash, piece_index } }))) as {
      PieceData: { info_hash: string; piece_index: number; data: number[] }
    }
    const data = Buffer.from(got.PieceData.data)
    assert.deepEqual(data, bytes.subarray(piece_index * 65_536, (piece_index + 1) * 65_536))
    assert.equal(createHash('sha256').update(data).digest('hex'), metadata.pieces[piece_index])
    assert.equal(got.PieceData.piece_index, piece_index)
  }
  assert.deepEqual(blamed, [])
})

test('what is not here is answered as these systems do: with an empty list', async () => {
  const { ask } = bench(() => answerOlderTorrent)
  const list = (await ask('{"ListFiles":null}')) as { FileList: { files: { info_hash: string }[] } }
  const info_hash = list.FileList.files[0]?.info_hash
  for (const question of [
    { RequestMetadata: { info_hash: '0'.repeat(64) } },
    { RequestPiece: { info_hash: '0'.repeat(64), piece_index: 0 } },
    { RequestPiece: { info_hash, piece_index: 31 } },
    { RequestPiece: { info_hash, piece_index: 1_000_000 } },
  ]) {
    assert.deepEqual(await ask(JSON.stringify(question)), { FileList: { files: [] } })
  }
})

test('no name of a model leads such a peer out of its folder', async () => {
  const { ask } = bench(() => answerOlderTorrent, { commands: fileCommands({ name: '../../.bashrc\u0000 x' }) })
  const list = (await ask('"ListFiles"')) as { FileList: { files: { filename: string }[] } }
  assert.equal(list.FileList.files[0]?.filename, '_bashrc_x.gguf')
})

test('what is no question of the protocol is reset and counts as malformed', async () => {
  const { ask, blamed } = bench(() => answerOlderTorrent)
  const wrong = ['', 'x', '"FileList"', '{"RequestPiece":{"info_hash":"../x","piece_index":0}}', '[['.repeat(400)]
  for (const question of [...wrong, ' '.repeat(OLDER_REQUEST_BYTES_MAX + 1), Uint8Array.of(0x22, 0xff, 0x22)]) {
    assert.equal(await ask(question), undefined)
  }
  assert.equal(blamed.length, wrong.length + 2)
  const json = fc.json().filter(text => text !== '"ListFiles"')
  await fc.assert(
    fc.asyncProperty(json, async text => assert.equal(await ask(text), undefined)),
    { numRuns: 50 },
  )
})

test('in a swarm with a secret a stranger gets nothing, and is not blamed', async () => {
  const { ask, blamed } = bench(() => answerOlderTorrent, { rightOf: () => undefined })
  assert.equal(await ask('"ListFiles"'), undefined)
  assert.deepEqual(blamed, [])
})

test('questions wait for their turn, so that asking for everything at once costs nobody their name', async () => {
  const clock = new ManualClock()
  const { ask, dispatcher } = bench(() => answerOlderTorrent, { clock })
  const list = (await ask('"ListFiles"')) as { FileList: { files: { info_hash: string }[] } }
  const info_hash = list.FileList.files[0]?.info_hash
  const question = (index: number): string =>
    index < 20 ? '"ListFiles"' : JSON.stringify({ RequestPiece: { info_hash, piece_index: index % 30 } })
  let left = 60
  const all = Array.from({ length: left }, (_, index) =>
    ask(question(index)).then(answer => {
      left--
      assert.ok(answer !== undefined)
    }),
  )
  while (left > 0) {
    // Turns come with the clock, which stands still while commands are open, and once everybody has had a turn: attachments
    // are read from files then, which takes time of the real clock.
    await new Promise(resolve => setImmediate(resolve))
    const { open, accepted } = dispatcher.counts()
    if (open === 0 && accepted < 1 + all.length) clock.advance(250)
  }
  await Promise.all(all)
  assert.deepEqual(dispatcher.counts().refused, {})
})

test('a peer that never ends its question is let go', async () => {
  const clock = new ManualClock()
  const { open } = bench(() => answerOlderTorrent, { clock })
  const stream = open()
  stream.send(Buffer.from('"Li'))
  const read = assert.rejects(async () => {
    for await (const _ of stream.received);
  })
  await new Promise(resolve => setImmediate(resolve))
  clock.advance(OLDER_REQUEST_MS_MAX)
  await read
})

test('monitors get counters; their questions are held to the same rates', async () => {
  const peers = [
    { rttMs: 12.5, pingFailures: 1, traffic: { bytesIn: 100, bytesOut: 7 } },
    { pingFailures: 0, traffic: { bytesIn: 1, bytesOut: 2 } },
  ]
  const { ask, blamed } = bench(
    dispatcher => createOlderMetrics({ counts: () => dispatcher.counts(), peers: () => peers }),
    {
      commands: [capabilities],
    },
  )
  const first = (await ask('')) as { success: boolean; metrics: Record<string, unknown> }
  assert.equal(first.success, true)
  const { messages_sent: _, ...metrics } = first.metrics
  assert.deepEqual(metrics, {
    peer_id: 'node',
    namespace: 'Storyteller',
    messages_received: 1,
    latency_samples: [12.5],
    bytes_sent: 9,
    bytes_received: 101,
    message_errors: 0,
    timeout_errors: 1,
  })
  assert.ok(await ask('{}'))
  assert.equal(await ask('{"all":true}'), undefined)
  assert.deepEqual(blamed, ['peer malformed'])
})
