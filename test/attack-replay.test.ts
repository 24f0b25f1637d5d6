/**
 * Frames that were recorded and are said again: at once, 29 seconds later, after a restart, on another connection, out
 * of order, twice. Against a real node; where time must pass, against a host whose clock the test owns.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, systemClock } from '#base'
import { CONTROL_SCHEMAS, decodeBody, encodeBody, FRAME_TYPES, PROTOCOLS } from '#wire'
import { FRAME_AGE_MS_MAX, REORDER_WINDOW } from '../src/protocol/limits.ts'
import { type Member, useAttackedNode } from './support/attacked-node.ts'
import { cutFrames } from './support/cut-frames.ts'
import { helloFrame, isRefused, refusalOf } from './support/forged-frames.ts'
import { firstAddress, startHost } from './support/net-hosts.ts'
import { type RawControl, type RawPeer, startRawPeer } from './support/raw-peer.ts'
import { type SessionMemory, sessionMemory } from './support/session-memory.ts'

const node = useAttackedNode()

async function ping({ link }: RawControl, id: number): Promise<Uint8Array> {
  assert.ok(link.session !== undefined)
  return link.session.sealControl(FRAME_TYPES.ping, encodeBody({ id }))
}

/** The ids of the next PONGs. */
async function pongs(control: RawControl, count: number): Promise<number[]> {
  const ids: number[] = []
  while (ids.length < count) {
    const message = await control.next()
    if (message.type !== FRAME_TYPES.pong) continue
    const decoded = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.pong], message.body)
    if ('body' in decoded) ids.push(decoded.body.id)
  }
  return ids
}

/** Sends recorded bytes and nothing else. @returns what came back: types of frames, and the reason of the refusal */
async function said(peer: RawPeer, frames: readonly Uint8Array[]): Promise<{ types: number[]; reason: string }> {
  const stream = await (await peer.dial(node.address)).stream(PROTOCOLS.control)
  for (const frame of frames) stream.send(frame)
  const types: number[] = []
  let reason = ''
  for await (const frame of cutFrames(stream.received, frame => [frame])) {
    types.push(frame[3] ?? 0)
    const decoded = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.refuse], frame.subarray(96))
    if ('body' in decoded) reason = decoded.body.reason
  }
  await stream.close()
  return { types, reason }
}

function leave({ raw }: Member): void {
  raw.connection.abort(new Error('done'))
}

describe('attack: replay', () => {
  it('a HELLO that is said again is refused, by whoever says it, and so is everything behind it', async () => {
    const member = await node.member()
    const recorded = [...member.control.sent]
    leave(member)
    const again = await (await member.peer.dial(node.address)).control({ tamper: (_, i) => recorded.slice(i, i + 1) })
    await isRefused(again, 'replay')
    assert.equal((await node.hears(member.peer.identity.peer, 'replay')).facts['reason'], 'replay')
    // All of it at once, from the machine of somebody else.
    const thief = await node.raw()
    const stolen = await (await thief.dial(node.address)).control({ tamper: (_, i) => (i === 0 ? recorded : []) })
    await isRefused(stolen, 'authentication')
    await node.survives()
  })

  it('frames of a session are worth nothing before another session, in it, or after a resumption', async () => {
    const first = await node.member()
    const recorded = await ping(first.control, 1)
    first.control.stream.send(recorded)
    assert.deepEqual(await pongs(first.control, 1), [1])
    leave(first)
    // The session goes on with other keys, and other epochs.
    const resumed = await node.member({ peer: first.peer })
    assert.equal(resumed.control.link.facts?.resumptions, 1)
    resumed.control.stream.send(recorded)
    await isRefused(resumed.control, 'replay')
    // A session of somebody else.
    const other = await node.member()
    for (let id = 0; id < 4; id++) await ping(other.control, id)
    other.control.stream.send(recorded)
    const { reason } = await refusalOf(other.control)
    assert.ok(['replay', 'authentication'].includes(reason), reason)
    // No session at all.
    const early = await (await (await node.raw()).dial(node.address)).control({ tamper: () => [recorded] })
    await isRefused(early, 'malformed')
    await node.survives()
  })

  it('a frame that comes twice ends the session', async () => {
    const member = await node.member()
    const frame = await ping(member.control, 9)
    member.control.stream.send(frame)
    member.control.stream.send(frame)
    assert.deepEqual(await pongs(member.control, 1), [9])
    await isRefused(member.control, 'replay')
    await member.raw.closed
    await node.hears(member.peer.identity.peer, 'replay')
    await node.survives()
  })

  it('frames may overtake one another inside the window, each is taken once, and none from outside', async () => {
    const member = await node.member()
    const frames = [await ping(member.control, 0), await ping(member.control, 1), await ping(member.control, 2)]
    for (const frame of frames.toReversed()) member.control.stream.send(frame)
    assert.deepEqual(await pongs(member.control, 3), [2, 1, 0])
    const [, second] = frames
    assert.ok(second !== undefined)
    member.control.stream.send(second)
    await isRefused(member.control, 'replay')

    const ahead = await node.member()
    for (let i = 0; i < REORDER_WINDOW; i++) await ping(ahead.control, i)
    ahead.control.stream.send(await ping(ahead.control, 1000))
    await isRefused(ahead.control, 'replay')

    const behind = await node.member()
    const late = await ping(behind.control, 0)
    for (let i = 1; i <= REORDER_WINDOW; i++) behind.control.stream.send(await ping(behind.control, i))
    assert.equal((await pongs(behind.control, REORDER_WINDOW)).length, REORDER_WINDOW)
    behind.control.stream.send(late)
    await isRefused(behind.control, 'replay')
    await node.survives()
  })

  for (const how of ['stop', 'kill'] as const) {
    it(`what was recorded before a restart is refused after it (the process ends by ${how})`, async () => {
      const member = await node.member()
      const { peer } = member
      const pinged = await ping(member.control, 1)
      member.control.stream.send(pinged)
      assert.deepEqual(await pongs(member.control, 1), [1])
      const recorded = [...member.control.sent]
      const unused = await helloFrame(peer.identity.provider, node.id)
      await node.restart(how)

      // Everything, as it was said: HELLO, both messages of the handshake, proof, offer, request. A node that ended in
      // order knows the HELLO. One that was killed does not: it answers, and the handshake finds out.
      const { types, reason } = await said(peer, recorded)
      const { hello, handshake, refuse } = FRAME_TYPES
      if (how === 'stop') assert.deepEqual([types, reason], [[refuse], 'replay'])
      else assert.deepEqual([types, reason], [[hello, handshake, refuse], 'authentication'])

      // In the session that goes on.
      const resumed = await node.member({ peer })
      assert.equal(resumed.control.link.facts?.resumptions, 1)
      resumed.control.stream.send(pinged)
      await isRefused(resumed.control, 'replay')
      await node.hears(peer.identity.peer, 'replay')

      // A HELLO that was made before and comes now for the first time is no replay. The second time it is one.
      assert.deepEqual((await said(peer, [unused, unused])).types, [hello, refuse])
      assert.equal((await said(peer, [unused])).reason, 'replay')
      await node.survives()
    })
  }

  it('29 seconds later a HELLO, and a frame in its own session, are refused', async test => {
    const { peer, address, control, pass } = await startTimed(test)
    const recorded = [...control.sent]
    const spent = await ping(control, 1)
    control.stream.send(spent)
    assert.deepEqual(await pongs(control, 1), [1])
    await pass(29_000)
    const again = await (await peer.dial(address)).control({ tamper: (_, i) => recorded.slice(i, i + 1) })
    await isRefused(again, 'replay')
    control.stream.send(spent)
    await isRefused(control, 'replay')
  })

  it('a frame that was held back for 31 seconds is left out, and its time cannot be forged', async test => {
    const { memory, control, pass } = await startTimed(test)
    const held = await ping(control, 100)
    await pass(FRAME_AGE_MS_MAX + 1000)
    control.stream.send(held)
    // That is no fault of the peer's: the line may have stalled. So the session goes on.
    await pass(0)
    assert.deepEqual(audited(memory, 'replay'), ['a frame that is more than 30 s away from now'])
    const fresh = await ping(control, 101)
    const forged = held.slice()
    forged.set(fresh.subarray(8, 16), 8)
    control.stream.send(forged)
    await isRefused(control, 'authentication')
  })
})

/** A peer in a session with a host, both on one clock that the test moves. */
async function startTimed(test: Parameters<typeof startHost>[0]) {
  const clock = new ManualClock(systemClock.now())
  const memory = sessionMemory({ clock })
  const host = await startHost(test, { clock, memory })
  const peer = await startRawPeer(test, { clock })
  const address = firstAddress(host)
  const control = await (await peer.dial(address)).control({ answersPings: true })
  await control.join()
  let id = 1000
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; ; left -= 7000) {
      clock.advance(Math.max(0, Math.min(7000, left)))
      // A round trip: both sides have heard everything that was said before.
      control.stream.send(await ping(control, ++id))
      assert.deepEqual(await pongs(control, 1), [id])
      if (left <= 7000) return
    }
  }
  return { clock, memory, peer, address, control, pass }
}

function audited({ audit }: SessionMemory, kind: string): unknown[] {
  return audit.entries.filter(entry => entry.kind === kind).map(({ facts }) => ('what' in facts ? facts.what : facts))
}
