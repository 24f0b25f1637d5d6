/**
 * Frames as bytes, once and for all: `test/fixtures/frames`. Each is taken apart here by the words of
 * `docs/reference/protocol.md` alone, with other code than ours (noble's, and none of `#wire`), and made again by ours.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gcm } from '@noble/ciphers/aes.js'
import { ed25519 } from '@noble/curves/ed25519.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { z } from 'zod'
import { fromHex, ManualClock, type Random, toHex } from '#base'
import { ed25519Signer } from '#crypto'
import { frameOf, replayFilter } from '../../test/support/session-pair.ts'
import { replayKey } from './replay-filter.ts'
import type { SealedChannel } from './sealed-channel.ts'
import { SecureSession } from './secure-session.ts'
import { signFrame } from './signed-frames.ts'

type Role = 'dialler' | 'listener'

const nonceSchema = z.object({ timeMs: z.number(), epoch: z.number(), sequence: z.number(), random: z.number() })
const pair = z.object({ dialler: z.string(), listener: z.string() })
const role = z.enum(['dialler', 'listener'])
const sessionFields = { session: z.string(), resumptions: z.number(), secrets: pair, framesPerKey: z.number() }

const signed = z
  .object({
    senderSeed: z.string(),
    sender: z.string(),
    recipient: z.string(),
    session: z.string(),
    type: z.number(),
    nonce: nonceSchema,
    payload: z.string(),
    frame: z.string(),
    replayKey: z.string(),
  })
  .parse(vectors('signed'))

const control = z
  .object({
    ...sessionFields,
    seeds: pair,
    frames: z.array(
      z.object({ from: role, type: z.number(), nonce: nonceSchema, body: z.string(), frame: z.string() }),
    ),
  })
  .parse(vectors('control'))

const sealed = z
  .object({
    ...sessionFields,
    protocol: z.string(),
    frames: z.array(
      z.object({
        from: role,
        channel: z.number(),
        counter: z.number(),
        nonce: nonceSchema,
        plaintext: z.string(),
        frame: z.string(),
      }),
    ),
  })
  .parse(vectors('sealed'))

type Nonce = z.infer<typeof nonceSchema>

function vectors(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../test/fixtures/frames/${name}.json`, import.meta.url), 'utf8'))
}

/** Big-endian, so many hexadecimal digits. */
const number = (value: number, digits: number): string => BigInt(value).toString(16).padStart(digits, '0')

function prefixOf(typeByte: number, length: number, { timeMs, epoch, sequence, random }: Nonce): string {
  const head = `5a4501${number(typeByte, 2)}${number(length, 8)}`
  return head + number(timeMs, 16) + number(epoch, 8) + number(sequence, 16) + number(random, 8)
}

const withLength = (hex: string): string => number(hex.length / 2, 8) + hex
const DOMAIN = toHex(new TextEncoder().encode('koinon/frame/1'))

function isSigned(frame: string, context: { sender: string; recipient: string; session: string }): boolean {
  const parts = [DOMAIN, context.sender, context.recipient, context.session, frame.slice(0, 64), frame.slice(192)]
  const message = fromHex(parts.map(withLength).join(''))
  return ed25519.verify(fromHex(frame.slice(64, 192)), message, fromHex(context.sender))
}

const info = (value: string, more = ''): Uint8Array => fromHex(toHex(new TextEncoder().encode(value)) + more)

// oxlint-disable-next-line max-params -- what the standard names
function open(key: Uint8Array, sequence: number, associated: string, ciphertextAndTag: string): string {
  const iv = fromHex(`00000000${number(sequence, 16)}`)
  return toHex(gcm(key, iv, fromHex(associated)).decrypt(fromHex(ciphertextAndTag)))
}

/** Noise's REKEY, so many times. */
function rekeyed(key: Uint8Array, times: number): Uint8Array {
  const iv = fromHex(`00000000${'ff'.repeat(8)}`)
  let last: Uint8Array = key
  for (let i = 0; i < times; i++) last = gcm(last, iv).encrypt(new Uint8Array(32)).subarray(0, 32)
  return last
}

/** The 32-byte secrets of a channel's two directions. */
function channelSecrets(channel: number): Record<Role, Uint8Array> {
  const opener = channel % 2 === 1 ? 'dialler' : 'listener'
  const salt = fromHex(sealed.session)
  let link: Uint8Array = hkdf(
    sha256,
    fromHex(sealed.secrets.dialler + sealed.secrets.listener),
    salt,
    info(`koinon/channels/1 ${opener}`),
    32,
  )
  for (let at = opener === 'dialler' ? 1 : 2; ; at += 2) {
    const bytes = hkdf(sha256, link, salt, info('koinon/channel/1', number(at, 8)), 96)
    if (at === channel) return { dialler: bytes.subarray(32, 64), listener: bytes.subarray(64) }
    link = bytes.subarray(0, 32)
  }
}

/** Random numbers of a session: the ones in the vectors, then zeros. */
function scripted(numbers: readonly number[]): Random {
  return {
    uint32: () => 0,
    bytes: count =>
      fromHex(
        numbers
          .map(value => number(value, 8))
          .join('')
          .padEnd(2 * count, '0')
          .slice(0, 2 * count),
      ),
  }
}

function sessionOf(
  own: Role,
  vector: {
    readonly session: string
    readonly resumptions: number
    readonly secrets: Record<Role, string>
    readonly framesPerKey: number
  },
  more: { readonly clock: ManualClock; readonly random: Random },
): SecureSession {
  const other = own === 'dialler' ? 'listener' : 'dialler'
  const { clock, random } = more
  const limits = { frames: vector.framesPerKey }
  const signer = (name: Role) => ed25519Signer(fromHex(control.seeds[name]))
  return new SecureSession(
    { clock, random, replay: replayFilter(clock) },
    {
      id: fromHex(vector.session),
      role: own,
      signer: signer(own),
      peerKey: signer(other).publicKey,
      keys: { send: fromHex(vector.secrets[own]), receive: fromHex(vector.secrets[other]) },
      resumptions: vector.resumptions,
      rekey: { control: limits, channel: limits },
    },
  )
}

const randomsOf = (frames: readonly { readonly from: Role; readonly nonce: Nonce }[], from: Role): Random =>
  scripted(frames.filter(frame => frame.from === from).map(frame => frame.nonce.random))

test('a signed frame is read by other code, and made by ours', () => {
  const { frame, payload, type, nonce } = signed
  assert.equal(frame.slice(0, 64), prefixOf(type, payload.length / 2, nonce))
  assert.equal(frame.slice(192), payload)
  assert.ok(isSigned(frame, signed))
  const signer = ed25519Signer(fromHex(signed.senderSeed))
  const [sender, recipient, session] = [signed.sender, signed.recipient, signed.session].map(fromHex)
  assert.ok(sender !== undefined && recipient !== undefined && session !== undefined)
  const context = { sender, recipient, session }
  const made = signFrame({ type, payload: fromHex(payload), nonce, context, signer })
  assert.ok(made instanceof Uint8Array)
  assert.equal(toHex(made), frame)
  const key = signed.sender + signed.session + number(nonce.epoch, 8) + number(nonce.sequence, 16)
  assert.equal(signed.replayKey, key)
  assert.equal(toHex(replayKey({ sender, session, epoch: nonce.epoch, sequence: nonce.sequence })), key)
})

test('control frames are opened by other code', () => {
  const publicKeys = {
    dialler: toHex(ed25519.getPublicKey(fromHex(control.seeds.dialler))),
    listener: toHex(ed25519.getPublicKey(fromHex(control.seeds.listener))),
  }
  const counts: Record<Role, number> = { dialler: 0, listener: 0 }
  for (const { from, type, nonce, body, frame } of control.frames) {
    const sequence = counts[from]++
    const rekeys = Math.floor(sequence / control.framesPerKey)
    assert.equal(nonce.sequence, sequence)
    assert.equal(nonce.epoch, control.resumptions * 0x1_0000 + rekeys)
    const prefix = prefixOf(type, body.length / 2 + 16, nonce)
    assert.equal(frame.slice(0, 64), prefix)
    const base = hkdf(sha256, fromHex(control.secrets[from]), fromHex(control.session), info('koinon/control/1'), 32)
    assert.equal(open(rekeyed(base, rekeys), sequence, prefix, frame.slice(192)), body)
    const recipient = publicKeys[from === 'dialler' ? 'listener' : 'dialler']
    assert.ok(isSigned(frame, { sender: publicKeys[from], recipient, session: control.session }))
  }
  assert.deepEqual(counts, { dialler: 4, listener: 1 })
})

test('control frames are made and opened by ours', () => {
  const clock = new ManualClock(0)
  const ends = {
    dialler: sessionOf('dialler', control, { clock, random: randomsOf(control.frames, 'dialler') }),
    listener: sessionOf('listener', control, { clock, random: randomsOf(control.frames, 'listener') }),
  }
  for (const { from, type, nonce, body, frame } of control.frames) {
    clock.advance(nonce.timeMs - clock.now())
    const made = ends[from].sealControl(type, fromHex(body))
    assert.ok(made instanceof Uint8Array)
    assert.equal(toHex(made), frame)
    const opened = ends[from === 'dialler' ? 'listener' : 'dialler'].openControl(frameOf(fromHex(frame)))
    assert.ok('body' in opened)
    assert.equal(toHex(opened.body), body)
  }
})

test('sealed frames are opened by other code', () => {
  const counts = new Map<string, number>()
  for (const { from, channel, counter, nonce, plaintext, frame } of sealed.frames) {
    const direction = `${channel} ${from}`
    const sequence = counts.get(direction) ?? 0
    counts.set(direction, sequence + 1)
    const rekeys = Math.floor(sequence / sealed.framesPerKey)
    assert.deepEqual([counter, nonce.sequence], [sequence, sequence])
    assert.equal(nonce.epoch, sealed.resumptions * 0x1_0000 + rekeys)
    const prefix = prefixOf(0x80 | 20, plaintext.length / 2, nonce)
    const fields = sealed.session + number(channel, 8) + number(sequence, 16) + '00'.repeat(20)
    assert.equal(frame.slice(0, 64), prefix)
    assert.equal(frame.slice(96, 192), fields)
    const key = rekeyed(channelSecrets(channel)[from], rekeys)
    assert.equal(open(key, sequence, prefix + fields, frame.slice(192) + frame.slice(64, 96)), plaintext)
  }
  const opening = toHex(new TextEncoder().encode(`koinon/open/1 ${sealed.protocol}`))
  assert.ok(sealed.frames.filter(frame => frame.counter === 0 && frame.plaintext === opening).length === 3)
})

test('sealed frames are made and opened by ours', () => {
  const clock = new ManualClock(0)
  const ends = {
    dialler: sessionOf('dialler', sealed, { clock, random: randomsOf(sealed.frames, 'dialler') }),
    listener: sessionOf('listener', sealed, { clock, random: randomsOf(sealed.frames, 'listener') }),
  }
  const channels = new Map<string, SealedChannel>()
  for (const { from, channel, nonce, plaintext, frame } of sealed.frames) {
    clock.advance(nonce.timeMs - clock.now())
    const to = from === 'dialler' ? 'listener' : 'dialler'
    const ours = channels.get(`${channel} ${from}`) ?? ends[from].openChannel()
    channels.set(`${channel} ${from}`, ours)
    assert.equal(ours.number, channel)
    assert.equal(toHex(ours.seal(fromHex(plaintext))), frame)
    const theirs = channels.get(`${channel} ${to}`)
    if (theirs === undefined) {
      const accepted = ends[to].acceptChannel(frameOf(fromHex(frame)), sealed.protocol)
      assert.ok(!('reason' in accepted))
      channels.set(`${channel} ${to}`, accepted)
    } else {
      const opened = theirs.open(frameOf(fromHex(frame)))
      assert.ok(opened instanceof Uint8Array)
      assert.equal(toHex(opened), plaintext)
    }
  }
})
