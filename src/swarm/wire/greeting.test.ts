import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from '@ipld/dag-cbor'
import {
  type ByteStream,
  concatBytes,
  createStreamPair,
  ManualClock,
  seededRandom,
  silentLogger,
  systemRandom,
} from '#base'
import { withLengthPrefix } from '#wire'
import { settled, sideOf } from '../../../test/support/wire-pair.ts'
import { type Admit, acceptPieces, decodeGreeting, decodeRefusal, encodeGreeting, openPieces } from './greeting.ts'
import { isFault } from './faults.ts'
import { HANDSHAKE_TIMEOUT_MS } from './limits.ts'
import type { PeerSession } from './types.ts'

const MODEL = new Uint8Array(32).fill(3)
const VALID = { versions: [1], model: MODEL, requestBytesMax: 2 ** 20, agent: 'test' }

type Ends = {
  readonly deps: { clock: ManualClock; logger: typeof silentLogger }
  readonly a: ByteStream
  readonly b: ByteStream
}

function ends(): Ends {
  const [a, b] = createStreamPair('/koinon/pieces/1', { a: 'alice', b: 'bob' })
  return { deps: { clock: new ManualClock(), logger: silentLogger }, a, b }
}

function codeOf(outcome: object): string {
  return isFault(outcome) ? `${outcome.code} ${outcome.blame}` : 'session'
}

/** What comes of both sides where the one that was asked decides so. */
async function bothSides(admit: Admit): Promise<readonly string[]> {
  const { deps, a, b } = ends()
  const outcomes = await Promise.all([openPieces(deps, a, { model: MODEL, says: {} }), acceptPieces(deps, b, admit)])
  return outcomes.map(codeOf)
}

test('two Koinon peers greet one another and have a session about the model', async () => {
  const { deps, a, b } = ends()
  const asked: Uint8Array[] = []
  const [opened, accepted] = await Promise.all([
    openPieces(deps, a, { model: MODEL, says: { coreBytes: 77 } }),
    acceptPieces(deps, b, model => {
      asked.push(model)
      return { says: { coreBytes: 88 } }
    }),
  ])
  assert.ok(!isFault(opened) && !isFault(accepted))
  assert.deepEqual([asked, accepted.model], [[MODEL], MODEL])
  assert.deepEqual([opened.party, accepted.session.party], ['bob', 'alice'])
  assert.deepEqual([opened.kind, opened.requestBytesMax], ['koinon', 2 ** 20])
  const sides = [opened, accepted.session].map((session: PeerSession) => sideOf(session))
  for (const { session } of sides) session.start()
  await settled()
  assert.deepEqual([opened.theirs?.coreBytes, accepted.session.theirs?.coreBytes], [88, 77])
})

test('a refusal comes with its reason, and nobody is to blame', async () => {
  const unknown = await bothSides(() => 'unknown-model')
  assert.deepEqual(unknown, ['SWARM_UNKNOWN_MODEL nobody', 'SWARM_UNKNOWN_MODEL nobody'])
  assert.deepEqual(await bothSides(() => 'busy'), ['SWARM_BUSY nobody', 'SWARM_BUSY nobody'])
})

test('a side that knows only other versions is refused, and told which there are', async () => {
  const { deps, a, b } = ends()
  a.send(withLengthPrefix(encode({ ...VALID, versions: [7, 8], more: 'of a later version' })))
  const accepting = acceptPieces(deps, b, () => ({ says: {} }))
  await settled()
  const answer = await a.received[Symbol.asyncIterator]().next()
  assert.equal(decodeRefusal((answer.value ?? new Uint8Array(0)).subarray(4)), 'version')
  await a.close()
  assert.equal(codeOf(await accepting), 'SWARM_VERSION nobody')
})

test('greetings that are none end the stream at once', async () => {
  const wrong: readonly (readonly [string, Uint8Array])[] = [
    ['SWARM_TOO_LARGE peer', Uint8Array.of(0, 0, 4, 1)],
    ['SWARM_MALFORMED peer', withLengthPrefix(Uint8Array.of(1, 2, 3))],
    ['SWARM_MALFORMED peer', withLengthPrefix(encode({ ...VALID, model: MODEL.subarray(1) }))],
    ['SWARM_MALFORMED peer', withLengthPrefix(encode({ ...VALID, requestBytesMax: 1 }))],
    ['SWARM_MALFORMED peer', withLengthPrefix(encode({ ...VALID, versions: [] }))],
  ]
  for (const [code, bytes] of wrong) {
    const { deps, a, b } = ends()
    a.send(bytes)
    assert.equal(codeOf(await acceptPieces(deps, b, () => ({ says: {} }))), code)
    await assert.rejects(a.received[Symbol.asyncIterator]().next())
  }
})

test('an answer about another model, and one that makes no sense, are the fault of who gave them', async () => {
  for (const answer of [encodeGreeting(new Uint8Array(32)), withLengthPrefix(encode({ refusal: 3 }))]) {
    const { deps, a, b } = ends()
    b.send(answer)
    assert.equal(codeOf(await openPieces(deps, a, { model: MODEL, says: {} })), 'SWARM_MALFORMED peer')
  }
})

test('whoever says nothing, or breaks off, is not waited for', async () => {
  const silent = ends()
  const opening = openPieces(silent.deps, silent.a, { model: MODEL, says: {} })
  await settled()
  silent.deps.clock.advance(HANDSHAKE_TIMEOUT_MS)
  assert.equal(codeOf(await opening), 'SWARM_TIMEOUT nobody')
  const broken = ends()
  broken.a.send(Uint8Array.of(0, 0, 0, 90, 1))
  await broken.a.close()
  assert.equal(codeOf(await acceptPieces(broken.deps, broken.b, () => ({ says: {} }))), 'SWARM_LOST nobody')
})

test('bytes of the session that come with the greeting are not lost', async () => {
  const { deps, a, b } = ends()
  a.send(concatBytes([encodeGreeting(MODEL), Uint8Array.of(0, 0, 0, 1, 2)]))
  const accepted = await acceptPieces(deps, b, () => ({ says: {} }))
  assert.ok(!isFault(accepted))
  const side = sideOf(accepted.session)
  side.session.start()
  await settled()
  assert.deepEqual(side.got, [{ kind: 'interested' }])
})

test('mutated greetings are read or not, and never throw', t => {
  const seed = systemRandom.uint32()
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const samples = [encodeGreeting(MODEL).slice(4), encode({ refusal: 'busy', versions: [1] })]
  for (let round = 0; round < 3000; round++) {
    const bytes = (samples[round % 2] ?? new Uint8Array(0)).slice()
    for (let left = random.uint32() % 4; left >= 0; left--)
      bytes[random.uint32() % bytes.length] = random.uint32() & 255
    decodeGreeting(bytes)
    decodeRefusal(bytes)
  }
})
