/** Attacks on streams that outlive their connections: guessed ids, offsets that cannot be, carriers that say nothing. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, systemRandom } from '#base'
import { openSealedStream } from '#protocol'
import { PROTOCOLS } from '#wire'
import type { CarriedFrame, OpenFrame } from '../src/net/carried/frames.ts'
import { type Member, sessionOf, useAttackedNode } from './support/attacked-node.ts'
import { within } from './support/net-hosts.ts'
import { nextFrame, openingFrame } from './support/raw-carried.ts'

const node = useAttackedNode()

/** A carrier in the member's session, with that opening. */
async function carrier(member: Member, opening: Partial<OpenFrame>): Promise<ByteStream> {
  const stream = await member.raw.stream(PROTOCOLS.stage)
  const sealed = openSealedStream({ stream, session: sessionOf(member), onFault: () => undefined })
  sealed.send(openingFrame(opening))
  return sealed
}

const answerTo = async (member: Member, opening: Partial<OpenFrame>): Promise<CarriedFrame | undefined> =>
  within('an answer', nextFrame(await carrier(member, opening)))

const FAULT = { kind: 'reset', reason: 'fault' }

describe('attack: carried streams', () => {
  it('a stream cannot be taken over by a peer that has guessed its id', async () => {
    const [victim, thief] = [await node.member(), await node.member()]
    const id = systemRandom.bytes(16)
    assert.equal((await answerTo(victim, { id }))?.kind, 'ready')
    for (const opening of [{ number: 1, hasHeard: true }, { number: 1 }, {}]) {
      assert.deepEqual(await answerTo(thief, { id, ...opening }), FAULT)
    }
    assert.equal((await node.hears(thief.peer.identity.peer, 'refused')).facts['reason'], 'malformed')
    assert.deepEqual(node.audited(victim.peer.identity.peer), [])
    // Its owner goes on with it, over another carrier.
    assert.equal((await answerTo(victim, { id, number: 1, hasHeard: true }))?.kind, 'ready')
    await node.survives()
  })

  it('ids that nobody knows are answered and nothing is kept for them', async () => {
    const member = await node.member()
    for (let i = 0; i < 50; i++) {
      const frame = await answerTo(member, { number: 1, hasHeard: true })
      assert.deepEqual(frame, { kind: 'reset', reason: 'unknown' })
    }
    await node.survives()
  })

  it('a resumption that claims what was never sent ends the stream', async () => {
    const member = await node.member()
    const id = systemRandom.bytes(16)
    assert.equal((await answerTo(member, { id }))?.kind, 'ready')
    assert.deepEqual(await answerTo(member, { id, number: 1, hasHeard: true, received: 1_000 }), FAULT)
    await node.hears(member.peer.identity.peer, 'refused')
    await node.survives()
  })

  it('a stream that is opened twice under one id, or for two protocols, is refused', async () => {
    const member = await node.member()
    const id = systemRandom.bytes(16)
    assert.equal((await answerTo(member, { id }))?.kind, 'ready')
    assert.deepEqual(await answerTo(member, { id }), FAULT)
    const stream = await member.raw.stream(PROTOCOLS.bulk)
    const sealed = openSealedStream({ stream, session: sessionOf(member), onFault: () => undefined })
    sealed.send(openingFrame({ id, number: 1, hasHeard: true }))
    assert.deepEqual(await within('an answer', nextFrame(sealed)), FAULT)
    await node.survives()
  })
})
