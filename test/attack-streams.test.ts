/**
 * Attacks on what belongs to a session beside its control stream: the sealed bit, channels of other sessions, channels
 * that are opened twice, streams that are cut and joined; and what somebody who carries the bytes can learn and change.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, concatBytes, fromHex, ManualClock, systemClock } from '#base'
import { openSealedStream } from '#protocol'
import { encodeFramePrefix, encodeStageStart, FRAME_TYPES, PROTOCOLS } from '#wire'
import { until } from '../tools/swarm.ts'
import type { NetStream } from '../src/net/byte-stream.ts'
import { SEALED_OPEN_MS_MAX } from '../src/protocol/limits.ts'
import { openingOf } from '../src/protocol/sealed-channel.ts'
import { type Member, TASK, sessionOf, useAttackedNode } from './support/attacked-node.ts'
import { flipped, isRefused, refusalOf } from './support/forged-frames.ts'
import { firstAddress, startHost, within } from './support/net-hosts.ts'
import { dataFrame, openingFrame } from './support/raw-carried.ts'
import { startRawPeer, tapped } from './support/raw-peer.ts'

const node = useAttackedNode()

/** Waits until the node has reset the stream. */
async function isReset(stream: ByteStream): Promise<void> {
  const read = async (): Promise<void> => {
    for await (const _ of stream.received);
  }
  await assert.rejects(within('the reset of a stream', read()), { code: 'STREAM_RESET' })
}

const OPENING = openingOf(PROTOCOLS.stage)

/** A data frame with everything in it but a seal that holds. */
function sealedGarbage(): Uint8Array {
  const nonce = { timeMs: systemClock.now(), epoch: 0, sequence: 0, random: 1 }
  return concatBytes([
    encodeFramePrefix({ type: FRAME_TYPES.data, isSealed: true, length: 32, nonce }),
    new Uint8Array(64),
    new Uint8Array(32),
  ])
}

async function stageStream(member: Member): Promise<NetStream> {
  return member.raw.stream(PROTOCOLS.stage)
}

describe('attack: streams and sessions', () => {
  it('a sealed frame is never taken on the control stream, before the session or in it', async () => {
    const early = await (await (await node.raw()).dial(node.address)).control({ tamper: () => [sealedGarbage()] })
    await isRefused(early, 'malformed')
    const member = await node.member()
    // As genuine as can be: sealed with the session's own keys.
    member.control.stream.send(sessionOf(member).openChannel().seal(OPENING))
    await isRefused(member.control, 'malformed')
    await node.hears(member.peer.identity.peer, 'refused')
    await node.survives()
  })

  it('a stream that begins with clear bytes, or with a signed frame, is reset', async () => {
    const member = await node.member()
    const [clear, signed] = [await stageStream(member), await stageStream(member)]
    clear.send(encodeStageStart('control'))
    await isReset(clear)
    signed.send(await sessionOf(member).sealControl(FRAME_TYPES.data, OPENING))
    await isReset(signed)
    await node.hears(member.peer.identity.peer, 'refused')
    await node.survives()
  })

  it('a stream that is sealed for another session is reset, and that session is not touched', async () => {
    const [one, other] = [await node.member(), await node.member()]
    const stream = await stageStream(one)
    stream.send(sessionOf(other).openChannel().seal(OPENING))
    await isReset(stream)
    const [entry] = node.audited(one.peer.identity.peer)
    assert.equal(entry?.kind, 'authentication-failed')
    assert.equal((await other.commands.ask(32, {})).answer['peer'], node.id)
    assert.deepEqual(node.audited(other.peer.identity.peer), [])
    await node.survives()
  })

  it('a number of a channel is taken once, and no channel is ours to open in the name of the node', async () => {
    const member = await node.member()
    const opening = sessionOf(member).openChannel().seal(OPENING)
    const [first, again] = [await stageStream(member), await stageStream(member)]
    first.send(opening)
    again.send(opening)
    await isReset(again)
    assert.equal((await node.hears(member.peer.identity.peer, 'replay')).facts['reason'], 'replay')
    // The number of the node's own next channel, which is even.
    const even = await stageStream(await node.member({ peer: member.peer }))
    even.send(opening.with(67, 2))
    await isReset(even)
    await node.survives()
  })

  it('a stream for one protocol is not taken for another', async () => {
    const member = await node.member()
    const stream = await stageStream(member)
    stream.send(sessionOf(member).openChannel().seal(openingOf(PROTOCOLS.bulk)))
    await isReset(stream)
    await node.hears(member.peer.identity.peer, 'authentication-failed')
    await node.survives()
  })

  it('frames of a stream that are dropped, doubled or swapped end the stream', async () => {
    const orders: readonly (readonly number[])[] = [
      [0, 2],
      [0, 1, 1],
      [0, 2, 1],
      [1, 0],
    ]
    for (const order of orders) {
      const member = await node.member()
      const channel = sessionOf(member).openChannel()
      const frames = [
        channel.seal(OPENING),
        channel.seal(concatBytes([openingFrame(), dataFrame(encodeStageStart('control'))])),
        channel.seal(dataFrame(new Uint8Array(1))),
      ]
      const stream = await stageStream(member)
      for (const index of order) stream.send(frames[index] ?? new Uint8Array(0))
      await isReset(stream)
      await node.hears(member.peer.identity.peer, 'replay')
    }
    await node.survives()
  })

  it('the id of a session cannot be taken by proposing it, while it is in use or while it waits', async () => {
    const victim = await node.member()
    const id = fromHex((victim.control.link.facts?.session ?? '').replaceAll('-', ''))
    const during = await (await (await node.raw()).dial(node.address)).control({ session: id })
    await isRefused(during, 'malformed')
    victim.raw.connection.abort(new Error('gone'))
    const hasLeft = async (): Promise<true | undefined> =>
      (await node.process.client.peers()).every(({ peer }) => peer !== victim.peer.identity.peer) || undefined
    await until(hasLeft, { what: 'the end of the first session', timeoutMs: 5000 })
    const after = await node.member({ control: { session: id } })
    assert.equal(after.control.link.facts?.session, victim.control.link.facts?.session)
    after.raw.connection.abort(new Error('done'))
    // The victim goes on where it was.
    const back = await node.member({ peer: victim.peer })
    assert.equal(back.control.link.facts?.resumptions, 1)
    await node.survives()
  })

  it('who carries the bytes of a session reads nothing in them, and what he changes is noticed', async () => {
    const seen: Uint8Array[] = []
    const record = (frame: Uint8Array): Uint8Array[] => {
      seen.push(frame.slice())
      return [frame]
    }
    const member = await node.member({ control: { tamper: record, tamperIn: record } })
    const { answer, events } = await member.commands.ask(33, TASK)
    const session = sessionOf(member)
    const raw = await stageStream(member)
    const stream = openSealedStream({ stream: tapped(raw, { send: record }), session, onFault: () => undefined })
    const [model] = await node.process.client.models()
    assert.ok(model !== undefined)
    stream.send(openingFrame())
    stream.send(dataFrame(encodeStageStart('control')))
    stream.send(dataFrame(new TextEncoder().encode(model.id)))
    await isReset(stream) // It is no message of the stage protocol.

    const bytes = Buffer.concat(seen)
    assert.ok(bytes.byteLength > 4000 && events.length > 4)
    const secrets = [
      TASK.prompt,
      String(answer['text']),
      'completion',
      'max_tokens',
      model.id,
      model.name,
      'koinon-swarm',
    ]
    for (const text of secrets) assert.equal(bytes.includes(text), false, text)
    for (const word of String(answer['text'])
      .split(/\s+/)
      .filter(word => word.length > 4)) {
      assert.equal(bytes.includes(word), false, word)
    }
    // What has to be read on the way is read: who, which versions.
    assert.ok(bytes.includes('Noise_XXhfs'))

    // One bit of an answer on its way back.
    let count = 0
    const cheated = await node.member({
      control: {
        tamperIn: frame => (frame[3] === FRAME_TYPES.response && ++count === 1 ? [flipped(frame, 100, 0)] : [frame]),
      },
    })
    await assert.rejects(cheated.commands.ask(32, {}))
    assert.deepEqual(await refusalOf(cheated.control), { reason: 'authentication', by: 'us' })
    await node.survives()
  })

  it('a stream that never opens is reset in time', async test => {
    const clock = new ManualClock(systemClock.now())
    const host = await startHost(test, { clock })
    const reached: string[] = []
    host.handle(PROTOCOLS.stage, stream => void reached.push(stream.protocol))
    const raw = await (await startRawPeer(test, { clock })).dial(firstAddress(host))
    const control = await raw.control({ answersPings: true })
    await control.join()
    const silent = await raw.stream(PROTOCOLS.stage)
    const slow = await raw.stream(PROTOCOLS.stage)
    assert.ok(control.link.session !== undefined)
    const opening = control.link.session.openChannel().seal(OPENING)
    for (const byte of opening.subarray(0, 100)) slow.send(Uint8Array.of(byte))
    const ended = Promise.all([isReset(silent), isReset(slow)])
    for (let passed = 0; passed < 2 * SEALED_OPEN_MS_MAX; passed += SEALED_OPEN_MS_MAX / 2) {
      control.link.send(FRAME_TYPES.ping, { id: passed })
      while ((await control.next()).type !== FRAME_TYPES.pong);
      clock.advance(SEALED_OPEN_MS_MAX / 2)
    }
    await ended
    assert.deepEqual(reached, [])
    assert.equal(raw.connection.status, 'open')
  })
})
