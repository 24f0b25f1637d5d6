/** The control frames of a session: what is taken, what is refused, and what a refusal leaves behind. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, type Random, seededRandom, silentLogger } from '#base'
import { ed25519Signer } from '#crypto'
import { CONTROL_BYTES_MAX, FRAME_TYPES } from '#wire'
import {
  createSessionPair,
  frameOf,
  memoryReplayStore,
  parseFrame,
  replayFilter,
  SESSION_ID,
} from '../../test/support/session-pair.ts'
import { CONTROL_REKEY_BYTES, FRAME_AGE_MS_MAX, OLD_KEY_MS_MAX, REKEY_MS, REORDER_WINDOW } from './limits.ts'
import { ReplayFilter } from './replay-filter.ts'
import { SecureSession } from './secure-session.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

function seal(session: SecureSession, body: Uint8Array, type: number = FRAME_TYPES.ping): Uint8Array {
  const frame = session.sealControl(type, body)
  assert.ok(frame instanceof Uint8Array)
  return frame
}

/** What the session says to these bytes: the body, or why not. */
function open(session: SecureSession, bytes: Uint8Array): string {
  const opened = session.openControl(frameOf(bytes))
  return 'body' in opened ? new TextDecoder().decode(opened.body) : `${opened.reason}: ${opened.what}`
}

function shuffle<T>(items: readonly T[], random: Random): T[] {
  const out = [...items]
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.uint32() % (i + 1)
    const [a, b] = [out[i], out[j]]
    if (a !== undefined && b !== undefined) [out[i], out[j]] = [b, a]
  }
  return out
}

test('both sides hear what the other says, and nobody between does', () => {
  const { dialler, listener } = createSessionPair()
  for (const [from, to] of [
    [dialler, listener],
    [listener, dialler],
  ] as const) {
    const bytes = seal(from, text('a secret thing'))
    assert.ok(!Buffer.from(bytes).includes('secret'))
    assert.equal(open(to, bytes), 'a secret thing')
    assert.equal(open(to, seal(from, new Uint8Array(0))), '')
  }
})

test('every bit of a control frame is covered, and a forged frame uses nothing up', () => {
  const { dialler, listener } = createSessionPair()
  const bytes = seal(dialler, text('bits'))
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const changed = bytes.slice()
    changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
    const frame = parseFrame(changed)
    if (!('code' in frame)) assert.ok('reason' in listener.openControl(frame), `bit ${bit}`)
  }
  assert.equal(open(listener, bytes), 'bits')
})

test('a frame comes once, to one side, in one session', () => {
  const { dialler, listener, clock } = createSessionPair()
  const bytes = seal(dialler, text('once'))
  assert.match(open(dialler, bytes), /^authentication/)
  assert.match(open(createSessionPair({ seed: 2, clock }).listener, bytes), /^authentication/)
  assert.match(open(createSessionPair({ resumptions: 1, clock }).listener, bytes), /^replay: a frame of an epoch/)
  assert.equal(open(listener, bytes), 'once')
  assert.match(open(listener, bytes), /^replay: a frame that came before/)
})

test('frames in any order within the window are taken once each', () => {
  for (let seed = 0; seed < 40; seed++) {
    const random = seededRandom(seed)
    const rekey = { control: { frames: 1 + (random.uint32() % 40) } }
    const { dialler, listener } = createSessionPair({ seed, rekey })
    for (let round = 0; round < 4; round++) {
      const count = 1 + (random.uint32() % 12)
      const frames = Array.from(
        { length: count },
        (_, i) => [seal(dialler, text(`${round}.${i}`)), `${round}.${i}`] as const,
      )
      for (const [bytes, body] of shuffle(frames, random)) {
        const said = open(listener, bytes)
        // A sender that replaces its key at every frame or two can get further ahead than receivers follow.
        if (!said.startsWith('replay: a frame of an epoch')) assert.equal(said, body, `seed ${seed}`)
        else assert.ok(rekey.control.frames <= 3, `seed ${seed}`)
        assert.notEqual(open(listener, bytes), body, `seed ${seed}`)
      }
    }
  }
})

test('what lies outside the window is refused, behind it and ahead of it', () => {
  const { dialler, listener } = createSessionPair()
  const frames = Array.from({ length: 2 * REORDER_WINDOW + 1 }, (_, i) => seal(dialler, text(String(i))))
  const at = (i: number): string => open(listener, frames[i] ?? new Uint8Array(0))
  assert.match(at(REORDER_WINDOW), /^replay: a frame from beyond/)
  assert.equal(at(REORDER_WINDOW - 1), String(REORDER_WINDOW - 1))
  assert.equal(at(0), '0')
  assert.equal(at(2 * REORDER_WINDOW - 1), String(2 * REORDER_WINDOW - 1))
  assert.match(at(REORDER_WINDOW - 2), /^replay: a frame from behind/)
  assert.equal(at(REORDER_WINDOW), String(REORDER_WINDOW))
})

test('a frame is refused 30 s before and after its time on our clock', () => {
  for (const offset of [0, 90_000, -90_000]) {
    const theirs = new ManualClock(1_800_000_000_000 + offset)
    const { listener, clock } = createSessionPair()
    const { dialler } = createSessionPair({ clock: theirs })
    listener.setClockOffset(offset)
    const late = seal(dialler, text('late'))
    const tooLate = seal(dialler, text('too late'))
    theirs.advance(2 * FRAME_AGE_MS_MAX + 1)
    const tooEarly = seal(dialler, text('too early'))
    clock.advance(FRAME_AGE_MS_MAX)
    assert.equal(open(listener, late), 'late')
    assert.match(open(listener, tooEarly), /^replay: a frame that is more than 30 s/)
    clock.advance(1)
    const fault = listener.openControl(frameOf(tooLate))
    assert.ok('reason' in fault && fault.reason === 'replay' && !fault.isHostile)
    assert.equal(open(listener, tooEarly), 'too early')
  }
})

test('what the filter knows is refused and is nobody’s fault', () => {
  const clock = new ManualClock(1_800_000_000_000)
  const { dialler, signers } = createSessionPair({ clock })
  const random = seededRandom(1)
  random.bytes(64)
  const secrets = { dialler: random.bytes(32), listener: random.bytes(32) }
  const replay = replayFilter(clock)
  const ear = (): SecureSession =>
    new SecureSession(
      { clock, random: seededRandom(9), replay },
      {
        id: SESSION_ID,
        role: 'listener',
        signer: signers.listener,
        peerKey: signers.dialler.publicKey,
        keys: { send: secrets.listener, receive: secrets.dialler },
        resumptions: 0,
      },
    )
  const bytes = seal(dialler, text('x'))
  assert.equal(open(ear(), bytes), 'x')
  // Another end of the same session that has lost its window: only the filter remembers.
  const fault = ear().openControl(frameOf(bytes))
  assert.deepEqual(fault, { reason: 'replay', what: 'the replay filter knows it', isHostile: false })
})

test('a duplicate, a bad tag and a bad signature are hostile', () => {
  const { dialler, listener } = createSessionPair()
  const bytes = seal(dialler, text('x'))
  const badTag = bytes.slice()
  badTag[badTag.length - 1] = (badTag.at(-1) ?? 0) ^ 1
  const badSignature = bytes.slice()
  badSignature[40] = (badSignature[40] ?? 0) ^ 1
  for (const [changed, what] of [
    [badTag, 'the tag of a frame does not fit'],
    [badSignature, 'the signature of a frame does not hold'],
  ] as const) {
    assert.deepEqual(listener.openControl(frameOf(changed)), { reason: 'authentication', what, isHostile: true })
  }
  assert.equal(open(listener, bytes), 'x')
  const again = listener.openControl(frameOf(bytes))
  assert.ok('reason' in again && again.reason === 'replay' && again.isHostile)
})

test('keys are replaced by frames, by bytes and by age, each direction for itself', () => {
  for (const control of [{ frames: 3 }, { bytes: 400 }, { ageMs: 30 }]) {
    const { dialler, listener, clock } = createSessionPair({ rekey: { control } })
    for (let i = 0; i < 12; i++) {
      clock.advance(10)
      assert.equal(open(listener, seal(dialler, new Uint8Array(100).fill(97))), 'a'.repeat(100))
    }
    assert.equal(dialler.epoch, 3, JSON.stringify(control))
    assert.equal(dialler.rekeys, 3)
    assert.equal(listener.epoch, 0)
    assert.equal(listener.rekeys, 3)
    assert.equal(open(dialler, seal(listener, text('back'))), 'back')
  }
})

test('without other limits a key lives ten minutes, and an idle one stays', () => {
  const { dialler, listener, clock } = createSessionPair()
  clock.advance(100 * REKEY_MS)
  assert.equal(open(listener, seal(dialler, text('first'))), 'first')
  assert.equal(dialler.rekeys, 0)
  clock.advance(REKEY_MS - 1)
  assert.equal(open(listener, seal(dialler, text('second'))), 'second')
  assert.equal(dialler.rekeys, 0)
  clock.advance(1)
  assert.equal(open(listener, seal(dialler, text('third'))), 'third')
  assert.equal(dialler.rekeys, 1)
  assert.ok(CONTROL_REKEY_BYTES > CONTROL_BYTES_MAX)
})

test('a frame that a newer key overtook is opened for ten seconds, then its key is gone', () => {
  const { dialler, listener, clock } = createSessionPair({ rekey: { control: { frames: 2 } } })
  const frames = ['a', 'b', 'c', 'd'].map(body => seal(dialler, text(body)))
  const at = (i: number): string => open(listener, frames[i] ?? new Uint8Array(0))
  assert.equal(at(2), 'c')
  assert.equal(at(0), 'a')
  clock.advance(OLD_KEY_MS_MAX)
  assert.match(at(1), /^replay: a frame of an epoch/)
  assert.equal(at(3), 'd')
})

test('a receiver follows a sender four keys, and no further', () => {
  const { dialler, listener } = createSessionPair({ rekey: { control: { frames: 1 } } })
  const frames = Array.from({ length: 7 }, (_, i) => seal(dialler, text(String(i))))
  const at = (i: number): string => open(listener, frames[i] ?? new Uint8Array(0))
  assert.match(at(5), /^replay: a frame of an epoch/)
  assert.equal(at(4), '4')
  assert.equal(at(0), '0')
  assert.equal(at(5), '5')
  assert.match(at(0), /^replay/)
})

test('a session without numbers for keys left asks for a resumption', () => {
  const { dialler } = createSessionPair({ rekey: { control: { frames: 1 } }, resumptions: 0xffff })
  // Signatures are not what this is about, and would be most of its time.
  dialler.setSigner({ publicKey: new Uint8Array(32), sign: () => new Uint8Array(64) })
  for (let i = 0; i < 0x1_0000; i++) void dialler.sealControl(FRAME_TYPES.ping, new Uint8Array(0))
  assert.equal(dialler.epoch, 0xffff_ffff)
  assert.throws(() => dialler.sealControl(FRAME_TYPES.ping, new Uint8Array(0)), { code: 'PROTOCOL_SESSION_EXHAUSTED' })
})

test('frames leave in the order of the calls, however slow each signature is', async () => {
  const { dialler, listener, signers } = createSessionPair()
  const waiting: (() => void)[] = []
  dialler.setSigner({
    publicKey: signers.dialler.publicKey,
    sign: message => new Promise(resolve => waiting.push(() => resolve(signers.dialler.sign(message)))),
  })
  const order: string[] = []
  const said = ['a', 'b', 'c'].map(async body => {
    const frame = await dialler.sealControl(FRAME_TYPES.ping, text(body))
    order.push(open(listener, frame))
  })
  // Back to a key that answers at once: it waits for those before it all the same.
  dialler.setSigner(signers.dialler)
  said.push(
    (async () => {
      order.push(open(listener, await dialler.sealControl(FRAME_TYPES.ping, text('d'))))
    })(),
  )
  for (const sign of waiting.reverse()) sign()
  await Promise.all(said)
  assert.deepEqual(order, ['a', 'b', 'c', 'd'])
  assert.ok(dialler.sealControl(FRAME_TYPES.ping, text('e')) instanceof Uint8Array)
})

test('a signer that fails loses its frame and no other', async () => {
  const { dialler, listener, signers } = createSessionPair()
  const failing = { publicKey: signers.dialler.publicKey, sign: () => Promise.reject(new Error('the token is gone')) }
  dialler.setSigner(failing)
  const lost = dialler.sealControl(FRAME_TYPES.ping, text('lost'))
  dialler.setSigner(signers.dialler)
  const kept = dialler.sealControl(FRAME_TYPES.ping, text('kept'))
  await assert.rejects(async () => lost, /the token is gone/)
  assert.equal(open(listener, await kept), 'kept')
})

test('a key is rotated while both sides talk', () => {
  const { dialler, listener } = createSessionPair()
  const next = ed25519Signer(new Uint8Array(32).fill(77))
  const rotation = seal(dialler, text('rotation'))
  dialler.setSigner(next)
  const after = seal(dialler, text('after'))
  // On its way when the rotation happened: addressed to the old key.
  assert.equal(open(dialler, seal(listener, text('crossed'))), 'crossed')
  assert.equal(open(listener, rotation), 'rotation')
  assert.match(open(listener, after), /^authentication: the signature/)
  listener.setPeerKey(next.publicKey)
  assert.equal(open(listener, after), 'after')
  assert.equal(open(dialler, seal(listener, text('to the new key'))), 'to the new key')
})

test('after a rotation the old key says nothing more', () => {
  const { dialler, listener } = createSessionPair()
  const late = seal(dialler, text('late'))
  listener.setPeerKey(ed25519Signer(new Uint8Array(32).fill(77)).publicKey)
  assert.match(open(listener, late), /^authentication: the signature/)
})

test('what is no control frame is refused before anything is decrypted', () => {
  const { dialler, listener } = createSessionPair()
  const frame = frameOf(seal(dialler, text('x')))
  for (const other of [
    { ...frame, isSealed: true },
    { ...frame, payload: frame.payload.subarray(0, 15) },
  ]) {
    assert.deepEqual(listener.openControl(other), { reason: 'malformed', what: 'not a control frame', isHostile: true })
  }
})

test('a body that no frame takes is an error of ours', () => {
  const { dialler, listener } = createSessionPair()
  assert.throws(() => dialler.sealControl(FRAME_TYPES.ping, new Uint8Array(CONTROL_BYTES_MAX - 15)), {
    code: 'PROTOCOL_MESSAGE_TOO_LONG',
  })
  const longest = seal(dialler, new Uint8Array(CONTROL_BYTES_MAX - 16).fill(97))
  assert.equal(open(listener, longest).length, CONTROL_BYTES_MAX - 16)
})

test('a closed session seals and opens nothing', () => {
  const { dialler, listener } = createSessionPair()
  const bytes = seal(dialler, text('x'))
  listener.close()
  listener.close()
  assert.match(open(listener, bytes), /^stopping/)
  assert.throws(() => listener.sealControl(FRAME_TYPES.ping, text('x')), { code: 'PROTOCOL_SESSION_CLOSED' })
  assert.throws(() => listener.openChannel(), { code: 'PROTOCOL_SESSION_CLOSED' })
})

test('a frame captured before a restart is refused after it', () => {
  const { dialler, signers, clock } = createSessionPair()
  const random = seededRandom(1)
  random.bytes(64)
  const keys = { receive: random.bytes(32), send: random.bytes(32) }
  const store = memoryReplayStore()
  const boot = (): SecureSession =>
    new SecureSession(
      { clock, random: seededRandom(9), replay: new ReplayFilter({ clock, random, store, log: silentLogger }) },
      {
        id: SESSION_ID,
        role: 'listener',
        signer: signers.listener,
        peerKey: signers.dialler.publicKey,
        keys,
        resumptions: 0,
      },
    )
  const bytes = seal(dialler, text('x'))
  assert.equal(open(boot(), bytes), 'x')
  // Killed, and started again: nothing was flushed.
  clock.advance(1000)
  assert.match(open(boot(), bytes), /^replay: the replay filter/)
})
