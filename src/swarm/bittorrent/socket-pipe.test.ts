import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { systemClock } from '#base'
import { createSocketPipe } from './socket-pipe.ts'

const PART_BYTES = 3_000_000

test('a pipe over a socket says when it needs memory no more: what is written there then is not sent', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sockets = [connect((server.address() as AddressInfo).port, '127.0.0.1')]
  sockets.push(...((await once(server, 'connection')) as [Socket]))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const [from, to] = sockets.map(socket => createSocketPipe(systemClock, socket))
  assert.ok(from !== undefined && to !== undefined)
  const parts = [new Uint8Array(13).fill(1), new Uint8Array(PART_BYTES).fill(2)]
  const { promise: taken, resolve } = Promise.withResolvers<void>()
  from.sendParts(parts, () => {
    for (const part of parts) part.fill(99)
    resolve()
  })
  let received = 0
  for await (const piece of to.received) {
    for (const byte of piece) if (byte !== (received++ < 13 ? 1 : 2)) assert.fail(`byte ${received} is ${byte}`)
    if (received === 13 + PART_BYTES) break
  }
  await taken
})
