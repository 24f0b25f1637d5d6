import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ReorderWindow, type WindowVerdict } from './reorder-window.ts'

test('a number is taken once, inside the window, in any order', () => {
  const window = new ReorderWindow(64)
  assert.equal(window.check(64), 'ahead')
  assert.equal(window.check(63), 'fresh')
  window.record(63)
  assert.equal(window.check(63), 'duplicate')
  assert.equal(window.check(0), 'fresh')
  window.record(0)
  assert.equal(window.check(127), 'fresh')
  assert.equal(window.check(128), 'ahead')
  window.record(127)
  assert.equal(window.check(63), 'stale')
  assert.equal(window.check(64), 'fresh')
})

test('asking changes nothing', () => {
  const window = new ReorderWindow(64)
  for (let i = 0; i < 1000; i++) window.check(i % 70)
  assert.equal(window.check(0), 'fresh')
})

test('the bitmap says what a list of all numbers would say', () => {
  const jumps = fc.array(fc.integer({ min: -150, max: 140 }), { minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(fc.constantFrom(32, 64, 128), jumps, (size, offsets) => {
      const window = new ReorderWindow(size)
      const taken = new Set<number>()
      let highest = -1
      for (const offset of offsets) {
        const number = Math.max(0, highest + offset)
        const expected: WindowVerdict =
          number > highest + size
            ? 'ahead'
            : number <= highest - size
              ? 'stale'
              : taken.has(number)
                ? 'duplicate'
                : 'fresh'
        assert.equal(window.check(number), expected)
        if (expected !== 'fresh') continue
        window.record(number)
        taken.add(number)
        highest = Math.max(highest, number)
      }
    }),
    { numRuns: 1000 },
  )
})
