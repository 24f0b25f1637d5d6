import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { describe, it, type TestContext } from 'node:test'
import { ManualClock } from '#base'
import { SHUTTLE_IDLE_MS } from '../limits.ts'
import { Shuttle } from './shuttle.ts'
import type { DatagramPath } from './types.ts'

type Path = DatagramPath & {
  readonly sent: Uint8Array[]
  arrives(bytes: Uint8Array): void
  end(): void
  isHeard(): boolean
}

function path(): Path {
  const listeners = new Set<(bytes: Uint8Array) => void>()
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  const sent: Uint8Array[] = []
  return {
    sent,
    closed,
    send: bytes => sent.push(Uint8Array.from(bytes)) > 0,
    onMessage: listener => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    arrives: bytes => {
      for (const listener of listeners) listener(bytes)
    },
    end: () => resolve(),
    isHeard: () => listeners.size > 0,
  }
}

async function quic(test: TestContext): Promise<Socket> {
  const socket = createSocket('udp4')
  test.after(() => void socket.close())
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return socket
}

const portOf = (shuttle: Shuttle): number => Number(/\/udp\/(\d+)\/quic-v1$/.exec(shuttle.address)?.[1])

/** Waits until so many datagrams have crossed. */
async function crossed(sent: readonly unknown[], count: number): Promise<void> {
  while (sent.length < count) await new Promise(resolve => setImmediate(resolve))
}

describe('net / punch / shuttle', () => {
  it('carries datagrams between the path and whoever dials it', async t => {
    const [way, socket] = [path(), await quic(t)]
    const shuttle = await Shuttle.open({ clock: new ManualClock() }, way)
    // Before QUIC has spoken nobody is there to hear.
    way.arrives(Uint8Array.of(9))
    socket.send(Uint8Array.of(1, 2, 3), portOf(shuttle), '127.0.0.1')
    await crossed(way.sent, 1)
    assert.deepEqual(way.sent, [Uint8Array.of(1, 2, 3)])
    const heard = once(socket, 'message')
    way.arrives(Uint8Array.of(4))
    assert.deepEqual(Uint8Array.from((await heard)[0] as Buffer), Uint8Array.of(4))
    shuttle.end()
    await shuttle.ended
    assert.equal(way.isHeard(), false)
  })

  it('speaks to a listener first, from an address that is its own', async t => {
    const [way, socket] = [path(), await quic(t)]
    const listener = { host: '127.0.0.1', port: socket.address().port }
    const shuttle = await Shuttle.open({ clock: new ManualClock() }, way, { listener })
    const heard = once(socket, 'message')
    way.arrives(Uint8Array.of(7))
    const [, from] = (await heard) as [Buffer, { port: number }]
    assert.equal(from.port, portOf(shuttle))
    shuttle.end()
    await shuttle.ended
  })

  it('drops what is longer than every path carries, and what comes from another socket', async t => {
    const [way, socket, other] = [path(), await quic(t), await quic(t)]
    const shuttle = await Shuttle.open({ clock: new ManualClock() }, way)
    const send = (from: Socket, bytes: Uint8Array): Promise<void> =>
      new Promise(resolve => from.send(bytes, portOf(shuttle), '127.0.0.1', () => resolve()))
    await send(socket, new Uint8Array(1_200))
    await crossed(way.sent, 1)
    await send(other, new Uint8Array(10))
    await send(socket, new Uint8Array(1_201))
    await send(socket, new Uint8Array(5))
    await crossed(way.sent, 2)
    assert.deepEqual(
      way.sent.map(({ byteLength }) => byteLength),
      [1_200, 5],
    )
    shuttle.end()
    await shuttle.ended
  })

  it('ends with the path, and when our QUIC has been silent', async t => {
    const clock = new ManualClock()
    const [gone, idle, socket] = [path(), path(), await quic(t)]
    const first = await Shuttle.open({ clock }, gone)
    gone.end()
    await first.ended
    const second = await Shuttle.open({ clock }, idle)
    socket.send(Uint8Array.of(1), portOf(second), '127.0.0.1')
    await crossed(idle.sent, 1)
    clock.advance(SHUTTLE_IDLE_MS)
    assert.equal(idle.isHeard(), true)
    // What arrives from the peer alone keeps nothing alive.
    idle.arrives(Uint8Array.of(1))
    clock.advance(SHUTTLE_IDLE_MS)
    await second.ended
    assert.equal(idle.isHeard(), false)
  })
})
