/** Commands about peers: nodes that are known, and what is said of them. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { seededRandom, toHex } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import type { StageOffer } from '#wire'
import { give } from '../../../test/support/command-bench.ts'
import { ratingsInMemory } from '../../../test/support/lone-node.ts'
import { createCommands } from './create-commands.ts'
import type { CommandServices, KnownNode } from './services.ts'

const random = seededRandom(11)
const keys = Array.from({ length: 30 }, () => ed25519Signer(random.bytes(32)).publicKey)
const peers = keys.map(peerOfPublicKey)
const stableIds = keys.map(key => createHash('sha1').update(key).digest('hex'))

const stageOf = (name: string): StageOffer => ({
  model: 'ab'.repeat(32),
  name,
  architecture: 'llama',
  layers: { first: 0, last: 4 },
  layerCount: 8,
  width: 64,
  contextMax: 512,
  slots: 4,
  slotsFree: 3,
  profile: 'p',
  stepMs: 1,
})

/** Every third node serves layers. */
const known: KnownNode[] = peers.map((id, i) => ({
  id,
  addresses: [`/ip4/10.0.0.${i}/tcp/1/p2p/${id}`],
  offer: {
    agent: 'test',
    addresses: [],
    memoryBytes: 0,
    threads: 1,
    weightBytesPerSecond: 0,
    stages: i % 3 === 0 ? [stageOf('one')] : [],
  },
}))

function commandsWith(services: Partial<CommandServices>): ReturnType<typeof createCommands> {
  return createCommands(services as CommandServices)
}

type Found = {
  readonly peer: string
  readonly stable_id: string
  readonly addresses: readonly string[]
  readonly stages: readonly object[]
}

async function find(body: object, peer = 'caller'): Promise<Found[]> {
  const commands = commandsWith({ peers: () => known })
  return (await give(commands, 'FIND_NODES', { body, peer })).body['nodes'] as Found[]
}

/** The exclusive or of two stable ids, as a number. */
const distance = (a: string, b: string): bigint => BigInt(`0x${a}`) ^ BigInt(`0x${b}`)

test('FIND_NODES gives the nearest by exclusive or of stable ids, to a stable id and to a peer id', async () => {
  const target = toHex(seededRandom(3).bytes(20))
  const byDistance = (to: string): string[] =>
    [...stableIds].sort((a, b) => (distance(a, to) < distance(b, to) ? -1 : 1))
  const near = await find({ target, count: 5 })
  assert.deepEqual(
    near.map(node => node.stable_id),
    byDistance(target).slice(0, 5),
  )
  const own = await find({ target: peers[4], count: 3 })
  assert.deepEqual(
    own.map(node => node.stable_id),
    byDistance(stableIds[4] ?? '').slice(0, 3),
  )
  assert.equal(own[0]?.peer, peers[4])
  assert.deepEqual(own[0]?.addresses, [`/ip4/10.0.0.4/tcp/1/p2p/${peers[4]}`])
})

test('FIND_NODES leaves the caller out, bounds its answer, and filters by what nodes serve', async () => {
  assert.equal((await find({})).length, 20)
  assert.ok(!(await find({ target: stableIds[2] }, peers[2])).some(node => node.peer === peers[2]))
  for (const service of ['one', 'llama', 'ab'.repeat(32)]) assert.equal((await find({ service })).length, 10)
  assert.deepEqual(await find({ service: 'qwen3' }), [])
  for (const body of [{ count: 0 }, { count: 21 }, { target: 'nobody' }, { target: 'ab'.repeat(21) }]) {
    await assert.rejects(find(body), TypeError)
  }
})

test('a peer rates another in its own name, once, and what is known of the other shows it', async () => {
  const [rater = '', other = '', third = ''] = peers
  const commands = commandsWith({ ratings: ratingsInMemory(), now: () => 1234 })
  const rate = (body: object, peer = rater) => give(commands, 'UPDATE_REPUTATION', { body, peer })
  const look = async (peer: string) => (await give(commands, 'GET_REPUTATION', { body: { peer } })).body
  assert.deepEqual(await look(other), {
    peer: other,
    score: null,
    count: 0,
    own: { served: 0, failed: 0, refused: 0 },
    ratings: [],
  })
  await rate({ peer: other, score: -1, comment: 'late' })
  await rate({ peer: other, score: 1 }, third)
  assert.deepEqual((await rate({ peer: other, score: 0.5, comment: 'better' })).body, {
    peer: other,
    score: 0.75,
    count: 2,
  })
  const { ratings } = await look(other)
  assert.deepEqual((ratings as object[])[0], { rater, score: 0.5, comment: 'better', at: 1234 })
  // Whoever a request claims to speak for: only the caller counts.
  await rate({ peer: other, score: 0, rater: third })
  assert.equal((await look(other))['count'], 2)
})

test('nobody rates itself, and nothing but a peer is rated', async () => {
  const [rater = '', other = ''] = peers
  const commands = commandsWith({ ratings: ratingsInMemory(), now: () => 1 })
  const rate = (body: object) => give(commands, 'UPDATE_REPUTATION', { body, peer: rater })
  await assert.rejects(rate({ peer: rater, score: 1 }), { code: 'NODE_RATING_REFUSED' })
  for (const body of [
    { peer: 'me', score: 0 },
    { peer: other, score: 1.1 },
    { peer: other, score: 0, comment: 'x'.repeat(201) },
  ]) {
    await assert.rejects(rate(body), TypeError)
  }
  const refusing = commandsWith({ ratings: { ...ratingsInMemory(), rate: () => false }, now: () => 1 })
  const refused = give(refusing, 'UPDATE_REPUTATION', { body: { peer: other, score: 1 }, peer: rater })
  await assert.rejects(refused, { code: 'NODE_RATING_REFUSED' })
})

test('tasks that are none are refused before anything runs, with the field that is wrong', async () => {
  const commands = commandsWith({})
  const run = (body: object) => give(commands, 'EXECUTE_TASK', { body })
  await assert.rejects(run({ kind: 'poem', prompt: 'a' }), /kind/)
  await assert.rejects(run({ kind: 'completion' }), /prompt/)
  await assert.rejects(run({ kind: 'completion', prompt: ['a', 'b'] }), /one prompt/)
  await assert.rejects(run({ kind: 'completion', prompt: 'a', n: 2 }), /one answer/)
  await assert.rejects(run({ kind: 'completion', prompt: 'a', temperature: 3 }), /temperature/)
  await assert.rejects(run({ kind: 'chat', messages: [{ role: 'tool', content: 'a' }] }), /messages/)
  await assert.rejects(run({ kind: 'chat', messages: [{ role: 'user', content: 'a' }], tools: [{}] }), /tools/)
  const infer = (body: object) => give(commands, 'INFERENCE_REQUEST', { body: { model: 'm', ...body } })
  await assert.rejects(infer({}), /either prompt or tokens/)
  await assert.rejects(infer({ prompt: 'a', tokens: [1] }), /either prompt or tokens/)
  await assert.rejects(infer({ prompt: 'a', max_tokens: 5000 }), /max_tokens/)
})
