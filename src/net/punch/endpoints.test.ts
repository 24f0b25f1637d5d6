import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { callable, isNeighbour, isPublicAddress, localNetworks, plainAddress, tcpMultiaddr } from './endpoints.ts'

const HOME = [{ address: '192.168.1.7', prefixBits: 24 }]

describe('net / punch / endpoints', () => {
  it('tells addresses of the internet from others', () => {
    for (const address of ['62.10.0.1', '203.0.113.5', '2a01:4f8::1']) assert.equal(isPublicAddress(address), true)
    for (const address of [
      '10.0.0.1',
      '127.0.0.1',
      '100.64.1.1',
      '169.254.1.1',
      '172.31.0.1',
      '192.168.1.1',
      '224.0.0.1',
      '255.255.255.255',
      '0.0.0.0',
      '::1',
      '::',
      'fe80::1',
      'fd00::1',
      'ff02::1',
      '::ffff:10.0.0.1',
      '::ffff:62.10.0.1',
      'localhost',
      '62.10.0.1.example',
      '',
    ]) {
      assert.equal(isPublicAddress(address), false, address)
    }
  })

  it('calls private addresses in our own networks only', () => {
    assert.equal(isNeighbour('192.168.1.200', HOME), true)
    assert.equal(isNeighbour('192.168.2.200', HOME), false)
    assert.equal(isNeighbour('fd00::1', HOME), false)
    const endpoints = ['62.10.0.1', '192.168.1.1', '10.0.0.1', '127.0.0.1', 'x'].map(address => ({
      address,
      port: 4001,
    }))
    assert.deepEqual(
      callable(endpoints, HOME).map(({ address }) => address),
      ['62.10.0.1', '192.168.1.1'],
    )
  })

  it('never takes loopback for a network of ours', () => {
    assert.equal(isNeighbour('127.0.0.1', localNetworks()), false)
    assert.equal(isNeighbour('::1', localNetworks()), false)
  })

  it('writes endpoints as multiaddrs', () => {
    assert.equal(tcpMultiaddr({ address: '62.10.0.1', port: 7 }), '/ip4/62.10.0.1/tcp/7')
    assert.equal(tcpMultiaddr({ address: '2a01::1', port: 7 }), '/ip6/2a01::1/tcp/7')
    assert.equal(plainAddress('::ffff:62.10.0.1'), '62.10.0.1')
  })
})
