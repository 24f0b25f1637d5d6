/** Commands against a node with real engines and the built-in model: they do what their names say. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { fromHex, silentLogger, systemClock } from '#base'
import { createStageEngine } from '#engine'
import { isPieceOf, PIECE_BYTES } from '#formats'
import { GREEDY } from '#wire'
import { give } from '../../../test/support/command-bench.ts'
import { type LoneNode, startLoneNode } from '../../../test/support/lone-node.ts'

const fileOf = (name: string): string => fileURLToPath(new URL(`../../../models/${name}`, import.meta.url))
const FILE = fileOf('storyteller-2m-q8_0.gguf')
const OTHER_FILE = fileOf('storyteller-2m-f16.gguf')
const ALL = { first: 0, last: 8 }
const never = new AbortController().signal

/** What the API's own way gives: text and tokens. */
async function completed({ services, model }: LoneNode, text: string, tokensMax: number) {
  const request = { model: model.id, prompt: { kind: 'text', text }, sampling: GREEDY, tokensMax, stop: [] } as const
  const texts: string[] = []
  const tokens: number[] = []
  for await (const event of services.complete(request, { signal: never })) {
    if (event.kind === 'delta') {
      texts.push(event.text)
      tokens.push(...event.tokens.map(({ token }) => token))
    }
  }
  return { text: texts.join(''), tokens }
}

test('EXECUTE_TASK streams a generation, answers it whole, and a caller that leaves frees the stage', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: ALL })
  const expected = await completed(node, 'Once upon a time', 12)
  const task = { kind: 'completion', prompt: 'Once upon a time', max_tokens: 12, temperature: 0, logprobs: 1 }
  const { body, events } = await give(node.commands, 'EXECUTE_TASK', { body: task })
  assert.equal(body['text'], expected.text)
  assert.equal(body['model'], node.model.id)
  assert.equal(body['finish_reason'], 'length')
  assert.deepEqual(body['route'], [{ peer: node.services.self, layers: ALL }])
  assert.equal((body['usage'] as { completion_tokens: number }).completion_tokens, 12)
  assert.equal(events.map(event => event['text']).join(''), expected.text)
  const told = events.flatMap(event => event['tokens'] as { token: number; logprob: number; top: unknown[] }[])
  assert.deepEqual(
    told.map(({ token }) => token),
    expected.tokens,
  )
  assert.ok(told.every(({ logprob, top }) => logprob <= 0 && top.length === 1))

  const chat = { kind: 'chat', model: node.model.name, messages: [{ role: 'user', content: 'Hi' }], max_tokens: 3 }
  assert.match(String((await give(node.commands, 'EXECUTE_TASK', { body: chat })).body['text']), /./)

  const caller = new AbortController()
  const left = give(node.commands, 'EXECUTE_TASK', {
    body: { ...task, max_tokens: 400 },
    signal: caller.signal,
    onEvent: () => caller.abort(new Error('the caller has gone')),
  })
  await assert.rejects(left, { message: 'the caller has gone' })
  await assert.doesNotReject(give(node.commands, 'LOAD_SHARD', { body: { model: node.model.id, layers: ALL } }))
  assert.deepEqual(node.pipeline.entry.generations(), [])
})

test('INFERENCE_REQUEST answers text, tokens, seed, and the profiles of what computed', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: ALL })
  const expected = await completed(node, 'The cat', 6)
  const fields = { model: node.model.id, max_tokens: 6, temperature: 0 }
  const { body } = await give(node.commands, 'INFERENCE_REQUEST', { body: { ...fields, prompt: 'The cat' } })
  assert.equal(body['text'], expected.text)
  assert.deepEqual(body['tokens'], expected.tokens)
  assert.equal(body['model'], node.model.id)
  const profile = body['profile'] as { edge: string; stages: { profile: string }[] }
  assert.equal(profile.stages[0]?.profile, node.stage?.served()?.profile)
  assert.match(profile.edge, /./)
  // The same seed gives the same answer again, also from tokens.
  const again = { ...fields, temperature: 1, tokens: [1, 5, 9], seed: 7 }
  const [one, two] = await Promise.all([again, again].map(body => give(node.commands, 'INFERENCE_REQUEST', { body })))
  assert.deepEqual(one?.body['tokens'], two?.body['tokens'])
  assert.equal(one?.body['seed'], 7)
})

test('AUDIT_CHALLENGE proves what another engine computes, bit for bit, and nothing else', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: { first: 2, last: 6 } })
  const width = node.model.config.width
  const rows = new Uint8Array(Float32Array.from({ length: 5 * width }, (_, i) => Math.sin(i + 1)).buffer)
  const nonce = 'ab'.repeat(32)
  const base = { model: node.model.id, layers: { first: 3, last: 5 }, count: 5, nonce }
  const ask = async (change: object = {}) => {
    const { body, attachment } = await give(node.commands, 'AUDIT_CHALLENGE', {
      body: { ...base, ...change },
      attachment: rows,
    })
    return { digest: body['digest'], profile: body['profile'], layers: body['layers'], attachment }
  }
  const proof = await ask({ rows: true })

  const engine = createStageEngine({ clock: systemClock, log: silentLogger }, { threads: 1, device: 'cpu' })
  t.after(() => engine.stop())
  const computeHere = async (file: string): Promise<Uint8Array> => {
    await engine.load({ file, layers: base.layers, slots: 1, contextMax: 256 })
    const step = { slot: 0, layers: base.layers, position: 0, count: 5, outputs: 5, rows }
    return new Uint8Array(await engine.step(step))
  }
  const digestOf = (outputs: Uint8Array): string => {
    const layers = Buffer.alloc(8)
    layers.writeUInt32BE(3, 0)
    layers.writeUInt32BE(5, 4)
    const parts = ['koinon-audit/1', Buffer.from(nonce, 'hex'), Buffer.from(node.model.id, 'hex'), layers, outputs]
    const hash = createHash('sha256')
    for (const part of parts) hash.update(part)
    return hash.digest('hex')
  }
  const outputs = await computeHere(FILE)
  assert.deepEqual(proof.attachment, outputs)
  assert.equal(proof.digest, digestOf(outputs))
  assert.equal(proof.profile, node.stage?.served()?.profile)
  // No rows are sent where none were asked for; the nonce, the layers and the weights all count.
  const { digest, attachment } = await ask()
  assert.deepEqual([digest, attachment], [proof.digest, undefined])
  assert.notEqual((await ask({ nonce: 'cd'.repeat(32) })).digest, proof.digest)
  assert.notEqual((await ask({ layers: { first: 2, last: 4 } })).digest, proof.digest)
  assert.notEqual(digestOf(await computeHere(OTHER_FILE)), proof.digest)
  assert.deepEqual((await ask({ layers: undefined })).layers, { first: 2, last: 6 })

  await assert.rejects(ask({ layers: ALL }), { code: 'NODE_LAYERS_NOT_SERVED' })
  await assert.rejects(ask({ count: 6 }), { code: 'NODE_ROWS_INVALID' })
  await assert.rejects(ask({ count: 33 }), TypeError)
  await assert.rejects(ask({ model: 'another' }), { code: 'NODE_MODEL_UNKNOWN' })
  new Float32Array(rows.buffer)[3] = Number.NaN
  await assert.rejects(ask(), { code: 'ENGINE_NON_FINITE' })
})

test('LOAD_SHARD loads other layers, offers them, and computes with them', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: { first: 0, last: 3 } })
  const load = (body: object) =>
    give(node.commands, 'LOAD_SHARD', { body: { model: node.model.id, ...body }, peer: 'the owner' })
  await assert.rejects(completed(node, 'Once', 3), { code: 'NODE_NO_ROUTE' })
  const { body } = await load({ layers: ALL })
  const [stage] = body['stages'] as { layers: object; slots_free: number }[]
  assert.deepEqual([stage?.layers, stage?.slots_free], [ALL, 2])
  assert.ok(node.announced() >= 2, 'peers hear that the old layers are gone and the new ones are there')
  assert.equal(node.placement.text, 'layers 0-8, by LOAD_SHARD of the owner')
  assert.equal((await completed(node, 'Once', 3)).tokens.length, 3)

  await assert.rejects(load({ layers: { first: 4, last: 9 } }), { code: 'NODE_LAYERS_UNKNOWN' })
  await assert.rejects(load({ model: 'another', layers: ALL }), { code: 'NODE_MODEL_UNKNOWN' })
  // Those that come together are loaded one after another: the last one stays.
  await Promise.all([1, 2, 3].map(last => load({ layers: { first: 0, last } })))
  assert.deepEqual(node.stage?.served()?.layers, { first: 0, last: 3 })
})

test('LOAD_SHARD leaves running generations alone unless it is forced, and then ends them with a reason', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: ALL })
  const load = (force: boolean) =>
    give(node.commands, 'LOAD_SHARD', { body: { model: node.model.id, layers: { first: 0, last: 4 }, force } })
  const request = {
    model: node.model.id,
    prompt: { kind: 'text', text: 'Once' },
    sampling: GREEDY,
    tokensMax: 400,
    stop: [],
    ignoreEnd: true,
  } as const
  const events = node.services.complete(request, { signal: never })
  for (let i = 0; i < 3; i++) await events.next()
  await assert.rejects(load(false), { code: 'NODE_STAGE_IN_USE' })
  await events.next()
  const rest = async (): Promise<void> => {
    while ((await events.next()).done !== true);
  }
  const ended = assert.rejects(rest(), (error: { code: string; message: string }) => {
    assert.equal(error.code, 'STAGE_STOPPED')
    assert.match(error.message, /layers 0-4 are being loaded here instead/)
    return true
  })
  await load(true)
  await ended
  assert.deepEqual(node.stage?.served()?.layers, { first: 0, last: 4 })
  assert.deepEqual(node.pipeline.stages.generations(), [])
  assert.equal(node.pipeline.stages.slotsFree(), 2)
})

test('LOAD_SHARD refuses what does not fit, and a node without a stage engine', async t => {
  const small = await startLoneNode(t, { file: FILE, layers: { first: 0, last: 1 }, memoryBytes: 2_000_000 })
  const load = (node: LoneNode) => give(node.commands, 'LOAD_SHARD', { body: { model: node.model.id, layers: ALL } })
  await assert.rejects(load(small), { code: 'NODE_DOES_NOT_FIT' })
  assert.deepEqual(small.stage?.served()?.layers, { first: 0, last: 1 })
  const none = await startLoneNode(t, { file: FILE, layers: undefined })
  await assert.rejects(load(none), { code: 'NODE_STAGE_NONE' })
  const challenge = { model: none.model.id, count: 1, nonce: '00'.repeat(32) }
  await assert.rejects(give(none.commands, 'AUDIT_CHALLENGE', { body: challenge }), { code: 'NODE_STAGE_NONE' })
})

test('GET_CAPABILITIES says what the node is, serves and answers', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: { first: 2, last: 5 } })
  const { body } = await give(node.commands, 'GET_CAPABILITIES', { body: {} })
  assert.equal(body['peer'], node.services.self)
  assert.deepEqual(body['protocol_versions'], [1])
  assert.equal(body['slots_free'], 2)
  const commands = body['commands'] as { name: string; type: number; right: string }[]
  assert.deepEqual(
    commands.map(({ type }) => type),
    [32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42],
  )
  assert.deepEqual(commands[8], { name: 'LOAD_SHARD', type: 40, right: 'trusted' })
  const [model] = body['models'] as { id: string; layer_count: number; stages: { layers: object; context: number }[] }[]
  assert.deepEqual([model?.id, model?.layer_count], [node.model.id, 8])
  assert.deepEqual([model?.stages[0]?.layers, model?.stages[0]?.context], [{ first: 2, last: 5 }, 512])
})

test('a file can be fetched piece by piece and checked against its root alone', async t => {
  const node = await startLoneNode(t, { file: FILE, layers: undefined })
  const { files } = (await give(node.commands, 'LIST_FILES', { body: {} })).body as {
    files: { file: string; size: number; piece_count: number; model: string; name: string }[]
  }
  const [file] = files
  assert.ok(file !== undefined)
  const bytes = await readFile(FILE)
  assert.deepEqual([file.size, file.model, file.name], [bytes.byteLength, node.model.id, node.model.name])
  assert.equal(file.piece_count, Math.ceil(bytes.byteLength / PIECE_BYTES))
  const metadata = await give(node.commands, 'GET_FILE_METADATA', { body: { file: file.file } })
  assert.equal(metadata.body['architecture'], 'llama')
  assert.equal(metadata.attachment?.byteLength, 32 * file.piece_count)
  const part = { file: file.file, first_piece: 1, hash_count: 1 }
  const second = await give(node.commands, 'GET_FILE_METADATA', { body: part })
  assert.deepEqual(second.attachment, metadata.attachment?.slice(32, 64))
  const digests = await give(node.commands, 'GET_FILE_METADATA', { body: { ...part, digest_bytes: 65_536 } })
  const digest = createHash('sha256').update(bytes.subarray(65_536, 131_072)).digest()
  assert.deepEqual(Buffer.from(digests.attachment ?? []), digest)

  const root = fromHex(file.file)
  const fetched: Uint8Array[] = []
  for (let piece = 0; piece < file.piece_count; piece++) {
    const { body, attachment } = await give(node.commands, 'REQUEST_PIECE', { body: { file: file.file, piece } })
    assert.ok(attachment !== undefined)
    const proof = (body['proof'] as string[]).map(fromHex)
    assert.ok(isPieceOf({ root, size: file.size }, { piece, bytes: attachment, proof }))
    fetched.push(attachment)
  }
  assert.ok(Buffer.concat(fetched).equals(bytes))
  const piece = (body: object) => give(node.commands, 'REQUEST_PIECE', { body })
  await assert.rejects(piece({ file: file.file, piece: file.piece_count }), { code: 'NODE_PIECE_UNKNOWN' })
  await assert.rejects(piece({ file: '00'.repeat(32), piece: 0 }), { code: 'NODE_FILE_UNKNOWN' })
})
