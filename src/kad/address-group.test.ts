import assert from 'node:assert/strict'
import { test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { groupOf } from './address-group.ts'

const group = (text: string, isLocalExempt = true): string | undefined => groupOf(multiaddr(text), { isLocalExempt })

test('addresses of one block are one group: IPv4 /24, IPv6 /48, one relay', () => {
  const relay = '12D3KooWNvSZnPi3RrhrTwEY4LuuBeB6K6facKUCJcyWG1aoDd2p'
  assert.equal(group('/ip4/198.51.100.7/tcp/1'), '198.51.100')
  assert.equal(group('/ip4/198.51.100.9/udp/2/quic-v1'), '198.51.100')
  assert.notEqual(group('/ip4/198.51.101.7/tcp/1'), '198.51.100')
  assert.equal(group('/ip6/2001:db8:1:2::3/tcp/1'), '2001:db8:1')
  assert.equal(group('/ip6/2001:db8:1:ffff:1:2:3:4/tcp/1'), '2001:db8:1')
  assert.equal(group('/ip6/2001:db8::1/tcp/1'), '2001:db8:0')
  assert.equal(group('/ip6/::ffff:198.51.100.7/tcp/1'), '198.51.100')
  assert.equal(group('/ip6/::ffff:c633:6407/tcp/1'), '198.51.100')
  assert.equal(group(`/ip4/198.51.100.7/tcp/1/p2p/${relay}/p2p-circuit`), `relay ${relay}`)
})

test('local addresses are exempt where that is asked for, and what has no IP address always', () => {
  for (const host of ['127.0.0.1', '10.1.2.3', '192.168.0.9', '172.16.5.5', '169.254.1.1', '100.64.0.1']) {
    assert.equal(group(`/ip4/${host}/tcp/1`), undefined)
    assert.notEqual(group(`/ip4/${host}/tcp/1`, false), undefined)
  }
  for (const host of ['::1', 'fd00::1', 'fe80::1']) assert.equal(group(`/ip6/${host}/tcp/1`), undefined)
  assert.equal(group('/ip4/172.32.5.5/tcp/1'), '172.32.5')
  assert.equal(group('/memory/here', false), undefined)
})
