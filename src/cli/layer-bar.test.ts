import assert from 'node:assert/strict'
import { test } from 'node:test'
import { heldText, renderLayerBar } from './layer-bar.ts'

test('a bar has a column for each layer where there is room', () => {
  assert.equal(renderLayerBar([{ first: 2, last: 5 }], 8, 40), '··███···')
  assert.equal(renderLayerBar([], 4, 40), '····')
  assert.equal(renderLayerBar([{ first: 0, last: 4 }], 4, 40), '████')
})

test('where layers share a column it says whether all of them are there', () => {
  assert.equal(renderLayerBar([{ first: 0, last: 10 }], 20, 5), '██▒··')
  assert.equal(renderLayerBar([{ first: 79, last: 80 }], 80, 40), `${'·'.repeat(39)}▒`)
  for (const [layerCount, width] of [
    [80, 63],
    [36, 7],
    [1, 1],
    [5, 0],
  ] as const) {
    const all = renderLayerBar([{ first: 0, last: layerCount }], layerCount, width)
    assert.match(all, /^█+$/)
    assert.ok(all.length <= Math.max(1, width))
  }
})

test('ranges that overlap or come in any order count each layer once', () => {
  const ranges = [
    { first: 4, last: 6 },
    { first: 0, last: 2 },
    { first: 1, last: 3 },
    { first: 1, last: 2 },
  ]
  assert.equal(renderLayerBar(ranges, 8, 8), '███·██··')
  assert.equal(renderLayerBar(ranges, 8, 4), '█▒█·')
})

test('what is held is all, nothing or ranges; edges are said beside it', () => {
  const layerCount = 8
  const whole = [
    { first: 4, last: 8 },
    { first: 0, last: 4 },
  ]
  assert.deepEqual(heldText({ heldLayers: whole, layerCount, hasEdges: true }), { layers: 'all', edges: 'edges' })
  assert.deepEqual(heldText({ heldLayers: [], layerCount, hasEdges: false }), { layers: 'none', edges: 'no edges' })
  const some = [{ first: 2, last: 4 }]
  assert.deepEqual(heldText({ heldLayers: some, layerCount, hasEdges: false }), { layers: '2-4', edges: 'no edges' })
})
