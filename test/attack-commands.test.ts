/**
 * Attacks by commands: without the right, unknown, misshapen, too many; and attachments that are not what was
 * announced. Against a real node.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, systemClock, systemRandom } from '#base'
import { sha256 } from '#crypto'
import { acceptSealedStream, Refusal } from '#protocol'
import { type AttachmentHeader, PROTOCOLS } from '#wire'
import { TRANSFER_BYTES_MAX, TRANSFER_CHUNK_BYTES } from '../src/protocol/limits.ts'
import { chunkMessage, TransferReader } from '../src/protocol/transfer/messages.ts'
import { type Member, useAttackedNode } from './support/attacked-node.ts'
import { isRefused } from './support/forged-frames.ts'
import { carriedByListener } from './support/raw-carried.ts'
import type { CommandAnswer } from './support/raw-commands.ts'
import type { RawPeer } from './support/raw-peer.ts'

const node = useAttackedNode()

const TYPES = { capabilities: 32, findNodes: 36, loadShard: 40, audit: 42 } as const
const LOAD = { model: 'Storyteller', layers: { first: 0, last: 1 }, force: true }

/** As `docs/reference/commands.md` says. */
const FIND_NODES_RATE = { burst: 10, perSecond: 2 }

/**
 * What the node says to a peer that it takes no connection of. It waits a second for the peer to listen, then goes without
 * a word: who was that slow comes again.
 */
async function whyTurnedAway(peer: RawPeer): Promise<Refusal> {
  for (let dials = 1; ; dials++) {
    const dialled = peer.dial(node.address).then(raw => raw.control())
    const error = await dialled.then(control => control.ended).catch((error: unknown) => error)
    if (error instanceof Refusal) return error
    assert.ok(dials < 10, String(error))
  }
}

function codeOf({ error }: CommandAnswer): string | undefined {
  return error?.code
}

describe('attack: commands', () => {
  it('a command without the right is refused, written down, and in the end costs the connection and a ban', async () => {
    const member = await node.member()
    const { peer } = member.peer.identity
    assert.equal(codeOf(await member.commands.ask(TYPES.loadShard, LOAD)), 'PROTOCOL_NOT_AUTHORISED')
    const entry = await node.hears(peer, 'not-authorised')
    assert.deepEqual(entry.facts, { command: 'LOAD_SHARD', has: 'member', needed: 'trusted' })
    for (let i = 0; i < 30; i++) member.commands.send(TYPES.loadShard, LOAD)
    await isRefused(member.control, 'flood')
    await node.hears(peer, 'refused')
    await member.raw.closed
    // Comes back and goes on: each offence costs the connection now, and in the end every connection for a while.
    for (let round = 0; node.audited(peer).every(({ kind }) => kind !== 'banned'); round++) {
      assert.ok(round < 12, 'not banned in time')
      const again = await node.member({ peer: member.peer })
      again.commands.send(TYPES.loadShard, LOAD)
      await again.control.ended
    }
    // It is told so, and for how long.
    const { fault } = await whyTurnedAway(member.peer)
    assert.equal(fault.reason, 'banned')
    assert.ok((fault.retryAfterMs ?? 0) > 50_000)
    const [model] = await node.process.client.models()
    assert.equal(model?.layerCount, 8)
    await node.survives()
  })

  it('an unknown command and a message of no known kind get a code, and a few of them no punishment', async () => {
    const member = await node.member()
    for (const type of [43, 63, 64, 127]) {
      assert.equal(codeOf(await member.commands.ask(type, {})), 'PROTOCOL_UNKNOWN_TYPE')
    }
    member.control.link.send(21, { anything: 1 })
    assert.equal((await member.commands.ask(TYPES.capabilities, {})).answer['peer'], node.id)
    await node.survives()
  })

  it('a request that breaks its schema is refused with the field, before its handler hears of it', async () => {
    const member = await node.member()
    const bad: readonly (readonly [number, unknown, RegExp])[] = [
      [TYPES.findNodes, { target: 'nobody' }, /^target/],
      [TYPES.findNodes, { count: 1e9 }, /^count/],
      [TYPES.findNodes, 'text', /^body/],
      [TYPES.findNodes, { __proto__: null, target: { toString: 1 } }, /^target/],
      [TYPES.audit, { model: 'Storyteller', count: 1, nonce: 'ab' }, /^nonce/],
      [33, { kind: 'completion', prompt: 'x', max_tokens: -1 }, /^max_tokens/],
      [33, { kind: 'completion', prompt: 'x', n: 4 }, /^n:/],
    ]
    for (const [type, body, message] of bad) {
      const { error } = await member.commands.ask(type, body)
      assert.equal(error?.code, 'PROTOCOL_BAD_REQUEST')
      assert.match(error.message, message)
    }
    // An id that is none, and an envelope that is none: nobody could be answered.
    member.control.link.send(TYPES.findNodes, { id: new Uint8Array(3), body: {} })
    member.control.link.send(TYPES.findNodes, [1, 2, 3])
    assert.equal((await member.commands.ask(TYPES.capabilities, {})).answer['peer'], node.id)
    await node.survives()
  })

  it('who asks too much is told when to come back, and it is written down once', async () => {
    const member = await node.member()
    const startedAt = systemClock.monotonic()
    const codes: (string | undefined)[] = []
    let retryAfterMs: number | undefined
    // A slow machine regains some of it meanwhile: it asks on until that is used up too.
    while (codes.length < 30 || (retryAfterMs === undefined && codes.length < 300)) {
      const { error } = await member.commands.ask(TYPES.findNodes, {})
      codes.push(error?.code)
      retryAfterMs ??= error?.retryAfterMs
    }
    const seconds = (systemClock.monotonic() - startedAt) / 1000
    assert.equal(codes[0], undefined)
    assert.deepEqual([...new Set(codes)], [undefined, 'PROTOCOL_RATE_LIMITED'])
    const answers = codes.filter(code => code === undefined).length
    const { burst, perSecond } = FIND_NODES_RATE
    assert.ok(answers >= burst && answers <= burst + Math.ceil(perSecond * seconds), `${answers} in ${seconds} s`)
    assert.ok(retryAfterMs !== undefined && retryAfterMs > 0 && retryAfterMs < 2000, `${retryAfterMs}`)
    await node.hears(member.peer.identity.peer, 'rate-limited')
    assert.equal(node.audited(member.peer.identity.peer).length, 1)
    await node.survives()
  })

  it('a request that is sent again never runs twice, and its id is nobody else’s', async () => {
    const member = await node.member()
    const id = systemRandom.bytes(16)
    const first = await member.commands.ask(TYPES.capabilities, {}, { id })
    assert.deepEqual((await member.commands.ask(TYPES.capabilities, {}, { id })).answer, first.answer)
    assert.equal(codeOf(await member.commands.ask(TYPES.findNodes, {}, { id })), 'PROTOCOL_DUPLICATE_ID')
    const other = await node.member()
    assert.equal((await other.commands.ask(TYPES.findNodes, {}, { id })).error, undefined)
    await node.survives()
  })

  it('the audit log shows what happened and can be verified by the command line', async () => {
    const [log, verdict] = [await node.auditCommand([]), await node.auditCommand(['--verify'])]
    const kinds = (log as { kind: string }[]).map(({ kind }) => kind)
    for (const kind of ['not-authorised', 'refused', 'banned', 'rate-limited']) assert.ok(kinds.includes(kind), kind)
    assert.equal((verdict as { ok: boolean }).ok, true)
  })
})

const ROWS_BYTES = 4 * 1024 * 1024
const CHALLENGE = { model: 'Storyteller', count: 1, nonce: 'ab'.repeat(32) }

/** What a lying sender does with the stream that the node has opened to fetch the attachment. */
type Lie = (stream: ByteStream) => Promise<void>

/** Announces an attachment of that many bytes, and lies about it. */
async function lieAbout(
  lie: Lie,
  options: { readonly sizeBytes?: number; readonly digest?: Uint8Array; readonly deadlineMs?: number } = {},
): Promise<{ readonly answer: CommandAnswer; readonly member: Member; readonly streams: number }> {
  const peer = await node.raw()
  let streams = 0
  let member: Member | undefined
  await peer.onStream(PROTOCOLS.bulk, stream => {
    streams++
    const session = member?.control.link.session
    assert.ok(session !== undefined)
    acceptSealedStream({ clock: systemClock }, { stream, session, onFault: () => undefined })
      .then(carriedByListener)
      .then(lie)
      .catch(() => undefined) // The node has ended the stream: that is what it should do.
  })
  member = await node.member({ peer })
  const { sizeBytes = ROWS_BYTES, digest = sha256(new Uint8Array(sizeBytes)), deadlineMs = 20_000 } = options
  const attachment: AttachmentHeader = { transfer: systemRandom.bytes(16), sizeBytes, sha256: digest }
  const answer = await member.commands.ask(TYPES.audit, CHALLENGE, { attachment, deadlineMs })
  return { answer, member, streams }
}

/** Waits for GET, then sends chunks of zeros. */
async function sendZeros(stream: ByteStream, totalBytes: number, chunkBytes = TRANSFER_CHUNK_BYTES): Promise<void> {
  await received(stream)
  for (let offset = 0; offset < totalBytes; offset += chunkBytes) {
    const { bytes, room } = chunkMessage(offset, Math.min(chunkBytes, totalBytes - offset), undefined)
    room.fill(0)
    if (!stream.send(bytes)) await stream.drained()
  }
}

/** Resolves with the first message, and reads on, so that the node's words are not what fills the line. */
async function received(stream: ByteStream): Promise<void> {
  const reader = new TransferReader({ takesChunks: false })
  const got = Promise.withResolvers<void>()
  const read = async (): Promise<void> => {
    for await (const piece of stream.received) for (const _ of reader.push(piece)) got.resolve()
  }
  read().catch(() => undefined) // The end of the stream, in whatever way.
  await got.promise
}

describe('attack: attachments', () => {
  it('an attachment beyond 4 GiB, or beyond what the command takes, is refused before a byte is fetched', async () => {
    const never: Lie = () => assert.fail('nothing is fetched')
    const { answer, streams, member } = await lieAbout(never, {
      sizeBytes: TRANSFER_BYTES_MAX,
      digest: new Uint8Array(32),
    })
    assert.deepEqual([codeOf(answer), streams], ['PROTOCOL_ATTACHMENT_SIZE', 0])
    for (const sizeBytes of [TRANSFER_BYTES_MAX + 1, -1, 0.5, Number.MAX_SAFE_INTEGER]) {
      const attachment = { transfer: systemRandom.bytes(16), sizeBytes, sha256: new Uint8Array(32) }
      member.commands.send(TYPES.audit, CHALLENGE, { attachment })
    }
    // No envelope that could be read, so no answer: four faults, and the peer is still served.
    assert.equal((await member.commands.ask(TYPES.capabilities, {})).answer['peer'], node.id)
    const none = await member.commands.ask(TYPES.findNodes, {}, { attachment: { bytes: new Uint8Array(1) } })
    assert.equal(codeOf(none), 'PROTOCOL_ATTACHMENT_SIZE')
    await node.survives()
  })

  it('more bytes than were announced, chunks at the wrong place, and bytes of another digest end the transfer', async () => {
    const lies: Readonly<Record<string, Lie>> = {
      'more than announced': stream => sendZeros(stream, 2 * ROWS_BYTES),
      'never an end': stream => sendZeros(stream, Number.POSITIVE_INFINITY),
      'chunks of another size': stream => sendZeros(stream, ROWS_BYTES, 1000),
      'no chunks at all': async stream => {
        await received(stream)
        for (let i = 0; i < 1000; i++) stream.send(systemRandom.bytes(1024))
      },
    }
    for (const [what, lie] of Object.entries(lies)) {
      // The digest is of zeros, one too few: what comes can never be it.
      const { answer, member } = await lieAbout(lie, { digest: sha256(new Uint8Array(3)) })
      assert.match(codeOf(answer) ?? '', /^TRANSFER_(?:PROTOCOL|CORRUPT)$/, what)
      assert.equal((await member.commands.ask(TYPES.capabilities, {})).answer['peer'], node.id)
    }
    const wrong = await lieAbout(stream => sendZeros(stream, ROWS_BYTES), { digest: sha256(new Uint8Array(3)) })
    assert.equal(codeOf(wrong.answer), 'TRANSFER_CORRUPT')
    await node.survives()
  })

  it('an attachment that never comes ends with the deadline of its request', async () => {
    const { answer } = await lieAbout(received, { deadlineMs: 1000 })
    assert.equal(codeOf(answer), 'PROTOCOL_DEADLINE')
    await node.survives()
  })

  it('who lies again and again loses the connection', async () => {
    const peer = await node.raw()
    let member: Member | undefined
    await peer.onStream(PROTOCOLS.bulk, stream => {
      const session = member?.control.link.session
      assert.ok(session !== undefined)
      acceptSealedStream({ clock: systemClock }, { stream, session, onFault: () => undefined })
        .then(carriedByListener)
        .then(accepted => accepted.send(systemRandom.bytes(64)))
        .catch(() => undefined) // The node has ended the stream.
    })
    member = await node.member({ peer })
    for (let lies = 0; lies < 4; lies++) {
      const attachment = { transfer: systemRandom.bytes(16), sizeBytes: ROWS_BYTES, sha256: systemRandom.bytes(32) }
      assert.equal(codeOf(await member.commands.ask(TYPES.audit, CHALLENGE, { attachment })), 'TRANSFER_PROTOCOL')
    }
    // With envelopes that cannot be read it is enough.
    for (let i = 0; i < 2; i++) member.control.link.send(TYPES.audit, { id: 'none' })
    await isRefused(member.control, 'flood')
    assert.equal((await node.hears(peer.identity.peer, 'refused')).facts['reason'], 'penalties')
    await node.survives()
  })
})
