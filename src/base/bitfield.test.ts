import assert from 'node:assert/strict'
import { test } from 'node:test'
import { array, assert as check, nat, property } from 'fast-check'
import { Bitfield } from './bitfield.ts'

test('holds what a set of numbers would hold', () => {
  check(
    property(array(nat(40)), array(nat(40)), (added, removed) => {
      const bits = new Bitfield(41)
      const plain = new Set<number>()
      for (const number of added) assert.equal(bits.set(number), !plain.has(number) && plain.add(number).has(number))
      for (const number of removed) assert.equal(bits.clear(number), plain.delete(number))
      assert.deepEqual(
        [...bits.numbers()],
        [...plain].sort((a, b) => a - b),
      )
      assert.equal(bits.count, plain.size)
      const again = Bitfield.decode(bits.encode(), 41)
      assert.deepEqual([...(again?.numbers() ?? [])], [...bits.numbers()])
      assert.equal(again?.count, bits.count)
      assert.ok(bits.contains(bits.clone()) && Bitfield.full(41).contains(bits))
      assert.equal(bits.contains(Bitfield.full(41)), bits.isFull)
    }),
  )
})

test('its bytes are those of BEP 3: the first piece is the high bit of the first byte', () => {
  assert.deepEqual([...Bitfield.of(10, [0, 9]).encode()], [0x80, 0x40])
  assert.deepEqual([...Bitfield.full(10).encode()], [0xff, 0xc0])
  assert.ok(Bitfield.full(16).isFull && new Bitfield(0).isFull && new Bitfield(0).isEmpty)
})

test('bytes of another length, and spare bits that are set, are refused', () => {
  assert.equal(Bitfield.decode(Uint8Array.of(0xff), 10), undefined)
  assert.equal(Bitfield.decode(Uint8Array.of(0xff, 0xe0), 10), undefined)
  assert.equal(Bitfield.decode(Uint8Array.of(0xff, 0xc0, 0), 10), undefined)
})

test('a number that it has no room for is a bug of the caller', () => {
  assert.throws(() => new Bitfield(3).set(3))
  assert.equal(new Bitfield(3).has(17), false)
})
