/**
 * Attacks on what a node has little of: places for newcomers, time, memory. A real node with a swarm secret; where the
 * growth of a wait must be seen, a host whose clock the test owns.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { type ByteStream, ManualClock, sleep, systemClock, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { BackOff, Penalties, PenaltyRecords } from '#protocol'
import { CONTROL_SCHEMAS, decodeBody, encodeBody, encodeFramePrefix, FRAME_TYPES, PROTOCOLS } from '#wire'
import type { NetStream } from '../src/net/byte-stream.ts'
import {
  ADMISSION_TIMEOUT_MS,
  CARRIED_STARTING_MAX,
  CONTROL_TOKENS_MAX,
  GUEST_STREAMS_MAX,
  LINGER_MS,
  UNPROVEN_MAX,
} from '../src/net/limits.ts'
import type { PeerGuard } from '../src/net/peer-guard.ts'
import { SETTINGS } from '../src/net/settings.ts'
import { createPeerGuard } from '../src/node/peer-guard.ts'
import { BACK_OFF_FREE_FAILURES, BACK_OFF_MS_MAX, BACK_OFF_MS_MIN } from '../src/protocol/limits.ts'
import { openingOf } from '../src/protocol/sealed-channel.ts'
import { type AttackedNode, type Member, TASK, sessionOf, useAttackedNode } from './support/attacked-node.ts'
import { helloFrame, isRefused, refusalOf, withBadProof } from './support/forged-frames.ts'
import { firstAddress, startHost, within } from './support/net-hosts.ts'
import { HAS_MANY_ADDRESSES } from './support/raw-libp2p.ts'
import { type RawConnection, type RawControl, type RawPeer, startRawPeer } from './support/raw-peer.ts'
import { openGuard, sessionMemory } from './support/session-memory.ts'
import { turns, turnsUntil } from './support/turns.ts'

const SECRET = 'the secret of this swarm'
const node = useAttackedNode({ secret: SECRET })
const patient = usePatientNode()
const MIB = 2 ** 20

/** Runs an attack, and gives how much memory the node has more than before it. */
async function grownBy(attack: () => Promise<void>): Promise<number> {
  const before = (await node.residentBytes()) ?? 0
  await attack()
  return ((await node.residentBytes()) ?? 0) - before
}

/** A node that waits for newcomers as long as one can: whoever holds a place holds it to the end of a test. */
function usePatientNode(): AttackedNode {
  const directory = mkdtempSync(join(tmpdir(), 'koinon-patient-'))
  after(() => rmSync(directory, { recursive: true }))
  const settings = join(directory, 'net.json')
  writeFileSync(settings, JSON.stringify({ admissionTimeoutMs: SETTINGS.admissionTimeoutMs.max }))
  return useAttackedNode({ secret: SECRET, args: ['--net-config', settings] })
}

/** A first frame that is announced and never completed. */
function endlessHeader(): Uint8Array {
  const nonce = { timeMs: systemClock.now(), epoch: 0, sequence: 0, random: 1 }
  const prefix = encodeFramePrefix({ type: FRAME_TYPES.hello, isSealed: false, length: 16 * 1024, nonce })
  return new Uint8Array([...prefix, ...new Uint8Array(64)])
}

describe('attack: exhaustion', () => {
  it('who is slow is let go in time, however it is slow, and others are served meanwhile', async () => {
    const peer = await node.raw()
    const hello = await helloFrame(peer.identity.provider, node.id, { secret: true })
    const ways = waysToBeSlow(hello, () => sleep(systemClock, 100, {}))
    const startedAt = systemClock.monotonic()
    const attacks = Object.entries(ways).map(async ([how, attack]) => {
      const raw = await peer.dial(node.address)
      attack(raw).catch(() => undefined) // The stream ends under it: that is what is waited for.
      await raw.closed
      const tookMs = systemClock.monotonic() - startedAt
      assert.ok(tookMs > ADMISSION_TIMEOUT_MS / 2, `${how}: ${tookMs} ms`)
    })
    await node.survives()
    await Promise.all(attacks)
    await node.survives()
  })

  it('who is slow is let go in time: not before it is over, and at once then', async test => {
    const clock = new ManualClock(systemClock.now())
    const peer = await startRawPeer(test, { clock })
    let sessions = 0
    const refuses: PeerGuard['refuses'] = subjects => {
      if (subjects.includes(peer.identity.peer)) sessions++
      return undefined
    }
    const host = await startHost(test, { clock, secret: SECRET, guard: { ...openGuard, refuses } })
    const hello = await helloFrame(peer.identity.provider, host.id, { secret: true })
    const ways = Object.values(waysToBeSlow(hello, () => turns(1)))
    const slow = await Promise.all(
      ways.map(async attack => {
        const raw = await peer.dial(firstAddress(host))
        return { raw, hears: await attack(raw) }
      }),
    )
    await turnsUntil('the time of all of them to run', () => sessions === ways.length)
    clock.advance(ADMISSION_TIMEOUT_MS - 1)
    const honest = await startRawPeer(test, { clock })
    await (await (await honest.dial(firstAddress(host))).control({ secret: SECRET })).join()
    assert.deepEqual([...new Set(slow.map(({ raw }) => raw.connection.status))], ['open'])
    clock.advance(1)
    for (const { hears } of slow) await hears()
    // Who does not hang up when it is told is given a moment, by the same clock.
    clock.advance(LINGER_MS)
    for (const { raw } of slow) await raw.closed
  })

  it('connections that prove nothing take no place of those who have joined, and give theirs back', async () => {
    const peer = await node.raw(HAS_MANY_ADDRESSES ? { from: '127.0.0.3' } : {})
    const grown = await grownBy(async () => {
      const dials = Array.from({ length: 3 * UNPROVEN_MAX }, () => peer.dial(node.address).catch(() => undefined))
      const held = (await Promise.all(dials)).filter(raw => raw !== undefined)
      assert.ok(held.length > 0)
      await within('the end of all of them', Promise.all(held.map(raw => raw.closed)))
    })
    assert.ok(grown < 64 * MIB, `${grown} bytes more`)
    await node.survives()
  })

  it('small frames cost their sender the session with the first one beyond what a peer may say at once', async test => {
    // A clock that stands still: what was said does not come back, however long the two take.
    const clock = new ManualClock(systemClock.now())
    const memory = sessionMemory({ clock })
    const host = await startHost(test, { clock, memory })
    const peer = await startRawPeer(test, { clock })
    const raw = await peer.dial(firstAddress(host))
    const control = await raw.control()
    await control.join()
    const ping = async (id: number): Promise<Uint8Array> => seal({ control }, FRAME_TYPES.ping, { id })
    // Its INFO was a message too, and bytes cost a little beside the messages.
    const others = 8
    await flood({ control }, CONTROL_TOKENS_MAX - others, ping)
    await answered({ control }, CONTROL_TOKENS_MAX)
    assert.deepEqual(memory.audit.entries, [])
    const late = 100
    await flood({ control }, others + late, ping)
    await isRefused(control, 'flood')
    // It costs once, whatever was on its way when it was told.
    await turns(late)
    clock.advance(LINGER_MS)
    await raw.closed
    const facts = { peer: peer.identity.peer, reason: 'flood' }
    const floods = memory.audit.entries.filter(({ kind }) => kind === 'rate-limited')
    assert.deepEqual(floods, [{ kind: 'rate-limited', facts }])
  })

  it('ten thousand small frames cost the node no memory', async () => {
    const member = await node.member()
    const grown = await grownBy(async () => {
      // In parts: a slow node would come to the last ones when they are too old to be answered.
      for (let sent = 0; sent < 10_000 && member.control.link.state === 'established'; sent += 500) {
        await flood(member, 500, async id => seal(member, FRAME_TYPES.ping, { id }))
        // Where the two are slow each of them is answered, and where they are fast it is a flood.
        await answered(member, 500).catch(() => isRefused(member.control, 'flood'))
      }
    })
    assert.ok(grown < 64 * MIB, `${grown} bytes more`)
    await node.survives()
  })

  it('frames that are left out count as a flood too', async () => {
    const member = await node.member()
    const frame = await seal(member, FRAME_TYPES.ping, { id: 1 })
    // 35 minutes ahead: too far from now, and the first thing that is looked at.
    await flood(member, 10_000, async () => frame.with(12, (frame[12] ?? 0) ^ 0x20))
    await isRefused(member.control, 'flood')
    await node.hears(member.peer.identity.peer, 'rate-limited')
    await node.survives()
  })

  it('frames that are begun on many streams are begun on few, and held by halves', async () => {
    const member = await node.member()
    const held = new Set<NetStream>()
    let taken = 0
    const grown = await grownBy(async () => {
      for (let i = 0; i < 64; i++) {
        const stream = await member.raw.stream(PROTOCOLS.stage)
        held.add(stream)
        untilReset(stream).then(
          () => held.delete(stream),
          () => undefined,
        )
        const channel = sessionOf(member).openChannel()
        try {
          stream.send(channel.seal(openingOf(PROTOCOLS.stage)))
          // A frame of a megabyte, up to its last bytes.
          stream.send(channel.seal(new Uint8Array(2 ** 20)).subarray(0, 2 ** 20))
          await stream.drained()
        } catch {
          // The node has as many of this peer as it takes, and has reset it.
        }
        // What the node has said to the stream came before what it says to this.
        await answered(member, i)
        if (held.has(stream)) taken++
      }
    })
    // Those that were taken first may have lost their time before the last ones came.
    assert.ok(taken >= CARRIED_STARTING_MAX, `${taken} streams`)
    assert.ok(held.size <= CARRIED_STARTING_MAX, `${held.size} streams at once`)
    assert.ok(grown < 64 * MIB, `${grown} bytes more for ${held.size} streams`)
    member.raw.connection.abort(new Error('done'))
    await node.survives()
  })

  it('ten thousand requests for what does not exist are refused by the node’s limits, not by its end', async () => {
    const member = await node.member()
    const grown = await grownBy(async () => {
      await flood(member, 10_000, async () => seal(member, 63, { id: systemRandom.bytes(16), body: {} }))
      await member.control.ended
    })
    assert.ok(grown < 64 * MIB, `${grown} bytes more`)
    assert.equal((await node.hears(member.peer.identity.peer, 'refused')).facts['reason'], 'penalties')
    await node.survives()
  })

  it('sockets that say nothing and connections that prove nothing take no place of newcomers from other addresses', {
    skip: HAS_MANY_ADDRESSES ? false : 'this system has one loopback address',
  }, async test => {
    const port = Number(/\/tcp\/(\d+)/.exec(patient.address)?.[1])
    const sockets = Array.from({ length: 64 }, () => {
      const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.4' })
      return socket.on('error', () => undefined) // Refused, as most of them should be.
    })
    test.after(() => void sockets.map(socket => socket.destroy()))
    await Promise.any(sockets.map(socket => once(socket, 'connect')))
    const idler = await patient.raw({ from: '127.0.0.5' })
    const dials = Array.from({ length: 40 }, () => idler.dial(patient.address).catch(() => undefined))
    const held = (await Promise.all(dials)).filter(raw => raw !== undefined)
    const open = (): RawConnection[] => held.filter(raw => raw.connection.status === 'open')
    for (let i = 0; i < 3; i++) await patient.survives()
    // They are there all the time. One may have gone for a newcomer, where they had every place.
    assert.ok(open().length >= UNPROVEN_MAX / 2, `${open().length} connections`)
    for (const { connection } of open()) connection.abort(new Error('done'))
  })

  it('guests that say nothing give their places back', async test => {
    const clock = new ManualClock(systemClock.now())
    const host = await startHost(test, { clock })
    const served = Promise.withResolvers<ByteStream>()
    host.handleGuests(PROTOCOLS.json, async stream => {
      served.resolve(stream)
      for await (const _ of stream.received);
    })
    const raw = await (await startRawPeer(test)).dial(firstAddress(host))
    const streams = [await raw.stream(PROTOCOLS.json)]
    await within('the guest', served.promise)
    clock.advance(10 * ADMISSION_TIMEOUT_MS)
    assert.equal(raw.connection.status, 'open', 'a guest with an open stream stays')
    while (streams.length < GUEST_STREAMS_MAX) streams.push(await raw.stream(PROTOCOLS.json))
    const isReset = async (stream: NetStream): Promise<boolean> =>
      within('the reset', stream.received[Symbol.asyncIterator]().next()).then(
        () => false,
        () => true,
      )
    assert.ok(await raw.stream(PROTOCOLS.json).then(isReset, () => true), 'one more has no room')
    for (const stream of streams) await stream.close()
    // The host hears of the ends in its own time.
    const isOver = (): boolean => raw.connection.status !== 'open'
    await turnsUntil('the end of the guest', isOver, () => clock.advance(ADMISSION_TIMEOUT_MS / 2))
  })

  it('a thousand handshakes with bad keys are refused before they cost anything, and nobody else feels them', {
    skip: HAS_MANY_ADDRESSES ? false : 'this system has one loopback address',
  }, async () => {
    const attackers = await Promise.all(Array.from({ length: 10 }, () => node.raw({ from: '127.0.0.2' })))
    const honest = await node.member()
    let isOver = false
    const generations = (async () => {
      const texts: unknown[] = []
      do texts.push((await honest.commands.ask(33, { ...TASK, max_tokens: 64 })).answer['text'])
      while (!isOver && texts.length < 4)
      return texts
    })()
    const outcomes = { authentication: 0, early: 0 }
    await Promise.all(attackers.map(attacker => handshakes(attacker, 100, outcomes)))
    isOver = true
    assert.equal(outcomes.authentication + outcomes.early, 1000)
    // The free ones, those that were on their way together, and one after each wait.
    assert.ok(
      outcomes.authentication >= BACK_OFF_FREE_FAILURES && outcomes.authentication < 100,
      JSON.stringify(outcomes),
    )
    assert.equal(new Set(await generations).size, 1, 'each of the same generations gives the same text')
    // A newcomer at another address is not made to wait: its first dial is one that joins. Theirs still has to.
    await node.member()
    const after = { authentication: 0, early: 0 }
    for (const attacker of attackers) await handshakes(attacker, 1, after)
    assert.ok(after.early > 0, JSON.stringify(after))
    await node.survives()
  })

  it('the wait of an address doubles with each failure, and after it a newcomer at the same address joins', async test => {
    const clock = new ManualClock(systemClock.now())
    const entries: string[] = []
    const records = new PenaltyRecords({
      clock,
      store: { load: () => [], save: () => undefined, remove: () => undefined },
    })
    const audit = { record: (kind: string) => void entries.push(kind) }
    const penalties = new Penalties({ clock, records, audit })
    const backOff = new BackOff({ clock, records })
    const host = await startHost(test, { clock, guard: createPeerGuard({ penalties, backOff }) })
    const address = firstAddress(host)
    const waits: number[] = []
    for (let failures = 0; failures < BACK_OFF_FREE_FAILURES + 12; failures++) {
      clock.advance(backOff.mayTry('ip:127.0.0.1') ?? 0)
      const control = await (await (await startRawPeer(test, { clock })).dial(address)).control({
        party: { signer: withBadProof((await createNodeIdentity(systemRandom)).provider) },
      })
      await refusalOf(control)
      waits.push(backOff.mayTry('ip:127.0.0.1') ?? 0)
    }
    const counted = waits.slice(BACK_OFF_FREE_FAILURES)
    assert.deepEqual(waits.slice(0, BACK_OFF_FREE_FAILURES), [0, 0, 0, 0, 0])
    assert.equal(counted[0], BACK_OFF_MS_MIN)
    assert.ok(counted.every((wait, i) => i === 0 || wait >= (counted[i - 1] ?? 0)))
    // Time forgives meanwhile, so whoever waits each time never gets to the longest.
    assert.ok((counted.at(-1) ?? 0) >= 64 * BACK_OFF_MS_MIN && (counted.at(-1) ?? 0) <= BACK_OFF_MS_MAX)

    await assert.rejects((await startRawPeer(test, { clock })).dial(address), 'refused before any cryptography')
    clock.advance(BACK_OFF_MS_MAX)
    const late = await (await (await startRawPeer(test, { clock })).dial(address)).control()
    await late.join()
    assert.equal(backOff.mayTry('ip:127.0.0.1'), undefined)
  })
})

type Slow = (raw: RawConnection) => Promise<() => Promise<unknown>>

/**
 * Ways to hold the place of a newcomer. Each has said all that it will say when it resolves, with what waits until the
 * node has told it to go. @param pause between two bytes, where they come one by one
 */
function waysToBeSlow(hello: Uint8Array, pause: () => Promise<void>): Readonly<Record<string, Slow>> {
  const hears = (stream: ByteStream) => async () => {
    const { done } = await within('a last word', stream.received[Symbol.asyncIterator]().next())
    assert.notEqual(done, true)
  }
  const isTold = (control: RawControl) => () => isRefused(control, 'slow')
  return {
    'says nothing': async raw => () => raw.closed,
    'opens the control stream and says nothing': async raw => hears(await raw.stream(PROTOCOLS.control)),
    'says HELLO byte by byte': async raw => {
      const stream = await raw.stream(PROTOCOLS.control)
      for (const byte of hello.subarray(0, -1)) {
        if (raw.connection.status !== 'open') break
        stream.send(Uint8Array.of(byte))
        await pause()
      }
      return hears(stream)
    },
    'begins a frame that never ends': async raw => {
      const stream = await raw.stream(PROTOCOLS.control)
      stream.send(endlessHeader())
      return hears(stream)
    },
    'shakes hands half': async raw =>
      isTold(await raw.control({ secret: SECRET, tamper: (frame, i) => (i < 2 ? [frame] : []) })),
    'is admitted and never says who it is': async raw => {
      const control = await raw.control({ secret: SECRET })
      await control.established
      return isTold(control)
    },
  }
}

/** Waits until the other side has reset the stream. */
async function untilReset(stream: ByteStream): Promise<void> {
  try {
    for await (const _ of stream.received);
  } catch {
    return
  }
  assert.fail('the stream ended in order')
}

/** Waits for the answer to a ping: by then the node has got all that was sent before it on this connection. */
async function answered({ control }: Pick<Member, 'control'>, id: number): Promise<void> {
  control.link.send(FRAME_TYPES.ping, { id })
  for (;;) {
    const { type, body } = await control.next()
    if (type !== FRAME_TYPES.pong) continue
    const pong = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.pong], body)
    if ('body' in pong && pong.body.id === id) return
  }
}

async function seal({ control }: Pick<Member, 'control'>, type: number, body: object): Promise<Uint8Array> {
  assert.ok(control.link.session !== undefined)
  return control.link.session.sealControl(type, encodeBody(body))
}

/** Sends as fast as the line takes it, whatever is answered. */
async function flood(
  { control }: Pick<Member, 'control'>,
  count: number,
  frame: (index: number) => Promise<Uint8Array>,
): Promise<void> {
  try {
    for (let i = 0; i < count; i++) {
      if (!control.stream.send(await frame(i))) await control.stream.drained()
    }
  } catch {
    // The node has ended the connection: that is what a flood is for.
  }
}

/** Attempts one after the other, each as far as it gets. */
async function handshakes(
  peer: RawPeer,
  count: number,
  outcomes: { authentication: number; early: number },
): Promise<void> {
  const party = { signer: withBadProof(peer.identity.provider) }
  for (let i = 0; i < count; i++) {
    try {
      const raw = await peer.dial(node.address)
      const control = await raw.control({ party, secret: SECRET })
      const { reason } = await refusalOf(control)
      if (reason === 'authentication') outcomes.authentication++
      else outcomes.early++
      await raw.closed
    } catch {
      outcomes.early++ // Its connection was ended before a word.
    }
  }
}
