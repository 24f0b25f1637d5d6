import assert from 'node:assert/strict'
import { isIPv4 } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { seededRandom, toHex } from '#base'
import {
  compactContacts,
  compactEndpoint,
  decodeCompactContacts,
  decodeCompactEndpoint,
  decodeEndpoint,
  formatIp,
  ipBytes,
  prefixOf,
  scopeOf,
} from './address.ts'

test('addresses have one textual form (RFC 5952)', () => {
  const forms: ReadonlyArray<readonly [given: string, form: string]> = [
    ['1.2.3.4', '1.2.3.4'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['fe80::1%eth0', 'fe80::1'],
    ['::ffff:1.2.3.4', '::ffff:102:304'],
  ]
  for (const [given, form] of forms) assert.equal(formatIp(ipBytes(given) ?? new Uint8Array()), form)
  for (const wrong of ['', '1.2.3', '1.2.3.256', 'name', '1::2::3', ':::', 'fe80::g', '1.2.3.4.5', '1..2.3', '1.2.3.'])
    assert.equal(ipBytes(wrong), undefined)
})

test('what is an IPv4 address is what Node takes for one', () => {
  const part = fc.oneof(fc.nat(300).map(String), fc.constantFrom('', '00', '01', '0', '-1', '1e1', ' 1', '0x1', '1000'))
  const parts = fc.array(part, { minLength: 3, maxLength: 5 })
  fc.assert(
    fc.property(parts, fc.constantFrom('.', ',', '..'), (numbers, separator) => {
      const text = numbers.join(separator)
      assert.deepEqual(ipBytes(text), isIPv4(text) ? Uint8Array.from(text.split('.'), Number) : undefined)
    }),
    { seed: 12, numRuns: 1_000 },
  )
})

test('endpoints and contacts keep what they are through their compact form', () => {
  const random = seededRandom(1)
  for (const host of ['9.8.7.6', '2001:db8::77']) {
    const endpoint = decodeEndpoint(host, 6881)
    assert.ok(endpoint !== undefined)
    assert.deepEqual(decodeCompactEndpoint(compactEndpoint(endpoint)), endpoint)
    const contacts = [{ id: random.bytes(20), ...endpoint }]
    const compact = compactContacts(contacts)
    assert.deepEqual(decodeCompactContacts(compact, host.includes(':') ? 6 : 4), contacts)
    assert.equal(decodeCompactContacts(compact.subarray(1), 4), undefined)
  }
  assert.equal(toHex(compactEndpoint({ host: '1.2.3.4', port: 258 })), '010203040102')
  assert.equal(decodeCompactEndpoint(new Uint8Array(6)), undefined, 'port 0')
  assert.equal(decodeEndpoint('1.2.3.4', 65_536), undefined)
})

test('scopes: who can be reached from where', () => {
  const scopes: Readonly<Record<string, string>> = {
    '8.8.8.8': 'public',
    '100.64.0.1': 'private',
    '127.1.2.3': 'loopback',
    '0.0.0.0': 'unusable',
    '224.0.0.1': 'unusable',
    '255.255.255.255': 'unusable',
    '2a00::1': 'public',
    'fd12::1': 'private',
    'ff02::1': 'unusable',
    '::': 'unusable',
    '::1': 'loopback',
    '::ffff:8.8.8.8': 'unusable',
  }
  for (const [host, scope] of Object.entries(scopes)) assert.equal(scopeOf(host), scope, host)
})

test('prefixes are IPv4 /24 and IPv6 /48', () => {
  assert.equal(prefixOf('1.2.3.4'), prefixOf('1.2.3.250'))
  assert.notEqual(prefixOf('1.2.3.4'), prefixOf('1.2.4.4'))
  assert.equal(prefixOf('2001:db8:1:2::1'), prefixOf('2001:db8:1:ffff::9'))
  assert.notEqual(prefixOf('2001:db8:1::1'), prefixOf('2001:db8:2::1'))
})
