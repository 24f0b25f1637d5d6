import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStreamPair, ManualClock, seededRandom } from '#base'
import { NONCE_BYTES, PROTOCOLS } from '#wire'
import type { Place } from './address.ts'
import { DialBackClient } from './dial-back-client.ts'
import { type DialBackOutcome, decodeRequest, encodeAnswer, readRequest } from './dial-back-messages.ts'
import { DIAL_BACK_MS_MAX, DIAL_BACK_REQUEST_MS_MAX } from './limits.ts'

const HELPER = { peer: 'helper', ip: '77.1.0.1' }
const PLACE: Place = { ip: '62.1.0.1', port: 4001, transport: 'tcp' }
const FROM = { address: '/ip4/77.1.0.1/tcp/50000', isPlane: false }
const signal = new AbortController().signal

/** A client, and the stream of its question with the nonce that it waits for. */
async function setUp(place: Place = PLACE) {
  const clock = new ManualClock()
  const [ours, theirs] = createStreamPair(PROTOCOLS.reach, { a: 'asker', b: 'helper' })
  const client = new DialBackClient({ clock, random: seededRandom(5), host: { open: async () => ours } })
  const result = client.ask(HELPER, place, { signal })
  result.catch(() => undefined) // Each test looks at it where it matters.
  const body = await readRequest(theirs)
  const request = body === undefined ? undefined : decodeRequest(body)
  assert.ok(request !== undefined)
  const answer = async (outcome: DialBackOutcome): Promise<void> => {
    theirs.send(encodeAnswer(outcome))
    await theirs.close()
  }
  const bring = async (nonce: Uint8Array, from: Partial<typeof FROM & { peer: string }> = {}): Promise<void> => {
    const [inbound, outbound] = createStreamPair(PROTOCOLS.reachBack, { a: 'asker', b: from.peer ?? 'helper' })
    outbound.send(nonce)
    await outbound.close()
    await client.onProbe(inbound, { ...FROM, ...from })
  }
  return { clock, client, result, request, answer, bring }
}

test('a nonce that comes in is a proof, whatever the peer says then', async () => {
  const { result, request, answer, bring } = await setUp()
  assert.deepEqual([request.address, request.plane], ['/ip4/62.1.0.1/tcp/4001', false])
  await bring(request.nonce)
  await answer('failed')
  assert.equal(await result, true)
})

test('a peer that could not is heard; one that would not says nothing about the place', async () => {
  const could = await setUp()
  await could.answer('failed')
  assert.equal(await could.result, false)
  for (const outcome of ['rate', 'busy', 'address', 'malformed'] as const) {
    const would = await setUp()
    await would.answer(outcome)
    await assert.rejects(would.result, { code: 'REACH_DIAL_BACK_REFUSED' })
  }
})

test('that a peer says it has dialled proves nothing without the nonce', async () => {
  const { result, answer } = await setUp()
  await answer('dialled')
  await assert.rejects(result, { code: 'REACH_DIAL_BACK_REFUSED' })
})

test('the wrong nonce, a part of it, another peer, another way in, or one from our own network is no proof', async () => {
  const { result, request, answer, bring } = await setUp()
  await bring(new Uint8Array(NONCE_BYTES))
  await bring(request.nonce.subarray(1))
  await bring(request.nonce, { peer: 'stranger' })
  await bring(request.nonce, { isPlane: true })
  await bring(request.nonce, { address: '/ip4/77.1.0.1/udp/50000/quic-v1' })
  await bring(request.nonce, { address: '/ip4/192.168.1.9/tcp/50000' })
  await bring(request.nonce, { address: '' })
  await answer('failed')
  assert.equal(await result, false)
  // The question is over: its nonce is worth nothing any more.
  await bring(request.nonce)
})

test('of a data plane only a stream over the plane is one', async () => {
  const { result, request, bring } = await setUp({ ...PLACE, transport: 'plane' })
  assert.equal(request.plane, true)
  await bring(request.nonce)
  await bring(request.nonce, { isPlane: true })
  assert.equal(await result, true)
})

test('a peer that does not answer costs one wait; one that brings no nonce loses its stream', async () => {
  const { clock, client, result } = await setUp()
  const refused = assert.rejects(result, { code: 'REACH_DIAL_BACK_REFUSED' })
  const [inbound] = createStreamPair(PROTOCOLS.reachBack, { a: 'asker', b: 'helper' })
  const slow = assert.rejects(async () => client.onProbe(inbound, FROM), { code: 'TIMEOUT' })
  clock.advance(DIAL_BACK_REQUEST_MS_MAX)
  await slow
  clock.advance(DIAL_BACK_MS_MAX)
  await refused
})
