import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { firstAddress, hasPeers, startHost, within } from '../../test/support/net-hosts.ts'
import { Introductions } from './introductions.ts'
import { WEBSOCKET_MESSAGE_BYTES_MAX } from './limits.ts'

const LISTEN = { listen: ['/ip4/127.0.0.1/tcp/0/ws'], planePort: 'off' } as const
const UPGRADE = `GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`

async function connected(address: string): Promise<Socket> {
  const socket = connect({ port: Number(/\/tcp\/(\d+)/.exec(address)?.[1]), host: '127.0.0.1' })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

const closed = (socket: Socket): Promise<unknown> => new Promise(resolve => socket.once('close', resolve).resume())

describe('net / WebSocket', () => {
  it('closes sockets that never become one, and takes peers afterwards', async test => {
    const host = await startHost(test, { ...LISTEN, settings: { admissionTimeoutMs: 3_000 } })
    const silent = await connected(firstAddress(host))
    const slow = await connected(firstAddress(host))
    slow.write('GET / HTTP/1.1\r\n')
    await within('the end of both', Promise.all([closed(silent), closed(slow)]))
    const peer = await startHost(test, { listen: [] })
    await peer.connect(firstAddress(host))
    await hasPeers(host, [peer.id])
  })

  it('has no more sockets than connections are allowed', async test => {
    const host = await startHost(test, { ...LISTEN, settings: { connectionsMax: 8 } })
    const sockets = await Promise.all(Array.from({ length: 8 }, () => connected(firstAddress(host))))
    const late = await connected(firstAddress(host))
    await within('the end', closed(late))
    for (const socket of sockets) assert.equal(socket.destroyed, false)
    for (const socket of sockets) socket.destroy()
  })

  it('closes a socket that announces a message beyond the bound before it has come', async test => {
    const host = await startHost(test, LISTEN)
    const socket = await connected(firstAddress(host))
    socket.write(UPGRADE)
    await once(socket, 'data')
    // A masked binary frame with a length of eight bytes, of which no more follows.
    const header = new Uint8Array(14)
    header.set([0x82, 0xff])
    new DataView(header.buffer).setBigUint64(2, BigInt(WEBSOCKET_MESSAGE_BYTES_MAX) + 1n)
    socket.write(header)
    await within('the end', closed(socket))
  })

  it('outlives frames that break the protocol, and garbage', async test => {
    const host = await startHost(test, LISTEN)
    const seed = systemRandom.uint32()
    test.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    for (let i = 0; i < 40; i++) {
      const socket = await connected(firstAddress(host))
      const end = closed(socket)
      if (i % 4 > 0) {
        socket.write(UPGRADE)
        await once(socket, 'data')
      }
      // Unmasked, with reserved bits, of no known kind, or whatever.
      socket.write(random.bytes(1 + (random.uint32() % 200)))
      socket.end()
      await within('the end', end)
    }
    const peer = await startHost(test, { listen: [] })
    await peer.connect(firstAddress(host))
    await hasPeers(host, [peer.id])
  })

  it('is not dialled on the word of others', async () => {
    const { peer } = await createNodeIdentity(seededRandom(5))
    const dialled: string[] = []
    const introductions = new Introductions({
      clock: new ManualClock(),
      random: seededRandom(1),
      isUnwanted: () => false,
      connect: async (_peer, addresses) => void dialled.push(...addresses.map(({ transport }) => transport)),
    })
    const addresses = ['/ip4/192.0.2.1/tcp/1/ws', '/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.1/udp/1/quic-v1']
    introductions.add([{ id: peer, addresses }], { isNews: false })
    assert.deepEqual(dialled, ['tcp', 'quic'])
  })
})
