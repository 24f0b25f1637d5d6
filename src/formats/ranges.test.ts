import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Bitfield } from '#base'
import { encodeWireCore, wireTensors, type WireTensor } from '../../test/support/model-core.ts'
import { parseCore } from './core.ts'
import { bytesInRanges, heldParts, layerCountOf, wantedRanges, type WantedParts } from './ranges.ts'
import { piecesOf, TORRENT_MODEL_FILE, torrentOf } from './torrent.ts'

const LAYERS = 6
const bytes = encodeWireCore(wireTensors(LAYERS))
const core = parseCore(bytes)
const torrent = torrentOf(bytes)
const namesIn = (parts: WantedParts): string[] => {
  const ranges = wantedRanges(core, parts)
  return core.tensors
    .filter(({ offset, size }) => ranges.some(r => r.offset <= offset && r.offset + r.length >= offset + size))
    .map(({ name }) => name)
}
const layer = (n: number): string[] => [`blk.${n}.attn_q.weight`, `blk.${n}.ffn_up.weight`]

test('a stage gets the header, its layers and the factors of rotary positions; edges get theirs', () => {
  assert.equal(layerCountOf(core), LAYERS)
  assert.deepEqual(namesIn({ layers: { first: 1, last: 3 } }), ['rope_freqs.weight', ...layer(1), ...layer(2)])
  assert.deepEqual(namesIn({ edges: true }), ['token_embd.weight', 'output_norm.weight', 'output.weight'])
  assert.deepEqual(namesIn({}), [])
  assert.equal(namesIn('all').length, core.tensors.length)
  for (const parts of [{}, { edges: true }, 'all'] as const) assert.equal(wantedRanges(core, parts)[0]?.offset, 0)
  assert.equal(wantedRanges(core, {})[0]?.length, core.tensors[0]?.offset)
})

test('a tensor that nobody knows goes to stages and edges', () => {
  const odd: WireTensor[] = wireTensors(1).map(([name, ...rest]) => [
    name === 'output.weight' ? 'odd.weight' : name,
    ...rest,
  ])
  const strange = parseCore(encodeWireCore(odd))
  const offset = strange.tensors.find(({ name }) => name === 'odd.weight')?.offset ?? -1
  for (const parts of [{ layers: { first: 0, last: 1 } }, { edges: true }] as const) {
    assert.ok(wantedRanges(strange, parts).some(r => r.offset <= offset && offset < r.offset + r.length))
  }
})

const range = fc
  .tuple(fc.nat(LAYERS - 1), fc.nat(LAYERS - 1))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) + 1 }))

test('ranges are sorted, apart from one another and within the file; what is fetched for them can be served', () => {
  const parts = fc.record({ layers: fc.option(range, { nil: undefined }), edges: fc.boolean() })
  fc.assert(
    fc.property(parts, ({ layers, edges }) => {
      const wanted = wantedRanges(core, { edges, ...(layers === undefined ? {} : { layers }) })
      for (const [at, { offset, length }] of wanted.entries()) {
        const next = wanted[at + 1]
        assert.ok(length > 0 && offset + length < (next?.offset ?? Infinity))
        assert.ok(offset + length <= (core.files[0]?.length ?? 0))
      }
      const held = heldParts(core, torrent, piecesOf(torrent, TORRENT_MODEL_FILE, wanted))
      assert.equal(held.hasEdges || !edges, true)
      const covers = held.layers.some(({ first, last }) => first <= (layers?.first ?? 0) && last >= (layers?.last ?? 0))
      assert.ok(layers === undefined || covers)
    }),
  )
})

test('a piece that is missing takes away exactly what it holds', () => {
  const all = Bitfield.full(torrent.pieceCount)
  assert.deepEqual(heldParts(core, torrent, all), { layers: [{ first: 0, last: LAYERS }], hasEdges: true })
  // Tensors of 4 MiB, so that each has pieces of its own.
  const bigBytes = encodeWireCore(wireTensors(LAYERS, 124_000))
  const big = parseCore(bigBytes)
  const bigTorrent = torrentOf(bigBytes)
  const bigPieces = (name: string): Bitfield => {
    const tensor = big.tensors.find(candidate => candidate.name === name)
    assert.ok(tensor)
    const pieces = Bitfield.full(bigTorrent.pieceCount)
    const middle = { offset: Math.floor(tensor.offset + tensor.size / 2), length: 1 }
    for (const piece of piecesOf(bigTorrent, TORRENT_MODEL_FILE, [middle]).numbers()) pieces.clear(piece)
    return pieces
  }
  const withoutTensor = (name: string): ReturnType<typeof heldParts> => heldParts(big, bigTorrent, bigPieces(name))
  assert.deepEqual(withoutTensor('blk.2.ffn_up.weight'), {
    layers: [
      { first: 0, last: 2 },
      { first: 3, last: LAYERS },
    ],
    hasEdges: true,
  })
  assert.deepEqual(withoutTensor('output.weight'), { layers: [{ first: 0, last: LAYERS }], hasEdges: false })
  assert.deepEqual(withoutTensor('rope_freqs.weight'), { layers: [], hasEdges: true })
  const headless = Bitfield.full(bigTorrent.pieceCount)
  headless.clear(bigTorrent.files[TORRENT_MODEL_FILE]?.firstPiece ?? 0)
  assert.deepEqual(heldParts(big, bigTorrent, headless), { layers: [], hasEdges: false })
  assert.equal(bytesInRanges(wantedRanges(big, 'all')), big.files[0]?.length)
})
