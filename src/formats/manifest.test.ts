import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode } from '@ipld/dag-cbor'
import * as fc from 'fast-check'
import { smallModel } from '../../test/support/model-core.ts'
import { CARD, manifestOf } from '../../test/support/model-manifest.ts'
import type { Probe } from './card.ts'
import { FormatError } from './errors.ts'
import { CARD_PROBES_MAX, MANIFEST_BYTES_MAX } from './limits.ts'
import { checkManifest, decodeManifest, encodeManifest, parseManifest } from './manifest.ts'
import { decodeVote, encodeVote, parseVote } from './vote.ts'

const model = await smallModel()
const manifest = manifestOf(model)
const bytes = encodeManifest(manifest)
type Wire = Record<string, unknown>
const wire = decode<Wire>(bytes)
const card = wire['card'] as Wire
const vector = card['testVector'] as Wire
const probes = vector['probes'] as Wire[]
const codeOf = (value: unknown): string => {
  const result = decodeManifest(value instanceof Uint8Array ? value : encode(value))
  return 'code' in result ? result.code : 'manifest'
}

test('a manifest comes back as it was written, with and without what may be missing', () => {
  assert.deepEqual(parseManifest(bytes), manifest)
  const { licence: _, previous: __, ...rest } = manifest
  const plain = { ...rest, card: { benchmarks: [], sources: [] } }
  assert.deepEqual(parseManifest(encodeManifest(plain)), plain)
  const undefinedFields = {
    ...plain,
    licence: undefined,
    previous: undefined,
    card: { ...plain.card, testVector: undefined },
  }
  assert.deepEqual(encodeManifest(undefinedFields), encodeManifest(plain))
})

test('a manifest is held against the core that it names', () => {
  assert.equal(checkManifest(manifest, model.core), undefined)
  for (const over of [{ model: '0'.repeat(64) }, { infoHash: '0'.repeat(64) }, { layerCount: 3 }]) {
    assert.equal(checkManifest({ ...manifest, ...over }, model.core)?.code, 'FORMAT_MANIFEST_MISMATCH')
  }
  assert.equal(checkManifest(manifest, model.core.subarray(1))?.code, 'FORMAT_CORE_MALFORMED')
})

test('versions that are not known are refused as such, whatever else is in them', () => {
  assert.equal(codeOf({ version: 2, anything: [1] }), 'FORMAT_MANIFEST_VERSION')
  const later = { ...wire, card: { ...card, testVector: { version: 2, other: true } } }
  assert.equal(codeOf(later), 'FORMAT_MANIFEST_VERSION')
})

const withCard = (over: Wire): Wire => ({ ...wire, card: { ...card, ...over } })
const withVector = (over: Wire): Wire => withCard({ testVector: { ...vector, ...over } })
const withProbe = (over: Wire): Wire => withVector({ probes: [{ ...probes[0], ...over }] })
const nan = new Uint8Array(Float32Array.of(0, 0, 0, 0, 0, 0, 0, Number.NaN).buffer)
const WRONG: readonly (readonly [what: string, wire: unknown])[] = [
  ['no manifest', 5],
  ['null', null],
  ['a missing version', { ...wire, version: null }],
  ['an unknown field', { ...wire, path: '/etc/passwd' }],
  ['a short id', { ...wire, model: new Uint8Array(31) }],
  ['an id as text', { ...wire, model: model.id }],
  ['a short info-hash', { ...wire, infoHash: new Uint8Array(20) }],
  ['no name', { ...wire, name: '' }],
  ['a long name', { ...wire, name: 'n'.repeat(201) }],
  ['a name that moves the cursor', { ...wire, name: 'a\u001b[2J' }],
  ['a name that runs backwards', { ...wire, name: 'a\u202egguf' }],
  ['an architecture that is a path', { ...wire, architecture: '../x' }],
  ['no layers', { ...wire, layerCount: 0 }],
  ['half a layer', { ...wire, layerCount: 1.5 }],
  ['too many layers', { ...wire, layerCount: 1001 }],
  ['a licence that is a list', { ...wire, licence: [] }],
  ['a time before all', { ...wire, createdAt: -1 }],
  ['a time beyond 2^53', { ...wire, createdAt: 2n ** 60n }],
  ['a short previous id', { ...wire, previous: new Uint8Array(5) }],
  ['no card', { ...wire, card: null }],
  ['too many results', withCard({ benchmarks: Array.from({ length: 17 }, () => ({ name: 'a', score: 1, unit: '' })) })],
  ['a result without a name', withCard({ benchmarks: [{ name: '', score: 1, unit: '' }] })],
  ['a result that is text', withCard({ benchmarks: [{ name: 'a', score: '1', unit: '' }] })],
  ['too many sources', withCard({ sources: Array(9).fill('https://a.b/c') })],
  ['a source that is a file', withCard({ sources: ['file:///etc/passwd'] })],
  ['a source with a password', withCard({ sources: ['https://me:secret@a.b/c'] })],
  ['a source that is no URL', withCard({ sources: ['https://[::'] })],
  ['a seed beyond 32 bits', withVector({ seed: 2 ** 32 })],
  ['no profile', withVector({ profile: '' })],
  ['no probes', withVector({ probes: [] })],
  [
    'too many probes',
    withVector({ probes: Array.from({ length: CARD_PROBES_MAX + 1 }, (_, part) => ({ ...probes[1], part })) }),
  ],
  ['a part twice', withVector({ probes: [probes[0], probes[0]] })],
  ['an unknown part', withProbe({ part: 'middle' })],
  ['a layer below all', withProbe({ part: -1 })],
  ['too few values', withProbe({ values: new Uint8Array(28) })],
  ['values that are no numbers', withProbe({ values: nan })],
  ['a negative norm', withProbe({ norm: -1 })],
]
for (const [what, value] of WRONG) {
  test(`a manifest with ${what} is refused`, () => assert.equal(codeOf(value), 'FORMAT_MANIFEST_MALFORMED'))
}

test('a manifest has a size that fits into an envelope: as many probes as may be, and no more text than that', () => {
  const probesMax: Probe[] = Array.from({ length: CARD_PROBES_MAX }, (_, part) => ({
    part,
    values: new Uint8Array(32),
    norm: 0.1,
  }))
  const full = {
    ...manifest,
    card: { ...CARD, testVector: { version: 1, profile: 'p', seed: 1, probes: probesMax } as const },
  }
  assert.ok(encodeManifest(full).byteLength < MANIFEST_BYTES_MAX)
  const sources = Array(8).fill(`https://a.b/${'c'.repeat(288)}`)
  const benchmarks = Array.from({ length: 16 }, () => ({ name: '漢'.repeat(60), score: 0.1, unit: '漢'.repeat(20) }))
  const long = {
    ...full,
    name: '漢'.repeat(200),
    licence: '漢'.repeat(200),
    card: { ...full.card, sources, benchmarks },
  }
  assert.throws(() => encodeManifest(long), { code: 'FORMAT_MANIFEST_LIMIT' })
  assert.equal(codeOf(new Uint8Array(MANIFEST_BYTES_MAX + 1)), 'FORMAT_MANIFEST_LIMIT')
})

test('what others would refuse is not written', () => {
  for (const over of [{ model: 'x' }, { previous: 'AB'.repeat(32) }, { name: '' }, { createdAt: 0.5 }]) {
    assert.throws(() => encodeManifest({ ...manifest, ...over }), FormatError)
  }
})

const vote = { model: model.id, isTrusted: false, comment: 'answers nonsense', sequence: 3, at: 1_700_000_000_000 }

test('a vote comes back as it was written; one that says more, or other things, is refused', () => {
  const written = encodeVote(vote)
  assert.deepEqual(parseVote(written), vote)
  const plain = decode<Wire>(written)
  const wrong = [
    { ...plain, comment: 'c'.repeat(201) },
    { ...plain, comment: 'two\nlines' },
    { ...plain, trusted: 1 },
    { ...plain, sequence: -1 },
    { ...plain, sequence: 0.5 },
    { ...plain, at: -5 },
    { ...plain, model: new Uint8Array(31) },
    { ...plain, voter: 'me' },
    {},
  ]
  for (const value of wrong) assert.ok('code' in decodeVote(encode(value)))
  assert.throws(() => encodeVote({ ...vote, comment: 'c'.repeat(201) }), FormatError)
  assert.throws(() => encodeVote({ ...vote, model: 'x' }), FormatError)
})

for (const [what, whole, read] of [
  ['manifests', bytes, decodeManifest],
  ['votes', encodeVote(vote), decodeVote],
] as const) {
  test(`${what} that were cut or changed, and random bytes, are read or refused, never more`, () => {
    for (let length = 0; length < whole.byteLength; length++) assert.ok('code' in read(whole.subarray(0, length)))
    const change = fc.array(fc.record({ at: fc.nat(whole.byteLength - 1), byte: fc.nat(255) }), {
      minLength: 1,
      maxLength: 4,
    })
    fc.assert(
      fc.property(change, changes => {
        const changed = whole.slice()
        for (const { at, byte } of changes) changed[at] = byte
        read(changed)
      }),
      { numRuns: 2_000 },
    )
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), random => assert.ok('code' in read(random))))
    // Nested arrays, one in another: a reader that follows them blindly has no stack left.
    assert.ok('code' in read(new Uint8Array(1_000).fill(0x81)))
    assert.ok('code' in read(new Uint8Array(MANIFEST_BYTES_MAX).fill(0x81)))
  })
}
