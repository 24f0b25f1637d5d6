import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodePlace, encodePlace, isPublicIp, networkOf, ownerOf } from './address.ts'

const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo'

test('addresses of each transport decode, and are written in one way', () => {
  for (const [text, transport, written] of [
    [`/ip4/62.0.0.1/tcp/4001/p2p/${PEER}`, 'tcp', '/ip4/62.0.0.1/tcp/4001'],
    ['/ip4/62.0.0.1/udp/4001/quic-v1', 'quic', '/ip4/62.0.0.1/udp/4001/quic-v1'],
    ['/ip4/62.0.0.1/tcp/80/ws', 'ws', '/ip4/62.0.0.1/tcp/80/ws'],
    ['/ip6/2A01:0:0:0::1/tcp/4001', 'tcp', '/ip6/2a01::1/tcp/4001'],
    ['/ip6/::ffff:62.0.0.1/tcp/4001', 'tcp', '/ip4/62.0.0.1/tcp/4001'],
  ] as const) {
    const place = decodePlace(text)
    assert.equal(place?.transport, transport, text)
    assert.equal(encodePlace(place), written)
  }
})

test('whatever else peers send is no address', () => {
  for (const text of [
    '',
    '/dns4/example.org/tcp/1',
    '/ip4/62.0.0.1/tcp/0',
    '/ip4/62.0.0.1/tcp/65536',
    '/ip4/62.0.0.256/tcp/1',
    '/ip4/2a01::1/tcp/1',
    '/ip6/fe80::1%eth0/tcp/1',
    '/ip4/62.0.0.1/udp/1',
    `/ip4/62.0.0.1/tcp/1/p2p/${PEER}/p2p-circuit/p2p/${PEER}`,
    `/ip4/62.0.0.1/tcp/1${' '.repeat(1e6)}`,
    '/ip4/62.0.0.1/tcp/1\n',
  ]) {
    assert.equal(decodePlace(text), undefined, text.slice(0, 60))
  }
})

test('networks, and who owns an address', () => {
  assert.equal(networkOf('62.1.2.3'), networkOf('62.1.200.9'))
  assert.notEqual(networkOf('62.1.2.3'), networkOf('62.2.2.3'))
  assert.equal(networkOf('2a01:4f8::1'), networkOf('2a01:4f8:ffff::1'))
  assert.notEqual(networkOf('2a01:4f8::1'), networkOf('2a01:4f9::1'))
  assert.equal(ownerOf('2a01::1'), ownerOf('2a01::ffff'))
  assert.notEqual(ownerOf('2a01::1'), ownerOf('2a01:0:0:1::1'))
  const isPublic = ['62.1.2.3', '2a01::1'].map(isPublicIp)
  const isNot = [
    '10.0.0.1',
    '127.0.0.1',
    '100.64.0.1',
    '192.168.1.1',
    '0.0.0.0',
    '224.0.0.1',
    'fe80::1',
    'fd00::1',
    '192.0.2.2',
    '2001:db8::1',
  ]
  assert.deepEqual([isPublic, isNot.some(isPublicIp)], [[true, true], false])
})
