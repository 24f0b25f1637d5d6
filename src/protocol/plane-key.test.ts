import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSessionPair } from '../../test/support/session-pair.ts'
import { CHANNELS_AHEAD_MAX } from './limits.ts'
import { decodePlaneIdentity, encodePlaneIdentity } from './plane-key.ts'

test('both ends have the same key for a number, another for each number, and none twice', () => {
  const { dialler, listener } = createSessionPair()
  const [first, second] = [dialler.openPlane(), dialler.openPlane()]
  assert.notDeepEqual(first.key, second.key)
  assert.deepEqual(listener.planeKeyFor(second.identity), second.key)
  assert.deepEqual(listener.planeKeyFor(first.identity), first.key, 'asking uses nothing up')
  assert.ok(listener.acceptPlane(second.identity))
  assert.ok(!listener.acceptPlane(second.identity))
  assert.equal(listener.planeKeyFor(second.identity), undefined)
  assert.ok(listener.acceptPlane(first.identity), 'numbers may overtake one another')
  const back = listener.openPlane()
  assert.deepEqual(dialler.planeKeyFor(back.identity), back.key)
  assert.equal(listener.planeKeyFor(back.identity), undefined, 'it is the other side that dials its numbers')
})

test('a number that was a channel is no plane, and the other way round', () => {
  const { dialler, listener } = createSessionPair()
  const { identity } = dialler.openPlane()
  assert.equal(dialler.openChannel().number, identity.number + 2)
  assert.ok(listener.acceptPlane(identity))
})

test('keys of another session, another resumption, too far ahead, or after the end are not to be had', () => {
  const { dialler, listener, clock } = createSessionPair()
  const { identity } = dialler.openPlane()
  assert.equal(createSessionPair({ resumptions: 1, clock }).listener.planeKeyFor(identity), undefined)
  assert.notDeepEqual(createSessionPair({ seed: 2, clock }).listener.planeKeyFor(identity), dialler.openPlane().key)
  const session = identity.session.map(byte => byte ^ 1)
  assert.equal(listener.planeKeyFor({ ...identity, session }), undefined)
  const ahead = identity.number + 2 * CHANNELS_AHEAD_MAX
  assert.ok(listener.planeKeyFor({ ...identity, number: ahead }) !== undefined)
  assert.equal(listener.planeKeyFor({ ...identity, number: ahead + 2 }), undefined)
  listener.close()
  assert.equal(listener.planeKeyFor(identity), undefined)
  dialler.close()
  assert.throws(() => dialler.openPlane(), { code: 'PROTOCOL_SESSION_CLOSED' })
})

test('an identity is one text, and other texts are none', () => {
  const identity = { session: Uint8Array.from({ length: 16 }, (_, i) => i), resumptions: 65_535, number: 4_294_967_295 }
  const text = encodePlaneIdentity(identity)
  assert.equal(text, 'koinon-1.000102030405060708090a0b0c0d0e0f.65535.4294967295')
  assert.deepEqual(decodePlaneIdentity(text), identity)
  for (const other of ['', 'x', `${text}0`, `${text} `, text.toUpperCase(), text.replace('65535', '065535')]) {
    assert.equal(decodePlaneIdentity(other), undefined, other)
  }
})
