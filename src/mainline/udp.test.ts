/** Sockets of the system, on loopback. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { systemClock } from '#base'
import { freePort } from '../../test/support/free-port.ts'
import type { DatagramSocket, Endpoint } from './types.ts'
import { createUdpSockets } from './udp.ts'

const sockets = (...listen: Endpoint[]) => createUdpSockets({ clock: systemClock }, { listen })

describe('UDP sockets', () => {
  for (const host of ['127.0.0.1', '::1']) {
    it(`carry datagrams, and say who sent them (${host})`, async () => {
      const [a] = await sockets({ host, port: 0 }).open()
      const [b] = await sockets({ host, port: 0 }).open()
      assert.ok(a !== undefined && b !== undefined)
      const heard = new Promise<[Uint8Array, Endpoint]>(resolve => b.onMessage((bytes, from) => resolve([bytes, from])))
      a.send(Uint8Array.of(1, 2, 3), b.local)
      assert.deepEqual(await heard, [Uint8Array.of(1, 2, 3), a.local])
      await Promise.all([a.close(), b.close(), a.close()])
      a.send(Uint8Array.of(1), b.local)
    })
  }

  it('are all had, or none', async () => {
    // One that nobody else is given while it is closed.
    const place = { host: '127.0.0.1', port: await freePort() }
    const [taken]: readonly DatagramSocket[] = await sockets(place).open()
    assert.ok(taken !== undefined)
    await assert.rejects(sockets({ host: '::1', port: 0 }, place).open(), {
      fault: { code: 'MAINLINE_LISTEN_FAILED', host: '127.0.0.1' },
    })
    await taken.close()
    const [again] = await sockets(place).open()
    await again?.close()
  })

  it('an address is its own name', async () => {
    assert.deepEqual(await sockets().resolve('127.0.0.1'), ['127.0.0.1'])
    assert.deepEqual(await sockets().resolve('::1'), ['::1'])
  })
})
