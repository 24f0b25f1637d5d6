/** The channels of a session: their frames, their numbers and their keys. */
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { seededRandom, toHex } from '#base'
import { Aead } from '#crypto'
import { decodeSeal, FRAME_TYPES } from '#wire'
import { createSessionPair, frameOf, parseFrame, type SessionPair } from '../../test/support/session-pair.ts'
import { BEGUN_MS_MAX, CHANNELS_AHEAD_MAX, FRAME_AGE_MS_MAX } from './limits.ts'
import { openingOf, type SealedChannel } from './sealed-channel.ts'
import type { SessionFault } from './types.ts'

const PROTOCOL = '/koinon/stage/1'
const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** A channel that the dialler has opened, both ends of it. */
function channelOf({ dialler, listener }: Pick<SessionPair, 'dialler' | 'listener'>): [SealedChannel, SealedChannel] {
  const ours = dialler.openChannel()
  const theirs = listener.acceptChannel(frameOf(ours.seal(openingOf(PROTOCOL))), PROTOCOL)
  assert.ok(!('reason' in theirs))
  return [ours, theirs]
}

const said = (opened: Uint8Array | SessionFault): string =>
  opened instanceof Uint8Array ? new TextDecoder().decode(opened) : `${opened.reason}: ${opened.what}`

test('both ends of a channel hear each other', () => {
  const [ours, theirs] = channelOf(createSessionPair())
  assert.equal(said(theirs.open(frameOf(ours.seal(text('there'))))), 'there')
  assert.equal(said(ours.open(frameOf(theirs.seal(text('and back'))))), 'and back')
  assert.equal(said(theirs.open(frameOf(ours.seal(new Uint8Array(0))))), '')
  const large = seededRandom(1).bytes(300_000)
  assert.deepEqual(theirs.open(frameOf(ours.seal(large))), large)
})

test('a frame that was begun is taken where it fits: as long as the one before, soon, and under the same key', () => {
  const pair = createSessionPair({ rekey: { channel: { frames: 4 } } })
  const [ours, theirs] = channelOf(pair)
  /** How old the frame says it is, once it was opened. */
  const ageOf = (body: string): number => {
    const frame = frameOf(ours.seal(text(body)))
    assert.equal(said(theirs.open(frame)), body)
    return pair.clock.now() - frame.nonce.timeMs
  }
  const begin = (): void => {
    ours.beginNext()
    theirs.beginNext()
    pair.clock.advance(10)
  }
  assert.equal(ageOf('one'), 0)
  begin()
  assert.equal(ageOf('two'), 10, 'begun 10 ms before')
  begin()
  assert.equal(ageOf('three'), 0, 'of another length')
  begin()
  assert.equal(ageOf('three'), 0, 'of another key')
  assert.equal(pair.dialler.rekeys, 1)
  begin()
  pair.clock.advance(BEGUN_MS_MAX)
  assert.equal(ageOf('three'), 0, 'too old')
  begin()
  assert.equal(ageOf('three'), 10)
})

test('every bit of a sealed frame is covered', () => {
  const [ours, theirs] = channelOf(createSessionPair())
  const bytes = ours.seal(text('bits'))
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const changed = bytes.slice()
    changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
    const frame = parseFrame(changed)
    if (!('code' in frame)) assert.ok('reason' in theirs.open(frame), `bit ${bit}`)
  }
  assert.equal(said(theirs.open(frameOf(bytes))), 'bits')
})

test('a frame that is missing, repeated, swapped or of another channel is refused', () => {
  const pair = createSessionPair()
  const [ours, theirs] = channelOf(pair)
  const [otherOurs] = channelOf(pair)
  const [first, second] = [frameOf(ours.seal(text('1'))), frameOf(ours.seal(text('2')))]
  assert.equal(said(theirs.open(second)), 'replay: a sealed frame is missing')
  assert.equal(said(theirs.open(first)), '1')
  assert.equal(said(theirs.open(first)), 'replay: a sealed frame came twice')
  const foreign = frameOf(otherOurs.seal(text('other')))
  const inTurn = { ...foreign, nonce: { ...foreign.nonce, sequence: 2 } }
  assert.equal(said(theirs.open(inTurn)), 'malformed: a seal that cannot be')
  otherOurs.seal(text('x'))
  const sameCount = frameOf(otherOurs.seal(text('x')))
  assert.equal(said(theirs.open(second)), '2')
  assert.equal(said(theirs.open(sameCount)), 'authentication: a sealed frame of another session or channel')
  // What we sent ourselves does not come back as the other side's.
  assert.match(said(ours.open(first)), /^replay|^authentication/)
})

test('a signed frame never passes for a sealed one', () => {
  const { dialler, listener } = createSessionPair()
  const [, theirs] = channelOf({ dialler, listener })
  const control = dialler.sealControl(FRAME_TYPES.ping, text('x'))
  assert.ok(control instanceof Uint8Array)
  assert.equal(said(theirs.open(frameOf(control))), 'malformed: not a sealed frame')
  assert.deepEqual(listener.acceptChannel(frameOf(control), PROTOCOL), {
    reason: 'malformed',
    what: 'a stream that does not begin with a sealed frame',
    isHostile: true,
  })
  // Nor with the bit set: the type is part of what the tag covers, and there is no tag.
  const sealed = control.slice()
  sealed[3] = (sealed[3] ?? 0) | 0x80
  assert.ok('reason' in listener.acceptChannel(frameOf(sealed), PROTOCOL))
})

test('a channel is opened once, for one protocol, by the side whose number it is', () => {
  const { dialler, listener, clock } = createSessionPair()
  const ours = dialler.openChannel()
  const opening = frameOf(ours.seal(openingOf(PROTOCOL)))
  assert.equal(ours.number, 1)
  assert.equal(listener.openChannel().number, 2)
  assert.equal(dialler.openChannel().number, 3)
  // A forged opening uses the number up for nobody.
  const forged = { ...opening, payload: opening.payload.slice().fill(0) }
  assert.ok('reason' in listener.acceptChannel(forged, PROTOCOL))
  assert.ok('reason' in dialler.acceptChannel(opening, PROTOCOL))
  assert.ok('reason' in createSessionPair({ resumptions: 1, clock }).listener.acceptChannel(opening, PROTOCOL))
  assert.ok('reason' in createSessionPair({ seed: 2, clock }).listener.acceptChannel(opening, PROTOCOL))
  assert.ok(!('reason' in listener.acceptChannel(opening, PROTOCOL)))
  assert.deepEqual(listener.acceptChannel(opening, PROTOCOL), {
    reason: 'replay',
    what: 'a channel that was open before, or that cannot be',
    isHostile: true,
  })
  const crossed = frameOf(dialler.openChannel().seal(openingOf('/koinon/bulk/1')))
  assert.deepEqual(listener.acceptChannel(crossed, PROTOCOL), {
    reason: 'authentication',
    what: 'a stream that was opened for another protocol',
    isHostile: true,
  })
})

test('a channel that began more than 30 s ago is refused, and that is nobody’s fault', () => {
  const { dialler, listener, clock } = createSessionPair()
  const opening = frameOf(dialler.openChannel().seal(openingOf(PROTOCOL)))
  clock.advance(FRAME_AGE_MS_MAX + 1)
  const fault = listener.acceptChannel(opening, PROTOCOL)
  assert.ok('reason' in fault && fault.reason === 'replay' && !fault.isHostile)
})

test('channels overtake one another when they begin, within bounds, and each begins once', () => {
  const { dialler, listener } = createSessionPair()
  const openings = Array.from({ length: CHANNELS_AHEAD_MAX + 2 }, () =>
    frameOf(dialler.openChannel().seal(openingOf(PROTOCOL))),
  )
  const at = (i: number): string => {
    const opening = openings[i]
    assert.ok(opening !== undefined)
    const accepted = listener.acceptChannel(opening, PROTOCOL)
    return 'reason' in accepted ? accepted.reason : 'accepted'
  }
  assert.equal(at(CHANNELS_AHEAD_MAX + 1), 'replay')
  assert.equal(at(CHANNELS_AHEAD_MAX), 'accepted')
  for (const i of [7, 0, 200]) {
    assert.equal(at(i), 'accepted')
    assert.equal(at(i), 'replay')
  }
  assert.equal(at(CHANNELS_AHEAD_MAX + 1), 'accepted')
})

test('the keys of channels are replaced too, and the session counts it', () => {
  for (const channel of [{ frames: 2 }, { bytes: 20 }, { ageMs: 20 }]) {
    const pair = createSessionPair({ rekey: { channel } })
    const [ours, theirs] = channelOf(pair)
    for (let i = 0; i < 50; i++) {
      pair.clock.advance(10)
      assert.equal(said(theirs.open(frameOf(ours.seal(text('0123456789'))))), '0123456789')
    }
    assert.ok(pair.dialler.rekeys >= 24 && pair.dialler.rekeys <= 26, JSON.stringify(channel))
    assert.equal(pair.listener.rekeys, pair.dialler.rekeys)
    assert.equal(said(ours.open(frameOf(theirs.seal(text('back'))))), 'back')
  }
})

test('frames cannot be cut out where a key is replaced', () => {
  const [ours, theirs] = channelOf(createSessionPair({ rekey: { channel: { frames: 2 } } }))
  const frames = ['1', '2', '3', '4', '5'].map(body => frameOf(ours.seal(text(body))))
  const at = (i: number): string => {
    const frame = frames[i]
    assert.ok(frame !== undefined)
    return said(theirs.open(frame))
  }
  assert.equal(at(0), '1')
  // '2' and '3' are the only frames under their key, '4' is the first under the next.
  assert.equal(at(3), 'replay: a sealed frame is missing')
  assert.equal(at(1), '2')
  assert.equal(at(2), '3')
  assert.equal(at(3), '4')
})

test('a closed channel, and every channel of a closed session, seals and opens nothing', () => {
  const pair = createSessionPair()
  const [ours, theirs] = channelOf(pair)
  const frame = frameOf(ours.seal(text('x')))
  theirs.close()
  assert.match(said(theirs.open(frame)), /^stopping/)
  pair.dialler.close()
  assert.ok(ours.isClosed)
  assert.throws(() => ours.seal(text('x')), { code: 'PROTOCOL_SESSION_CLOSED' })
  assert.match(said(ours.open(frame)), /^stopping/)
  pair.listener.close()
  assert.deepEqual(pair.listener.acceptChannel(frame, PROTOCOL), {
    reason: 'stopping',
    what: 'the session has ended',
    isHostile: false,
  })
})

test('a seal says which session and channel it is of', () => {
  const { dialler } = createSessionPair()
  const channel = dialler.openChannel()
  channel.seal(openingOf(PROTOCOL))
  const seal = decodeSeal(frameOf(channel.seal(text('x'))).signature)
  assert.ok(seal !== undefined)
  assert.deepEqual([toHex(seal.session), seal.channel, seal.counter], [toHex(dialler.id), 1, 1])
})

test('no key sees an IV twice, through rekeys, channels and resumptions', t => {
  // oxlint-disable-next-line typescript/unbound-method -- called with each key as its `this`
  const beginSeal = Aead.prototype.beginSeal
  const seen = new Set<string>()
  const probe = new Uint8Array(12).fill(0xfe)
  const nothing = new Uint8Array(0)
  let frames = 0
  let begun = 0
  const method = mock.method(
    Aead.prototype,
    'beginSeal',
    function (this: Aead, iv: Uint8Array, associated: Uint8Array) {
      // What a key makes of zeros under an IV that nothing else uses tells keys apart, not objects.
      const key = toHex(beginSeal.call(this, probe, nothing).seal(new Uint8Array(16)).ciphertext)
      const ivText = toHex(iv)
      const made = beginSeal.call(this, iv, associated)
      begun++
      // What was only begun has used nothing up: the same IV may be begun again, where a key was replaced meanwhile.
      const seal = made.seal.bind(made)
      made.seal = plaintext => {
        const use = `${key} ${ivText}`
        if (ivText.endsWith('f'.repeat(16))) assert.equal(toHex(plaintext), '00'.repeat(32))
        else {
          assert.ok(!seen.has(use), `key and IV came twice: ${use}`)
          seen.add(use)
          frames++
        }
        return seal(plaintext)
      }
      return made
    },
  )
  t.after(() => method.mock.restore())
  for (let seed = 0; seed < 60; seed++) {
    const random = seededRandom(seed)
    const limits = () => ({ frames: 1 + (random.uint32() % 9), bytes: 50 + (random.uint32() % 500), ageMs: 100 })
    for (let resumptions = 0; resumptions < 3; resumptions++) {
      // A resumption makes new secrets for the same session, and every counter begins anew.
      const rekey = { control: limits(), channel: limits() }
      const { dialler, listener, clock } = createSessionPair({ seed: seed * 3 + resumptions, resumptions, rekey })
      const channels: SealedChannel[] = []
      for (let i = 0; i < 120; i++) {
        const session = random.uint32() % 2 === 0 ? dialler : listener
        const action = random.uint32() % 9
        if (action === 0)
          channels.push(...channelOf({ dialler: session, listener: session === dialler ? listener : dialler }))
        else if (action < 3) void session.sealControl(FRAME_TYPES.ping, new Uint8Array(random.uint32() % 60))
        else if (action === 3) clock.advance(random.uint32() % 80)
        else if (action === 4) channels[random.uint32() % (channels.length + 1)]?.beginNext()
        else channels[random.uint32() % (channels.length + 1)]?.seal(new Uint8Array(random.uint32() % 60))
      }
    }
  }
  assert.ok(frames > 10_000, `only ${frames} frames`)
  assert.ok(begun > frames + 100, 'some were begun for nothing')
})
