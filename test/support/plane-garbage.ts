/** What strangers may send to the data plane of a node: noise, and the first flight of a handshake, whole, cut or changed. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Random } from '#base'
import { encodePlaneIdentity, type SecureSession } from '#protocol'
import { dial } from '../../src/net/plane/handshake.ts'
import { within } from './net-hosts.ts'

/** A dialler of the data plane with a key of the session, or whatever else is given. */
export function dialPlane(
  port: number,
  ours: SecureSession,
  target: Partial<Parameters<typeof dial>[0]> = {},
): ReturnType<typeof dial> {
  const { identity, key } = ours.openPlane()
  return dial({
    host: '127.0.0.1',
    port,
    identity: encodePlaneIdentity(identity),
    key,
    protocol: '/koinon/stage/1',
    signal: AbortSignal.timeout(60_000),
    ...target,
  })
}

/** What a dialler with a key says first. */
export async function firstFlight(ours: SecureSession): Promise<Uint8Array<ArrayBuffer>> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dialled = dialPlane((server.address() as AddressInfo).port, ours)
  const [socket] = (await once(server, 'connection')) as [Socket]
  const [bytes] = (await once(socket, 'data')) as [Uint8Array]
  socket.destroy()
  server.close()
  await assert.rejects(dialled)
  return Uint8Array.from(bytes)
}

/** Resolves when the socket is gone, also by a reset, at which `once` would reject. */
export function closeOf(socket: Socket): Promise<void> {
  return new Promise(resolve => socket.on('error', () => undefined).once('close', () => resolve()))
}

/** Connects again and again, sends something, ends or resets; resolves when all sockets are gone. */
export async function sendGarbage(
  port: number,
  { random, hello, rounds }: { readonly random: Random; readonly hello: Uint8Array; readonly rounds: number },
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    // Drawn before anything is sent: the seed says who sends what, whoever is connected first.
    const drawn = Array.from({ length: 8 }, () => drawGarbage(random, hello))
    const ends = drawn.map(async ({ part, rest, how }) => {
      const socket = connect({ port, host: '127.0.0.1' })
      const closed = closeOf(socket.resume())
      await once(socket, 'connect')
      if (how === 'end') socket.end(part)
      else if (how === 'reset') socket.write(part, () => socket.resetAndDestroy())
      else socket.write(part, () => socket.end(rest))
      await closed
    })
    await within('their ends', Promise.all(ends))
  }
}

type Garbage = { readonly part: Uint8Array; readonly rest: Uint8Array; readonly how: 'end' | 'reset' | 'go on' }

function drawGarbage(random: Random, hello: Uint8Array): Garbage {
  const bytes = random.uint32() % 2 === 0 ? random.bytes(1 + (random.uint32() % 600)) : hello.slice()
  if (random.uint32() % 2 === 0) bytes.set([random.uint32() & 0xff], random.uint32() % bytes.byteLength)
  const part = bytes.subarray(0, random.uint32() % (bytes.byteLength + 1))
  const how = (['end', 'reset', 'go on'] as const)[random.uint32() % 3] ?? 'end'
  return { part, rest: random.bytes(64), how }
}
