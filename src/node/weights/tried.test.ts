import assert from 'node:assert/strict'
import { test } from 'node:test'
import { array, assert as check, boolean, nat, property, record } from 'fast-check'
import { untriedOf, withTried } from './tried.ts'

test('what was tried needs no other trial, and everything else does', () => {
  const range = record({ first: nat(9), length: nat(4) }).map(({ first, length }) => ({
    first,
    last: first + length + 1,
  }))
  const parts = record({ layers: range, edges: boolean() })
  check(
    property(array(parts, { maxLength: 5 }), parts, (done, wanted) => {
      const tried = done.reduce(withTried, { layers: [], edges: false })
      const numbers = new Set(done.flatMap(({ layers }) => numbersIn(layers)))
      assert.deepEqual(new Set(tried.layers.flatMap(numbersIn)), numbers)
      const left = untriedOf(tried, wanted)
      const missing = numbersIn(wanted.layers).filter(layer => !numbers.has(layer))
      const covered = new Set(left?.layers === undefined ? [] : numbersIn(left.layers))
      assert.ok(missing.every(layer => covered.has(layer)))
      assert.equal(left?.layers === undefined, missing.length === 0)
      const hasEdges = wanted.edges && !done.some(({ edges }) => edges)
      assert.equal(left === undefined, missing.length === 0 && !hasEdges)
      assert.equal(untriedOf(withTried(tried, wanted), wanted), undefined)
    }),
  )
})

function numbersIn({ first, last }: { readonly first: number; readonly last: number }): number[] {
  return Array.from({ length: last - first }, (_, i) => first + i)
}
