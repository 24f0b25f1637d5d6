/** Two links over a pair of streams in memory: what a session survives, and what it does not. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStreamPair, ManualClock, silentLogger, systemRandom, toHex } from '#base'
import { createHandover, createNodeIdentity, type HeldIdentity } from '#identity'
import { CONTROL_BYTES_MAX, FRAME_TYPES, PROTOCOLS } from '#wire'
import { type SessionMemory, sessionMemory } from '../../test/support/session-memory.ts'
import { ControlLink, type LinkMessage } from './control-link.ts'
import type { Party } from './negotiation.ts'
import { Refusal } from './refusal.ts'
import { SessionClaims } from './session-claims.ts'

type Side = {
  readonly identity: HeldIdentity
  readonly memory: SessionMemory
  readonly claims: SessionClaims
  readonly clock: ManualClock
  readonly party: Partial<Party>
  readonly secret?: Uint8Array
  isFull: boolean
}

type Linked = {
  readonly link: ControlLink
  readonly ended: Promise<unknown>
  readonly messages: LinkMessage[]
  rotations: number
}

async function side(
  options: { readonly clock?: ManualClock; readonly party?: Partial<Party>; readonly secret?: string } = {},
): Promise<Side> {
  const clock = options.clock ?? new ManualClock(1_700_000_000_000)
  const secret = options.secret === undefined ? {} : { secret: new TextEncoder().encode(options.secret) }
  return {
    identity: await createNodeIdentity(systemRandom),
    memory: sessionMemory({ clock }),
    claims: new SessionClaims(),
    clock,
    party: options.party ?? {},
    ...secret,
    isFull: false,
  }
}

function start(
  { ours, theirs }: { readonly ours: Side; readonly theirs: Side },
  stream: ReturnType<typeof createStreamPair>[0],
  role: 'dialler' | 'listener',
) {
  const established = Promise.withResolvers<void>()
  const messages: LinkMessage[] = []
  const linked = { messages, rotations: 0 }
  const { identity, memory, clock, party, secret } = ours
  const link = new ControlLink(
    {
      clock,
      random: systemRandom,
      log: silentLogger,
      ...memory,
      claims: ours.claims,
      party: { peer: identity.peer, signer: identity.provider, handovers: [], capabilities: ['a'], ...party },
    },
    {
      stream,
      role,
      peer: theirs.identity.peer,
      ...(secret === undefined ? {} : { secret }),
      hasRoom: () => !ours.isFull,
      onEstablished: () => established.resolve(),
      onMessage: message => void messages.push(message),
      onLeftOut: () => undefined,
      onRotation: () => void linked.rotations++,
    },
  )
  const ended = link.run().catch((error: unknown) => {
    established.reject(error)
    return error
  })
  return Object.assign(linked, { link, ended, established: established.promise })
}

/** Joins two sides over a new pair of streams; `stop` cuts it as a lost connection does. */
async function join(a: Side, b: Side): Promise<{ a: Linked; b: Linked; stop(): Promise<void> }> {
  const [atA, atB] = createStreamPair(PROTOCOLS.control, { a: a.identity.peer, b: b.identity.peer })
  const [linkA, linkB] = [start({ ours: a, theirs: b }, atA, 'dialler'), start({ ours: b, theirs: a }, atB, 'listener')]
  linkB.established.catch(() => undefined)
  try {
    await Promise.all([linkA.established, linkB.established])
  } catch (error) {
    atA.abort(new Error('over'))
    await Promise.all([linkA.ended, linkB.ended])
    throw error
  }
  const stop = async (): Promise<void> => {
    atA.abort(new Error('lost'))
    await Promise.all([linkA.ended, linkB.ended])
  }
  return { a: linkA, b: linkB, stop }
}

/** Sends one way and waits for it at the other side. */
async function delivers(from: Linked, to: Linked, id: number): Promise<void> {
  const before = to.messages.length
  assert.ok(from.link.send(FRAME_TYPES.ping, { id }))
  for (let turns = 0; to.messages.length === before; turns++) {
    assert.ok(turns < 1_000, 'the message arrives')
    await new Promise(resolve => setImmediate(resolve))
  }
}

describe('protocol / control-link', () => {
  it('refuses a message that is too long before it is sent, and goes on', async () => {
    const joined = await join(await side(), await side())
    const body = { text: 'x'.repeat(CONTROL_BYTES_MAX) }
    assert.throws(() => joined.a.link.send(64, body), { code: 'PROTOCOL_MESSAGE_TOO_LONG' })
    await delivers(joined.a, joined.b, 1)
    await joined.stop()
  })

  it('comes to a session that both describe alike, and that carries messages both ways', async () => {
    const [a, b] = [await side({ secret: 's' }), await side({ secret: 's' })]
    const joined = await join(a, b)
    const [factsA, factsB] = [joined.a.link.facts, joined.b.link.facts]
    assert.equal(factsA?.session, factsB?.session)
    assert.match(factsA?.session ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    assert.equal(factsA?.version, 1)
    assert.equal(factsA?.resumptions, 0)
    assert.equal(factsA?.key, b.identity.peer)
    await delivers(joined.a, joined.b, 1)
    await delivers(joined.b, joined.a, 2)
    await joined.stop()
  })

  it('resumes the session after the connection is lost, whoever dials, with new keys each time', async () => {
    const [a, b] = [await side(), await side()]
    const first = await join(a, b)
    const session = first.a.link.facts?.session
    await first.stop()
    const secrets = new Set([toHex(a.memory.sessions.find(b.identity.peer)?.resumptionSecret ?? new Uint8Array())])
    for (const [resumptions, [from, to]] of [[a, b] as const, [b, a] as const, [a, b] as const].entries()) {
      const again = await join(from, to)
      assert.equal(again.a.link.facts?.session, session)
      assert.equal(again.b.link.facts?.resumptions, resumptions + 1)
      await delivers(again.a, again.b, 1)
      await again.stop()
      secrets.add(toHex(a.memory.sessions.find(b.identity.peer)?.resumptionSecret ?? new Uint8Array()))
    }
    assert.equal(secrets.size, 4)
  })

  it('makes a new session where one side has forgotten, or the two have not the same', async () => {
    const [a, b] = [await side(), await side()]
    const first = await join(a, b)
    const session = first.a.link.facts?.session
    await first.stop()
    const stored = b.memory.sessions.find(a.identity.peer)
    assert.ok(stored)
    b.memory.sessions.save({ ...stored, resumptions: 7 })
    const other = await join(a, b)
    assert.notEqual(other.a.link.facts?.session, session)
    assert.equal(other.a.link.facts?.resumptions, 0)
    await other.stop()
  })

  it('resumes a session on one connection only where both dial at once', async () => {
    const [a, b] = [await side(), await side()]
    const before = await join(a, b)
    await before.stop()
    const joined = await Promise.all([join(a, b), join(b, a)])
    const ids = joined.map(({ a: { link } }) => link.facts?.session)
    assert.notEqual(ids[0], ids[1])
    for (const { a: dialler, b: listener } of joined) {
      await delivers(dialler, listener, 1)
      await delivers(listener, dialler, 2)
    }
    await Promise.all(joined.map(link => link.stop()))
    const again = await join(a, b)
    await delivers(again.a, again.b, 1)
    await again.stop()
  })

  it('refuses a resumption with another secret, and starts afresh the next time', async () => {
    const [a, b] = [await side(), await side()]
    await (await join(a, b)).stop()
    const stored = b.memory.sessions.find(a.identity.peer)
    assert.ok(stored)
    b.memory.sessions.save({ ...stored, resumptionSecret: new Uint8Array(32) })
    await assert.rejects(
      join(a, b),
      (error: unknown) => error instanceof Refusal && error.fault.reason === 'authentication',
    )
    const afresh = await join(a, b)
    assert.equal(afresh.a.link.facts?.resumptions, 0)
    await afresh.stop()
  })

  it('goes on when a side hands its key over, and the peer believes the new key from then on', async () => {
    const [a, b] = [await side(), await side()]
    const joined = await join(a, b)
    const next = await createNodeIdentity(systemRandom)
    const now = a.clock.now()
    const statement = await createHandover({ from: a.identity.provider, to: next.provider, at: now, sequence: 1 })
    joined.a.link.rotate(statement, next.provider)
    await delivers(joined.a, joined.b, 1)
    await delivers(joined.b, joined.a, 2)
    assert.equal(joined.b.rotations, 1)
    assert.equal(joined.b.link.facts?.key, next.peer)
    assert.equal(b.memory.peerKeys.current(a.identity.peer), next.peer)
    await joined.stop()
    // The old key alone is not enough any more, and with the chain the old connection id is.
    await assert.rejects(
      join(a, b),
      (error: unknown) => error instanceof Refusal && error.fault.reason === 'superseded',
    )
    const rotated = { ...a, party: { signer: next.provider, handovers: [statement] } }
    const again = await join(rotated, b)
    assert.equal(again.b.link.facts?.key, next.peer)
    await again.stop()
  })

  it('refuses a rotation that the old key has not signed', async () => {
    const [a, b] = [await side(), await side()]
    const joined = await join(a, b)
    const [thief, next] = [await createNodeIdentity(systemRandom), await createNodeIdentity(systemRandom)]
    const statement = await createHandover({
      from: thief.provider,
      to: next.provider,
      at: a.clock.now(),
      sequence: 1,
    })
    joined.a.link.rotate(statement, next.provider)
    const error = await joined.b.ended
    assert.ok(error instanceof Refusal)
    assert.equal(error.fault.reason, 'authentication')
    assert.equal(b.memory.peerKeys.current(a.identity.peer), a.identity.peer)
    assert.ok(b.memory.audit.entries.some(entry => entry.kind === 'peer-key-refused'))
    await joined.stop()
  })

  it('does not let a peer leave out a hybrid signature that it has given before', async () => {
    const [plain, b] = [await side(), await side()]
    const hybrid: Side = { ...plain, party: { hybrid: plain.identity.hybrid } }
    await (await join(hybrid, b)).stop()
    for (const { memory, identity } of [plain, b]) {
      const stored = memory.sessions.find(identity === plain.identity ? b.identity.peer : plain.identity.peer)
      if (stored !== undefined) memory.sessions.remove(stored.id)
    }
    await assert.rejects(
      join(plain, b),
      (error: unknown) => error instanceof Refusal && error.fault.reason === 'authentication',
    )
    await (await join(hybrid, b)).stop()
  })

  it('never uses an epoch again, even where a resumption ended before both had proved themselves', async () => {
    const [a, b] = [await side(), await side()]
    await (await join(a, b)).stop()
    b.isFull = true
    await assert.rejects(join(a, b), (error: unknown) => error instanceof Refusal && error.fault.reason === 'full')
    b.isFull = false
    // The listener has taken the dialler's first proof: a second one of the same epoch would be a replay.
    const again = await join(a, b)
    assert.equal(again.a.link.facts?.resumptions, 2)
    await again.stop()
  })

  it('takes the measured offset of clocks that differ, up to a bound', async () => {
    const a = await side({ clock: new ManualClock(1_700_000_000_000) })
    const b = await side({ clock: new ManualClock(1_700_000_000_000 + 90_000) })
    const joined = await join(a, b)
    assert.equal(joined.a.link.facts?.clockOffsetMs, 90_000)
    assert.equal(joined.b.link.facts?.clockOffsetMs, -90_000)
    await delivers(joined.a, joined.b, 1)
    await delivers(joined.b, joined.a, 2)
    await joined.stop()
    const far = await side({ clock: new ManualClock(1_700_000_000_000 + 3_600_000) })
    await assert.rejects(join(a, far), (error: unknown) => error instanceof Refusal && error.fault.reason === 'clock')
  })
})
