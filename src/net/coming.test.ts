/** Whether somebody may be about to join a host, from the first packet of a dial on. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { it } from 'node:test'
import { firstAddress, startHost, within } from '../../test/support/net-hosts.ts'

it('net / somebody is coming while a connection is still being made, and no more once that has failed', async test => {
  const server = createServer().listen(0, '127.0.0.1')
  test.after(() => void server.close())
  await once(server, 'listening')
  const host = await startHost(test)
  assert.equal(host.isSomebodyComing(), false)

  const taken = once(server, 'connection') as Promise<[Socket]>
  const { port } = server.address() as AddressInfo
  const dialling = assert.rejects(host.connect(`/ip4/127.0.0.1/tcp/${port}`), { code: 'NET_DIAL_FAILED' })
  const [socket] = await within('the dial', taken)
  // It says nothing: nobody knows yet who it is.
  assert.deepEqual([host.network().connections, host.isSomebodyComing()], [[], true])
  socket.destroy()
  await within('the end of the dial', dialling)
  assert.equal(host.isSomebodyComing(), false)

  const other = await startHost(test)
  await within('a connection', host.connect(firstAddress(other)))
  assert.deepEqual([host.peers().length, host.isSomebodyComing()], [1, false])
})
