import assert from 'node:assert/strict'
import { encode } from '@ipld/dag-cbor'
import { test } from 'node:test'
import { createStreamPair, ManualClock, seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { signEnvelope } from '#identity'
import { withLengthPrefix } from '#wire'
import { type Announcement, assertServices, isAnswerTo, openAnnouncement, signAnnouncement } from './announcement.ts'
import { AnnouncementTable } from './announcement-table.ts'
import { isFault } from './errors.ts'
import { ANNOUNCEMENT_LIFE_MS, ANSWERED_ANNOUNCEMENTS_MAX } from './limits.ts'
import { answer, ask, tell } from './service-stream.ts'

const NOW = 1_700_000_000_000
const random = seededRandom(9)
const MODEL = 'ab'.repeat(32)
const STAGE = { service: 'stage', model: MODEL, modelName: 'Storyteller', layers: { first: 0, last: 4 }, layerCount: 8 }
const signerOf = () => ed25519Signer(random.bytes(32))
const sign = (over: Partial<Announcement> = {}, signer = signerOf()): Promise<Announcement> =>
  signAnnouncement(signer, { sequence: 1, expiresAt: NOW + 60_000, services: [STAGE], ...over })

test('an announcement is its signer’s, in force, and in one form', async () => {
  const signer = signerOf()
  const announcement = await sign({}, signer)
  assert.deepEqual(openAnnouncement(announcement.bytes, NOW), announcement)
  assert.equal(announcement.peer, peerOfPublicKey(signer.publicKey))
  assert.equal(openAnnouncement(announcement.bytes, NOW + 60_000), undefined, 'expired: nobody’s fault')
  const tampered = announcement.bytes.slice()
  tampered[tampered.byteLength - 1] = (tampered.at(-1) ?? 0) ^ 1
  const wrongs = [
    tampered,
    new Uint8Array(0),
    new Uint8Array(10_000),
    (await sign({ expiresAt: NOW + 1e9 })).bytes,
    (await sign({ services: [{ service: 'Not A Name' }] })).bytes,
    (await sign({ services: [{ ...STAGE, layers: { first: 4, last: 4 } }] })).bytes,
    (await sign({ services: Array.from({ length: 33 }, () => ({ service: 'a' })) })).bytes,
    await signEnvelope(
      signer,
      'koinon/services/1',
      encode({ expiresAt: NOW + 1, peer: 'me', sequence: 1, services: [] }),
    ),
    await signEnvelope(signer, 'koinon/services/2', encode({})),
  ]
  for (const [i, bytes] of wrongs.entries()) {
    const opened = openAnnouncement(bytes, NOW)
    assert.ok(opened !== undefined && isFault(opened), `case ${i}`)
  }
})

test('services are checked before they are announced, and matched by id, prefix or name', () => {
  assert.throws(() => assertServices([{ service: 'UPPER' }]), { code: 'DISCOVERY_ANNOUNCEMENT_INVALID' })
  assert.throws(() => assertServices(Array.from({ length: 33 }, () => STAGE)), {
    code: 'DISCOVERY_ANNOUNCEMENT_INVALID',
  })
  const queries = [undefined, MODEL, 'abababab', 'Storyteller'].map(model => ({
    service: 'stage',
    ...(model && { model }),
  }))
  for (const query of queries) assert.ok(isAnswerTo(STAGE, query), JSON.stringify(query))
  for (const model of ['abab', 'cdcdcdcd', 'story']) assert.ok(!isAnswerTo(STAGE, { service: 'stage', model }), model)
  assert.ok(!isAnswerTo(STAGE, { service: 'embed' }))
})

test('the higher number wins; one number with two contents is a fault; what has expired goes', async () => {
  const clock = new ManualClock(NOW)
  const table = new AnnouncementTable({ clock }, { countMax: 3 })
  const signer = signerOf()
  const [first, other] = [await sign({ sequence: 5 }, signer), await sign({ sequence: 5, services: [] }, signer)]
  assert.equal(table.add(first), true)
  assert.equal(table.add(first), false)
  const outcome = table.add(other)
  assert.equal(typeof outcome === 'object' ? outcome.code : '', 'DISCOVERY_ANNOUNCEMENT_CONFLICT')
  assert.equal(table.get(first.peer)?.services.length, 1, 'the first stays')
  assert.equal(table.add(await sign({ sequence: 4 }, signer)), false)
  assert.equal(table.add(await sign({ sequence: 6, services: [] }, signer)), true)
  assert.deepEqual([...table.find({ service: 'stage' })], [], 'it was taken back')
  for (let i = 0; i < 5; i++) table.add(await sign({ expiresAt: NOW + 70_000 + i }))
  assert.deepEqual([table.size, [...table.find({ service: 'stage' })].length], [3, 3])
  clock.advance(ANNOUNCEMENT_LIFE_MS)
  table.sweep()
  assert.equal(table.size, 0)
})

function streams(client: string, server: string) {
  const clock = new ManualClock(NOW)
  const { signal } = new AbortController()
  const [ours, theirs] = createStreamPair('/koinon/services/1', { a: client, b: server })
  return { bounds: { clock, signal }, ours, theirs, table: new AnnouncementTable({ clock }) }
}

test('a peer tells of itself, and is asked whom it knows', async () => {
  const announcement = await sign()
  const telling = streams(announcement.peer, 'server')
  const [said] = await Promise.all([
    answer(telling.theirs, telling.table, telling.bounds),
    tell(telling.ours, announcement, telling.bounds),
  ])
  assert.deepEqual(said, announcement)
  const asking = streams('client', 'server')
  for (let i = 0; i < ANSWERED_ANNOUNCEMENTS_MAX + 5; i++) asking.table.add(await sign())
  const heard: Announcement[] = []
  const onAnnouncement = (found: Announcement): void => void heard.push(found)
  const [fault] = await Promise.all([
    ask(asking.ours, { service: 'stage', model: 'abababab' }, { ...asking.bounds, onAnnouncement }),
    answer(asking.theirs, asking.table, asking.bounds),
  ])
  assert.deepEqual([fault, heard.length], [undefined, ANSWERED_ANNOUNCEMENTS_MAX])
})

test('what hostile peers tell, ask and answer is their fault, and nothing more', async () => {
  const announcement = await sign()
  const messages: readonly [string, Uint8Array][] = [
    ['DISCOVERY_ANNOUNCEMENT', withLengthPrefix(encode({ tell: announcement.bytes }))], // Of another than who tells.
    ['DISCOVERY_ANNOUNCEMENT', withLengthPrefix(encode({ tell: random.bytes(50) }))],
    ['DISCOVERY_MALFORMED', withLengthPrefix(encode({ ask: { service: 'X y' } }))],
    ['DISCOVERY_MALFORMED', withLengthPrefix(encode([1]))],
    ['DISCOVERY_MALFORMED', withLengthPrefix(random.bytes(60))],
    ['DISCOVERY_MALFORMED', Uint8Array.of(0xff, 0, 0, 0)],
  ]
  for (const [code, bytes] of messages) {
    const { bounds, ours, theirs, table } = streams('mallory', 'server')
    ours.send(bytes)
    const outcome = await answer(theirs, table, bounds)
    assert.equal(outcome !== undefined && isFault(outcome) ? outcome.code : 'none', code)
  }
  const flood = streams('client', 'mallory')
  for (let i = 0; i <= ANSWERED_ANNOUNCEMENTS_MAX; i++) flood.theirs.send(withLengthPrefix(announcement.bytes))
  const fault = await ask(flood.ours, { service: 'stage' }, { ...flood.bounds, onAnnouncement: () => undefined })
  assert.equal(fault?.code, 'DISCOVERY_FLOOD')
})
