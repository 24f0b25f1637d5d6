import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SwarmError } from '../errors.ts'
import { createAddressRules, decodeAllowance, isPublicAddress, plainAddress } from './address-rules.ts'

const rulesOf = (...texts: string[]) =>
  createAddressRules(
    texts.map(text => {
      const allowance = decodeAllowance(text)
      assert.ok(allowance !== undefined, text)
      return allowance
    }),
  )
const place = (host: string, port = 443): { host: string; port: number } => ({ host, port })
const isRefused = (error: unknown): boolean => error instanceof SwarmError && error.code === 'SWARM_ORIGIN_REFUSED'

test('addresses that are not public are known in every form that they can be written in', () => {
  const special = `
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 169.254.169.254 172.16.0.1 172.31.255.255
    192.0.0.8 192.0.2.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1
    255.255.255.255 :: ::1 fe80::1 fe80::1%eth0 fc00::1 fd12::1 ff02::1 2001:db8::1 2002:7f00:1:: 2001::1 3fff::1 100::1
    ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 0:0:0:0:0:ffff:a9fe:a9fe ::127.0.0.1
    64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 64:ff9b:: 64:ff9b::1 none 1.2.3 [::1]`
  assert.deepEqual(special.split(/\s+/).filter(isPublicAddress), [])
})

test('addresses of the public internet are taken, mapped and behind a NAT64 too', () => {
  const addresses = `1.1.1.1 93.184.216.34 100.128.0.1 172.32.0.1 2606:4700::1111 2a00:1450:4001::8
    ::ffff:93.184.216.34 64:ff9b::5db8:d822`
  assert.deepEqual(
    addresses.split(/\s+/).filter(address => !isPublicAddress(address)),
    [],
  )
  assert.equal(plainAddress('64:ff9b::5db8:d822'), '93.184.216.34')
})

test('what the owner allows is a host, a host at one port, an address or a network', () => {
  assert.deepEqual(rulesOf('nas.home').permitted(place('NAS.home'), ['192.168.1.9']), ['192.168.1.9'])
  assert.deepEqual(rulesOf('nas.home:8080').permitted(place('nas.home', 8080), ['192.168.1.9']), ['192.168.1.9'])
  assert.throws(() => rulesOf('nas.home:8080').permitted(place('nas.home', 22), ['192.168.1.9']), isRefused)
  assert.deepEqual(rulesOf('192.168.0.0/16').permitted(place('x.home'), ['192.168.1.9']), ['192.168.1.9'])
  assert.deepEqual(rulesOf('127.0.0.1').permitted(place('localhost'), ['::1', '127.0.0.1']), ['127.0.0.1'])
  assert.deepEqual(rulesOf('fd00::/8').permitted(place('fd00::5'), ['fd00::5']), ['fd00::5'])
  assert.deepEqual(rulesOf('[fd00::5]:80').permitted(place('fd00::5', 80), ['fd00::5']), ['fd00::5'])
  assert.throws(() => rulesOf('10.0.0.0/8').permitted(place('x'), ['11.0.0.1', '192.168.0.1'].slice(1)), isRefused)
})

test('of a host with public and private addresses the public ones are left', () => {
  assert.deepEqual(rulesOf().permitted(place('x.example'), ['10.0.0.1', '93.184.216.34']), ['93.184.216.34'])
})

test('what is no allowance is refused', () => {
  const odd = [
    '',
    'a b',
    'http://x',
    '10.0.0.0/33',
    'fd00::/129',
    '10.0.0/8',
    'x:70000',
    'x:y',
    '-x',
    'x/8',
    '[::1',
    '*',
  ]
  assert.deepEqual(
    odd.filter(text => decodeAllowance(text) !== undefined),
    [],
  )
})
