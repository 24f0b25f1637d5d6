import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressOfBytes, bytesOfAddress, decodeIp, isPrivate, isUnicast } from './ip.ts'
import { openUdp } from './udp.ts'

test('datagrams go both ways, and come to all listeners until they leave', async () => {
  const [a, b] = await Promise.all([openUdp({ address: '127.0.0.1' }), openUdp({ address: '127.0.0.1' })])
  let others = 0
  b.onMessage(() => others++)
  const unlisten = b.onMessage((bytes, from) => {
    unlisten()
    b.send(bytes.slice().reverse(), from)
  })
  const answer = new Promise<Uint8Array>(resolve => a.onMessage(resolve))
  a.send(Uint8Array.of(1, 2), b.local)
  assert.deepEqual(await answer, Uint8Array.of(2, 1))
  assert.equal(others, 1)
  await Promise.all([a.close(), a.close(), b.close()])
  a.send(Uint8Array.of(1), b.local)
})

test('what the system refuses counts as lost', async () => {
  const socket = await openUdp({ address: '127.0.0.1' })
  socket.send(new Uint8Array(70_000), socket.local)
  socket.send(Uint8Array.of(1), { address: '::1', port: 5 })
  socket.send(Uint8Array.of(1), { address: '127.0.0.1', port: 0 })
  const heard = new Promise<Uint8Array>(resolve => socket.onMessage(resolve))
  socket.send(Uint8Array.of(7), socket.local)
  assert.deepEqual(await heard, Uint8Array.of(7))
  await socket.close()
})

test('an address that is not ours, and a port that is taken, are faults', async () => {
  await assert.rejects(openUdp({ address: '192.0.2.77' }), { code: 'NAT_SOCKET_FAILED' })
  const socket = await openUdp({ address: '127.0.0.1' })
  await assert.rejects(openUdp(socket.local), { code: 'NAT_SOCKET_FAILED' })
  await socket.close()
})

test('an address has one form', () => {
  const forms: readonly (readonly [string, string | undefined])[] = [
    ['192.0.2.1', '192.0.2.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::', '::'],
    ['fe80::1%eth0', undefined],
    ['192.0.2.256', undefined],
    ['192.0.2', undefined],
    ['host.local', undefined],
    ['', undefined],
  ]
  for (const [text, expected] of forms) assert.equal(decodeIp(text), expected, text)
  assert.equal(addressOfBytes(bytesOfAddress('::1') ?? new Uint8Array(16)), '::1')
})

test('private addresses, and those of one machine', () => {
  for (const address of [
    '10.1.1.1',
    '172.31.0.1',
    '192.168.0.1',
    '100.127.0.1',
    '169.254.1.1',
    '127.0.0.1',
    'fd00::1',
    'fe80::1',
    '::1',
  ]) {
    assert.equal(isPrivate(address), true, address)
  }
  for (const address of ['11.0.0.1', '172.32.0.1', '100.128.0.1', '2001:db8::1', 'nonsense']) {
    assert.equal(isPrivate(address), false, address)
  }
  for (const address of ['0.0.0.0', '224.0.0.1', '255.255.255.255', '::', 'ff02::1', 'nonsense', '']) {
    assert.equal(isUnicast(address), false, address)
  }
})
