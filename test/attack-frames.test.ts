/**
 * Bits that flip on the way, in every field of every kind of frame, against a real node. Before the session, and for
 * what a signature or a tag covers, the connection ends; where time alone is off the frame is left out. Nothing that was
 * changed is ever acted on.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { concatBytes } from '#base'
import { openSealedStream } from '#protocol'
import {
  decodeBody,
  encodeBody,
  encodeStageStart,
  FRAME_TYPES,
  CONTROL_SCHEMAS,
  PROTOCOLS,
  type RefusalReason,
} from '#wire'
import { type Member, useAttackedNode } from './support/attacked-node.ts'
import { flipped, refusalOf } from './support/forged-frames.ts'
import type { NetStream } from '../src/net/byte-stream.ts'
import { dataFrame, openingFrame } from './support/raw-carried.ts'
import { type RawPeer, tapped } from './support/raw-peer.ts'
import { within } from './support/net-hosts.ts'

const node = useAttackedNode()

/** A field of the header: a bit in it, and what the node says when that bit is not what the sender wrote. */
type Flip = {
  readonly field: string
  readonly byte: number
  readonly bit: number
  readonly reasons: readonly Outcome[]
}
type Outcome = RefusalReason | 'left out'

const SIGNED_FIELDS: readonly Flip[] = [
  { field: 'magic', byte: 0, bit: 7, reasons: ['malformed'] },
  { field: 'magic', byte: 1, bit: 0, reasons: ['malformed'] },
  // Before the session a peer of another framing is told so.
  { field: 'version', byte: 2, bit: 0, reasons: ['version', 'malformed'] },
  { field: 'version', byte: 2, bit: 7, reasons: ['version', 'malformed'] },
  { field: 'type', byte: 3, bit: 7, reasons: ['malformed'] },
  { field: 'type', byte: 3, bit: 5, reasons: ['malformed', 'authentication'] },
  { field: 'length', byte: 4, bit: 7, reasons: ['malformed'] },
  // One byte more or less: the next frame is cut at the wrong place, or this one's signature is over other bytes.
  { field: 'length', byte: 7, bit: 0, reasons: ['authentication', 'malformed'] },
  { field: 'time', byte: 8, bit: 7, reasons: ['malformed'] },
  { field: 'time', byte: 10, bit: 0, reasons: ['authentication', 'left out'] },
  { field: 'time', byte: 15, bit: 0, reasons: ['authentication'] },
  { field: 'epoch', byte: 16, bit: 7, reasons: ['replay'] },
  { field: 'epoch', byte: 19, bit: 0, reasons: ['replay', 'authentication'] },
  { field: 'sequence', byte: 20, bit: 7, reasons: ['malformed'] },
  { field: 'sequence', byte: 24, bit: 0, reasons: ['replay'] },
  { field: 'sequence', byte: 27, bit: 0, reasons: ['replay', 'authentication'] },
  { field: 'random', byte: 28, bit: 7, reasons: ['authentication'] },
  { field: 'random', byte: 31, bit: 0, reasons: ['authentication'] },
  { field: 'signature', byte: 32, bit: 0, reasons: ['authentication'] },
  { field: 'signature', byte: 64, bit: 3, reasons: ['authentication'] },
  { field: 'signature', byte: 95, bit: 7, reasons: ['authentication'] },
  { field: 'payload', byte: 96, bit: 0, reasons: ['authentication', 'malformed'] },
]

/** Nothing is allowed to come of it but one of the refusals that are due. */
function assertDue(flip: Flip, outcome: Outcome, by: string): void {
  const where = `${flip.field}, byte ${flip.byte}, bit ${flip.bit}`
  assert.ok(flip.reasons.includes(outcome), `${where}: ${outcome} by ${by} instead of ${flip.reasons.join(' or ')}`)
}

/** One bit of one frame that leads to the session. `index` counts them from the HELLO. */
async function flipBefore(peer: RawPeer, index: number, flip: Flip): Promise<void> {
  const control = await (await peer.dial(node.address)).control({
    // The frame as it was follows the changed one: it completes one whose length grew, and is not taken after a refusal.
    tamper: (frame, i) => (i === index ? [flipped(frame, flip.byte, flip.bit), frame] : i < index ? [frame] : []),
  })
  const isEstablished = control.established.then(
    () => true,
    () => false,
  )
  if (await isEstablished) {
    // Nothing but the changed frame was lost: the true one is the session's first.
    assertDue(flip, 'left out', 'peer')
    control.stream.abort(new Error('done'))
    return
  }
  const { reason, by } = await refusalOf(control)
  assertDue(flip, reason, by)
}

/** Failed authentications of an address are free a few times, and a success forgives them. */
const FREE_FAILURES = 4

/** One bit of each field: the same code reads it in every frame, so all bits are for the first and the last kind alone. */
const ONE_EACH = SIGNED_FIELDS.filter(({ field }, i) => SIGNED_FIELDS.findIndex(other => other.field === field) === i)

async function flipAll(index: number): Promise<void> {
  for (const [i, flip] of (index === 0 ? SIGNED_FIELDS : ONE_EACH).entries()) {
    await flipBefore(await node.raw(), index, flip)
    if (i % FREE_FAILURES === FREE_FAILURES - 1) leave(await node.member())
  }
  await node.survives()
}

function leave({ raw }: Member): void {
  raw.connection.abort(new Error('done'))
}

async function ping(member: Member, id: number): Promise<Uint8Array> {
  const session = member.control.link.session
  assert.ok(session !== undefined)
  return session.sealControl(FRAME_TYPES.ping, encodeBody({ id }))
}

/** Reads until a PONG has come, or the link has ended. */
async function nextPong({ control }: Member): Promise<number | undefined> {
  for (;;) {
    const message = await control.next().catch(() => undefined)
    if (message === undefined) return undefined
    if (message.type !== FRAME_TYPES.pong) continue
    const decoded = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.pong], message.body)
    return 'body' in decoded ? decoded.body.id : undefined
  }
}

describe('attack: bits that flip', () => {
  it('bits that flip in a HELLO', async () => flipAll(0))
  it('bits that flip in the first message of the handshake', async () => flipAll(1))
  it('bits that flip in the last message of the handshake', async () => flipAll(2))
  it('bits that flip in the proof of the swarm secret', async () => flipAll(3))

  it('bits that flip in a RESUME', async () => {
    for (const flip of SIGNED_FIELDS.filter(({ field }) => ['type', 'epoch', 'signature', 'payload'].includes(field))) {
      const peer = await node.raw()
      leave(await node.member({ peer }))
      await flipBefore(peer, 1, flip)
      // The old session is not lost by what somebody else made of it: the next one comes about.
      leave(await node.member({ peer }))
    }
    await node.survives()
  })

  it('bits that flip in a frame of the session', async () => {
    for (const flip of SIGNED_FIELDS) {
      const member = await node.member()
      const [changed, next] = [await ping(member, 7), await ping(member, 8)]
      member.control.stream.send(flipped(changed, flip.byte, flip.bit))
      member.control.stream.send(next)
      const answered = await nextPong(member)
      if (answered === undefined) {
        const { reason, by } = await refusalOf(member.control)
        assertDue(flip, reason, by)
      } else {
        // Nobody answers the frame that was changed; the next one arrives.
        assert.equal(answered, 8)
        assertDue(flip, 'left out', 'peer')
        await node.hears(member.peer.identity.peer, 'replay')
      }
      leave(member)
    }
    await node.survives()
  })

  const SEALED_FIELDS: readonly (readonly [string, number, number])[] = [
    ['magic', 0, 0],
    ['version', 2, 1],
    ['type', 3, 0],
    ['the sealed bit', 3, 7],
    ['length', 4, 7],
    ['length', 7, 0],
    ['time', 15, 0],
    ['epoch', 19, 0],
    ['sequence', 27, 0],
    ['random', 31, 7],
    ['tag', 32, 0],
    ['tag', 47, 7],
    ['session', 48, 0],
    ['session', 63, 7],
    ['channel', 64, 7],
    ['channel', 67, 1],
    ['counter', 75, 0],
    ['spare', 76, 0],
    ['spare', 95, 7],
    ['payload', 96, 0],
  ]

  for (const [what, index] of [
    ['bits that flip in the opening frame of a stream', 0],
    ['bits that flip in a sealed frame of a stream', 1],
  ] as const) {
    it(what, async () => {
      for (const [field, byte, bit] of SEALED_FIELDS) {
        const member = await node.member()
        const raw = await member.raw.stream(PROTOCOLS.stage)
        await sealedStream(member, raw, (frame, i) => [i === index ? flipped(frame, byte, bit) : frame])
        await assert.rejects(within(`the reset after ${field}`, drain(raw)), { code: 'STREAM_RESET' }, field)
        const kinds = node.audited(member.peer.identity.peer).map(({ kind }) => kind)
        assert.ok(kinds.length > 0, `${field} ${byte}: nothing in the audit log`)
        leave(member)
      }
      await node.survives()
    })
  }
})

/** Opens a stage stream in the session, with somebody between its frames and the wire. */
async function sealedStream(
  { control }: Member,
  raw: NetStream,
  tamper: (frame: Uint8Array, index: number) => readonly Uint8Array[],
): Promise<void> {
  const session = control.link.session
  assert.ok(session !== undefined)
  const stream = openSealedStream({ stream: tapped(raw, { send: tamper }), session, onFault: () => undefined })
  stream.send(concatBytes([openingFrame(), dataFrame(encodeStageStart('control'))]))
  stream.send(dataFrame(new Uint8Array(8)))
}

async function drain(stream: NetStream): Promise<void> {
  for await (const _ of stream.received);
}
