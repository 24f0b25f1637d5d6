import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fromHex, seededRandom, toHex } from '#base'
import { crc32c } from './crc32c.ts'
import { compareDistance, fitsAddress, idOfAddress, idSharing, sharedBits } from './node-id.ts'

const SEED = 42
const random = seededRandom(SEED)

/** As published in BEP 42 and in libtorrent's documentation. */
const BEP_42: ReadonlyArray<readonly [host: string, last: number, start: string, id: string]> = [
  ['124.31.75.21', 1, '5fbfbf', '5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401'],
  ['21.75.31.124', 86, '5a3ce9', '5a3ce9c14e7a08645677bbd1cfe7d8f956d53256'],
  ['65.23.51.170', 22, 'a5d432', 'a5d43220bc8f112a3d426c84764f8c2a1150e616'],
  ['84.124.73.14', 65, '1b0321', '1b0321dd1bb1fe518101ceef99462b947a01ff41'],
  ['43.213.53.83', 90, 'e56f6c', 'e56f6cbf5b7c4be0237986d5243b87aa6d51305a'],
]

test('CRC-32C gives the check value of its catalogue', () => {
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283)
})

test('ids follow from addresses as BEP 42 has published', () => {
  for (const [host, last, start, id] of BEP_42) {
    const made = idOfAddress(host, last, random)
    // Of the third byte only five bits follow from the address.
    assert.equal(toHex(made.subarray(0, 2)), start.slice(0, 4))
    assert.equal((made[2] ?? 0) & 0xf8, Number.parseInt(start.slice(4), 16) & 0xf8)
    assert.equal(made[19], last)
    assert.ok(fitsAddress(made, host))
    assert.ok(fitsAddress(fromHex(id), host), id)
    assert.ok(!fitsAddress(fromHex(id), '8.8.8.8'))
  }
})

test('IPv6 addresses have ids that fit, and share them within what the mask leaves out', () => {
  const id = idOfAddress('2001:db8:85a3:8d3::1', 200, random)
  assert.ok(fitsAddress(id, '2001:db8:85a3:8d3::1'))
  assert.ok(fitsAddress(id, '2001:db8:85a3:8d3:ffff::9'), 'the lower half does not count')
  assert.ok(!fitsAddress(id, '2001:db8:85a3:8d4::1'))
})

test('private and loopback addresses fit any id', () => {
  for (const host of [
    '127.0.0.1',
    '10.1.2.3',
    '192.168.0.1',
    '172.16.9.9',
    '169.254.1.1',
    '::1',
    'fe80::1',
    'fd00::1',
  ]) {
    assert.ok(fitsAddress(random.bytes(20), host), host)
  }
})

test('distance is XOR: the nearer one comes first, bit by bit', () => {
  const target = random.bytes(20)
  for (let bits = 0; bits < 159; bits++) {
    const far = idSharing(target, bits, random)
    const near = idSharing(target, bits + 1, random)
    assert.equal(sharedBits(target, far), bits)
    assert.ok(compareDistance(target, near, far) < 0)
    assert.ok(compareDistance(target, far, near) > 0)
  }
  assert.equal(sharedBits(target, target), 160)
  assert.equal(compareDistance(target, target, target), 0)
})
