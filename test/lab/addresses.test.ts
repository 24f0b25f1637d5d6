/** The lab's public addresses are public to the libraries that will see them. */
import assert from 'node:assert/strict'
import { BlockList } from 'node:net'
import { test } from 'node:test'
import { publicIpv4, publicIpv6Prefix } from './addresses.ts'
import { LAB_HOSTS_MAX, SITE_HOSTS_MAX } from './limits.ts'

/** js-libp2p's private ranges (`@libp2p/utils` 7, private-ip.js). */
const PRIVATE = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['240.0.0.0', 4],
] as const

/** Class A ranges that libtorrent's DHT ignores (`dht_ignore_dark_internet`). */
const DARK = [3, 6, 7, 9, 11, 19, 21, 22, 25, 26, 28, 29, 30, 33, 34, 48, 56] as const

const COUNT = 2 * LAB_HOSTS_MAX + SITE_HOSTS_MAX

test('IPv4 addresses are public, not dark, and each in a /16 of its own', () => {
  const refused = new BlockList()
  for (const [network, bits] of PRIVATE) refused.addSubnet(network, bits)
  for (const first of DARK) refused.addSubnet(`${first}.0.0.0`, 8)
  const groups = new Set<string>()
  for (let index = 0; index < COUNT; index += 1) {
    const address = publicIpv4(index)
    assert(!refused.check(address), address)
    groups.add(address.split('.').slice(0, 2).join('.'))
  }
  assert.equal(groups.size, COUNT)
})

test('IPv6 prefixes are global unicast, not for documentation or tunnels, and differ', () => {
  const prefixes = new Set<string>()
  for (let index = 0; index < COUNT; index += 1) {
    assert.match(publicIpv6Prefix(index), /^2a0[1-5]:/)
    prefixes.add(publicIpv6Prefix(index))
  }
  assert.equal(prefixes.size, COUNT)
})
