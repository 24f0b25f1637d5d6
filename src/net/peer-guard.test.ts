/** Against what faults are counted. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { subjectOfAddress } from './peer-guard.ts'

test('an address of IPv4 counts for itself, one of IPv6 for its network of 2^64', () => {
  const subjects: Readonly<Record<string, string | undefined>> = {
    '/ip4/192.0.2.7/tcp/4001': 'ip:192.0.2.7',
    '/ip6/2001:db8:1:2:3:4:5:6/tcp/4001': 'ip:2001:db8:1:2::/64',
    '/ip6/2001:db8:1:2::99/tcp/4001': 'ip:2001:db8:1:2::/64',
    '/ip6/2001:0db8:0001:0002:ffff::/tcp/4001': 'ip:2001:db8:1:2::/64',
    '/ip6/2001:db8::1/tcp/4001': 'ip:2001:db8:0:0::/64',
    '/ip6/::1/tcp/4001': 'ip:0:0:0:0::/64',
    '/unix/tmp/socket': undefined,
  }
  for (const [multiaddr, subject] of Object.entries(subjects)) assert.equal(subjectOfAddress(multiaddr), subject)
})
