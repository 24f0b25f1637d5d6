/**
 * Attacks on what a node has little of: places for newcomers, time, memory. A real node with a swarm secret; where the
 * growth of a wait must be seen, a host whose clock the test owns.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { type ByteStream, ManualClock, sleep, systemClock, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { BackOff, Penalties, PenaltyRecords } from '#protocol'
import { encodeBody, encodeFramePrefix, FRAME_TYPES, PROTOCOLS } from '#wire'
import type { NetStream } from '../src/net/byte-stream.ts'
import { ADMISSION_TIMEOUT_MS, GUEST_STREAMS_MAX, UNPROVEN_MAX } from '../src/net/limits.ts'
import { createPeerGuard } from '../src/node/peer-guard.ts'
import { BACK_OFF_FREE_FAILURES, BACK_OFF_MS_MAX, BACK_OFF_MS_MIN } from '../src/protocol/limits.ts'
import { openingOf } from '../src/protocol/sealed-channel.ts'
import { type Member, TASK, sessionOf, useAttackedNode } from './support/attacked-node.ts'
import { helloFrame, refusalOf, withBadProof } from './support/forged-frames.ts'
import { firstAddress, startHost, within } from './support/net-hosts.ts'
import { HAS_MANY_ADDRESSES } from './support/raw-libp2p.ts'
import { type RawConnection, type RawPeer, startRawPeer } from './support/raw-peer.ts'

const SECRET = 'the secret of this swarm'
const node = useAttackedNode({ secret: SECRET })
const MIB = 2 ** 20

/** Runs an attack, and gives how much memory the node has more than before it. */
async function grownBy(attack: () => Promise<void>): Promise<number> {
  const before = (await node.residentBytes()) ?? 0
  await attack()
  return ((await node.residentBytes()) ?? 0) - before
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
    const dial = (): Promise<RawConnection> => peer.dial(node.address)
    const slow: Readonly<Record<string, (raw: RawConnection) => Promise<unknown>>> = {
      'says nothing': async () => undefined,
      'opens the control stream and says nothing': raw => raw.stream(PROTOCOLS.control),
      'says HELLO byte by byte': async raw => {
        const stream = await raw.stream(PROTOCOLS.control)
        for (const byte of hello) {
          if (raw.connection.status !== 'open') return
          stream.send(Uint8Array.of(byte))
          await sleep(systemClock, 100, {})
        }
      },
      'begins a frame that never ends': async raw => (await raw.stream(PROTOCOLS.control)).send(endlessHeader()),
      'shakes hands half': async raw => raw.control({ secret: SECRET, tamper: (frame, i) => (i < 2 ? [frame] : []) }),
      'is admitted and never says who it is': async raw => (await raw.control({ secret: SECRET })).established,
    }
    const startedAt = systemClock.monotonic()
    const attacks = Object.entries(slow).map(async ([how, attack]) => {
      const raw = await dial()
      attack(raw).catch(() => undefined) // The stream ends under it: that is what is waited for.
      await raw.closed
      const tookMs = systemClock.monotonic() - startedAt
      assert.ok(tookMs > ADMISSION_TIMEOUT_MS / 2 && tookMs < ADMISSION_TIMEOUT_MS + 4000, `${how}: ${tookMs} ms`)
    })
    await node.survives()
    await Promise.all(attacks)
    await node.survives()
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

  it('ten thousand small frames cost their sender the session, and the node no memory', async () => {
    const member = await node.member()
    const grown = await grownBy(async () => {
      await flood(member, 10_000, async id => seal(member, FRAME_TYPES.ping, { id }))
      assert.deepEqual(await refusalOf(member.control), { reason: 'flood', by: 'peer' })
    })
    assert.ok(grown < 64 * MIB, `${grown} bytes more`)
    await node.hears(member.peer.identity.peer, 'rate-limited')
    await node.survives()
  })

  it('frames that are left out count as a flood too', async () => {
    const member = await node.member()
    const frame = await seal(member, FRAME_TYPES.ping, { id: 1 })
    // 35 minutes ahead: too far from now, and the first thing that is looked at.
    await flood(member, 10_000, async () => frame.with(12, (frame[12] ?? 0) ^ 0x20))
    assert.deepEqual(await refusalOf(member.control), { reason: 'flood', by: 'peer' })
    await node.survives()
  })

  it('frames that are begun on many streams are begun on few, and held by halves', async () => {
    const member = await node.member()
    const streams: NetStream[] = []
    const grown = await grownBy(async () => {
      for (let i = 0; i < 64; i++) {
        const stream = await member.raw.stream(PROTOCOLS.stage)
        const channel = sessionOf(member).openChannel()
        try {
          stream.send(channel.seal(openingOf(PROTOCOLS.stage)))
          // A frame of a megabyte, up to its last bytes.
          stream.send(channel.seal(new Uint8Array(2 ** 20)).subarray(0, 2 ** 20))
          await Promise.race([stream.drained(), sleep(systemClock, 20, {})])
          streams.push(stream)
        } catch {
          // The node has as many of this peer as it takes, and has reset it.
        }
      }
    })
    assert.ok(streams.length >= 8 && streams.length < 32, `${streams.length} streams`)
    assert.ok(grown < 64 * MIB, `${grown} bytes more for ${streams.length} streams`)
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
    const port = Number(/\/tcp\/(\d+)/.exec(node.address)?.[1])
    const sockets = Array.from({ length: 64 }, () => {
      const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.4' })
      return socket.on('error', () => undefined) // Refused, as most of them should be.
    })
    test.after(() => void sockets.map(socket => socket.destroy()))
    await Promise.race(sockets.map(socket => once(socket, 'connect')))
    const idler = await node.raw({ from: '127.0.0.5' })
    const held = await Promise.all(Array.from({ length: 40 }, () => idler.dial(node.address).catch(() => undefined)))
    const open = held.filter(raw => raw?.connection.status === 'open')
    assert.ok(open.length >= UNPROVEN_MAX / 2, `${open.length} connections`)
    const startedAt = systemClock.monotonic()
    for (let i = 0; i < 3; i++) await node.survives()
    assert.ok(systemClock.monotonic() - startedAt < ADMISSION_TIMEOUT_MS - 1000)
    for (const { connection } of open as RawConnection[]) connection.abort(new Error('done'))
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
    for (let i = 0; i < 1000 && raw.connection.status === 'open'; i++) {
      clock.advance(ADMISSION_TIMEOUT_MS / 2)
      await new Promise(resolve => setImmediate(resolve))
    }
    await raw.closed
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
    const startedAt = systemClock.monotonic()
    await Promise.all(attackers.map(attacker => handshakes(attacker, 100, outcomes)))
    const tookMs = systemClock.monotonic() - startedAt
    isOver = true
    assert.equal(outcomes.authentication + outcomes.early, 1000)
    // The free ones, those that were on their way together, and one after each wait.
    assert.ok(
      outcomes.authentication >= BACK_OFF_FREE_FAILURES && outcomes.authentication < 100,
      JSON.stringify(outcomes),
    )
    assert.equal(new Set(await generations).size, 1, 'each of the same generations gives the same text')
    const joinedAt = systemClock.monotonic()
    await node.member()
    assert.ok(systemClock.monotonic() - joinedAt < 3000, 'a newcomer at another address joins at once')
    assert.ok(tookMs < 60_000, `${tookMs} ms`)
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

async function seal({ control }: Member, type: number, body: object): Promise<Uint8Array> {
  assert.ok(control.link.session !== undefined)
  return control.link.session.sealControl(type, encodeBody(body))
}

/** Sends as fast as the line takes it, whatever is answered. */
async function flood({ control }: Member, count: number, frame: (index: number) => Promise<Uint8Array>): Promise<void> {
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
