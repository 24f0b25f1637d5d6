/** Which way the streams of a host go, and what ends them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { type ByteStream, ManualClock, systemClock } from '#base'
import { PROTOCOLS } from '#wire'
import { freePort } from '../../../test/support/free-port.ts'
import { firstAddress, offerOf, startHost, within } from '../../../test/support/net-hosts.ts'
import type { Host } from '../types.ts'

/** Gives back what it is sent. */
async function echo(stream: ByteStream): Promise<void> {
  for await (const piece of stream.received) stream.send(piece)
  await stream.close()
}

async function answerOf(stream: ByteStream): Promise<number[]> {
  stream.send(Uint8Array.of(1, 2, 3))
  const { value } = await within('the echo', stream.received[Symbol.asyncIterator]().next())
  return [...(value ?? [])]
}

/** For hosts whose data plane is given all the time that it takes. */
const unhurried = () => ({ clock: new ManualClock(systemClock.now()) })

const streamsOf = (host: Host): unknown => host.peers()[0]?.streams

describe('net / streams of a host', () => {
  it('go over the data plane, and both sides count them', async test => {
    const [a, b] = [await startHost(test, unhurried()), await startHost(test, unhurried())]
    for (const host of [a, b]) host.handle(PROTOCOLS.stage, echo)
    await a.connect(firstAddress(b))
    const there = await a.open(b.id, PROTOCOLS.stage)
    const back = await b.open(a.id, PROTOCOLS.stage)
    for (const stream of [there, back]) assert.deepEqual(await answerOf(stream), [1, 2, 3])
    for (const host of [a, b]) assert.deepEqual(streamsOf(host), { plane: 2, libp2p: 0 })
  })

  it('go over libp2p to a peer that has no data plane, or cannot be reached there', async test => {
    const planePort = await freePort()
    for (const offer of [offerOf('none'), { ...offerOf('closed'), planePort }]) {
      const a = await startHost(test)
      const b = await startHost(test, { planePort: 'off', offer })
      b.handle(PROTOCOLS.stage, echo)
      await a.connect(firstAddress(b))
      assert.deepEqual(await answerOf(await a.open(b.id, PROTOCOLS.stage)), [1, 2, 3])
      assert.deepEqual(streamsOf(a), { plane: 0, libp2p: 1 })
    }
  })

  it('go on over the data plane after one for a protocol that the peer does not serve', async test => {
    const [a, b] = [await startHost(test, unhurried()), await startHost(test, unhurried())]
    b.handle(PROTOCOLS.stage, echo)
    await a.connect(firstAddress(b))
    await assert.rejects(a.open(b.id, PROTOCOLS.bulk), { code: 'NET_PROTOCOL_REFUSED' })
    await a.open(b.id, PROTOCOLS.stage)
    assert.deepEqual(streamsOf(a), { plane: 1, libp2p: 0 })
  })

  it('say when memory that was sent is needed no more: what is written there then does not reach the peer', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    b.handle(PROTOCOLS.pieces, echo)
    await a.connect(firstAddress(b))
    const stream = await a.open(b.id, PROTOCOLS.pieces)
    for (const [size, times] of [
      [100, 3],
      [3_000_000, 3],
    ] as const) {
      for (let turn = 1; turn <= times; turn++) {
        const [head, body] = [new Uint8Array(13).fill(turn), new Uint8Array(size).fill(turn)]
        const { promise, resolve } = Promise.withResolvers<void>()
        stream.sendParts([head, body], () => {
          head.fill(99)
          body.fill(99)
          resolve()
        })
        let echoed = 0
        const reading = (async () => {
          for await (const piece of stream.received) {
            assert.ok(piece.every(byte => byte === turn))
            if ((echoed += piece.byteLength) === 13 + size) return
          }
        })()
        await within('the echo', Promise.all([promise, reading]))
      }
    }
  })

  it('end with the session that their key comes from', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    b.handle(PROTOCOLS.stage, echo)
    await a.connect(firstAddress(b))
    const stream = await a.open(b.id, PROTOCOLS.stage)
    assert.deepEqual(await answerOf(stream), [1, 2, 3])
    const reading = stream.received[Symbol.asyncIterator]().next()
    b.drop(a.id, 'flood')
    await assert.rejects(within('the end', reading), { code: 'STREAM_RESET' })
    assert.throws(() => stream.send(Uint8Array.of(1)), { code: 'STREAM_RESET' })
  })

  it('take the port that was asked for, and say when it cannot be had', async test => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    test.after(() => new Promise<void>(resolve => taken.close(() => resolve())))
    const { port } = taken.address() as AddressInfo
    await assert.rejects(startHost(test, { planePort: port }), { code: 'NET_LISTEN_FAILED' })
  })
})
