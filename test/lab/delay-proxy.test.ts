/** The delaying proxy on loopback: what it delays, loses and keeps in order. Needs no root. */
import assert from 'node:assert/strict'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { describe, it, type TestContext } from 'node:test'
import { ManualClock, seededRandom, systemClock, systemRandom } from '#base'
import { createDelayProxy } from './delay-proxy.ts'
import { createPath, parseImpairment } from './impairment.ts'

async function udpSocket(t: TestContext): Promise<UdpSocket> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.after(() => socket.close())
  return socket
}

async function echoTcp(t: TestContext): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return (server.address() as AddressInfo).port
}

describe('a path', () => {
  it('decides the same for the same seed, and loses about as many as asked', () => {
    const seed = systemRandom.uint32()
    const decide = (): boolean[] => {
      const path = createPath({ clock: new ManualClock(), random: seededRandom(seed) }, { lossRatio: 0.3, jitterMs: 5 })
      return Array.from({ length: 2_000 }, () => path(100).isLost)
    }
    const lost = decide()
    assert.deepEqual(decide(), lost, `seed ${seed}`)
    const ratio = lost.filter(Boolean).length / lost.length
    assert(ratio > 0.2 && ratio < 0.4, `seed ${seed}: ${ratio}`)
  })

  it('makes packets wait for each other where its rate is limited', () => {
    const clock = new ManualClock()
    const path = createPath({ clock, random: seededRandom(1) }, { delayMs: 10, bytesPerSecond: 1_000 })
    assert.equal(path(100).delayMs, 110)
    assert.equal(path(100).delayMs, 210)
    clock.advance(1_000)
    assert.equal(path(100).delayMs, 110)
  })

  it('refuses numbers that mean nothing', () => {
    const deps = { clock: new ManualClock(), random: seededRandom(1) }
    for (const bad of [{ delayMs: -1 }, { delayMs: 1e9 }, { lossRatio: 2 }, { bytesPerSecond: Number.NaN }]) {
      assert.throws(() => createPath(deps, bad), RangeError)
    }
    assert.throws(() => parseImpairment('{"delay":1}'), TypeError)
    assert.throws(() => parseImpairment('{"delayMs":"1"}'), TypeError)
    assert.deepEqual(parseImpairment('{"delayMs":1}'), { delayMs: 1 })
  })
})

describe('a delaying proxy', () => {
  it('holds a UDP packet back until its time has come, in both directions', async t => {
    const [server, client] = [await udpSocket(t), await udpSocket(t)]
    const clock = new ManualClock()
    const target = { host: '127.0.0.1', port: server.address().port }
    const proxy = await createDelayProxy({ clock, random: seededRandom(1) }, { protocol: 'udp', target, delayMs: 50 })
    t.after(() => proxy.close())
    server.on('message', (bytes, from) => server.send(bytes, from.port, from.address))
    const echoed = once(client, 'message')
    client.send('hello', proxy.port, '127.0.0.1')
    let steps = 0
    const answer = { arrived: false }
    const arrived = echoed.then(([bytes]) => {
      answer.arrived = true
      return String(bytes)
    })
    while (!answer.arrived) {
      // Time moves only here: without it nothing would ever pass.
      clock.advance(1)
      steps += 1
      await new Promise(resolve => setImmediate(resolve))
    }
    assert.equal(await arrived, 'hello')
    assert(steps >= 100, `${steps} ms for two ways of 50 ms`)
    assert.deepEqual(proxy.counts, { passed: 2, lost: 0, dropped: 0 })
  })

  it('loses UDP packets as its seed says', async t => {
    const [server, client] = [await udpSocket(t), await udpSocket(t)]
    const target = { host: '127.0.0.1', port: server.address().port }
    const seed = systemRandom.uint32()
    const proxy = await createDelayProxy(
      { clock: systemClock, random: seededRandom(seed) },
      { protocol: 'udp', target, lossRatio: 0.5 },
    )
    t.after(() => proxy.close())
    const path = createPath({ clock: systemClock, random: seededRandom(seed) }, { lossRatio: 0.5 })
    const expected = Array.from({ length: 40 }, (_, index) => index).filter(() => !path(2).isLost)
    const received: number[] = []
    const all = new Promise<void>(resolve => {
      server.on('message', bytes => {
        received.push(bytes.readUInt16BE())
        if (received.length === expected.length) resolve()
      })
    })
    for (let index = 0; index < 40; index += 1) {
      const packet = new Uint8Array(2)
      new DataView(packet.buffer).setUint16(0, index)
      await new Promise(resolve => client.send(packet, proxy.port, '127.0.0.1', resolve))
    }
    await all
    assert.deepEqual(
      received.toSorted((a, b) => a - b),
      expected,
      `seed ${seed}`,
    )
  })

  it('carries a TCP stream whole and in order, whatever it delays and loses, and passes its end on', async t => {
    const port = await echoTcp(t)
    const seed = systemRandom.uint32()
    const proxy = await createDelayProxy(
      { clock: systemClock, random: seededRandom(seed) },
      { protocol: 'tcp', target: { host: '127.0.0.1', port }, jitterMs: 3, lossRatio: 0.1, resendMs: 5 },
    )
    t.after(() => proxy.close())
    const sent = seededRandom(seed).bytes(300_000)
    const socket = connect({ host: '127.0.0.1', port: proxy.port, allowHalfOpen: true })
    socket.end(sent)
    assert(Buffer.from(sent).equals(await buffer(socket)), `seed ${seed}`)
  })

  it('closes with connections open', async t => {
    const target = { host: '127.0.0.1', port: await echoTcp(t) }
    const proxy = await createDelayProxy({ clock: systemClock, random: seededRandom(1) }, { protocol: 'tcp', target })
    const open = connect({ host: '127.0.0.1', port: proxy.port })
    await once(open, 'connect')
    open.write('x')
    await once(open, 'data')
    const closed = once(open, 'close')
    await proxy.close()
    await closed
  })

  it('passes a refusal and a reset on as a reset', async t => {
    const resetting = createServer(socket => void socket.resetAndDestroy())
    resetting.listen(0, '127.0.0.1')
    await once(resetting, 'listening')
    t.after(() => resetting.close())
    // Nothing listens at port 1, and nothing will.
    for (const port of [1, (resetting.address() as AddressInfo).port]) {
      const proxy = await createDelayProxy(
        { clock: systemClock, random: seededRandom(1) },
        { protocol: 'tcp', target: { host: '127.0.0.1', port } },
      )
      t.after(() => proxy.close())
      const socket = connect({ host: '127.0.0.1', port: proxy.port })
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
      assert.equal(error.code, 'ECONNRESET')
    }
  })
})
