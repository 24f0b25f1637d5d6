import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OwnAddresses } from './own-addresses.ts'

test('the hosts that were asked for are known, and the ports of TCP, which nobody else here is to take', () => {
  const { hosts, ports } = new OwnAddresses({ self: 'a', listening: () => [], relayed: () => [] }, [
    '/ip4/127.0.0.1/tcp/4001',
    '/ip4/127.0.0.1/tcp/4002/ws',
    '/ip6/::1/udp/4003/quic-v1',
    'no address',
  ])
  assert.deepEqual(
    [hosts, [...ports]],
    [
      ['127.0.0.1', '::1'],
      [4001, 4002],
    ],
  )
})
