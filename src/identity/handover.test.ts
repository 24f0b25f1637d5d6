import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode } from '@ipld/dag-cbor'
import * as fc from 'fast-check'
import { seededRandom, toHex } from '#base'
import { type Ed25519Signer, ed25519Signer, peerOfPublicKey } from '#crypto'
import { createHandover, type Handover, type HandoverFault, verifyChain, verifyHandover } from './handover.ts'
import { CHAIN_STATEMENTS_MAX, STATEMENT_BYTES_MAX } from './limits.ts'

const random = seededRandom(1)
const KEYS = Array.from({ length: CHAIN_STATEMENTS_MAX + 2 }, () => ed25519Signer(random.bytes(32)))
const AT = 1_790_000_000_000

const keyAt = (index: number): Ed25519Signer => KEYS[index] ?? assert.fail()
const peerAt = (index: number): string => peerOfPublicKey(keyAt(index).publicKey)
const codeOf = (result: object): unknown => ('code' in result ? result.code : undefined)

/** The hand-over from key `from` to key `to`, which is rotation number `sequence`. */
function statement(
  from: number,
  to: number,
  { sequence = from + 1, at = AT + sequence }: { readonly sequence?: number; readonly at?: number } = {},
): Promise<Uint8Array> {
  return createHandover({ from: keyAt(from), to: keyAt(to), at, sequence })
}

/** By hand from RFC 8949: the shorter names first, integers as short as they can be. */
const VECTOR_BODY = [
  'a5',
  '6261741b000001a0c4506c00',
  '62746f58203d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
  '6466726f6d5820d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
  '66646f6d61696e716b6f696e6f6e2f68616e646f7665722f31',
  '6873657175656e636501',
].join('')

const first = await statement(0, 1)

test('a hand-over says who hands over to whom, and when', () => {
  const handover = verifyHandover(first)
  assert.ok(!('code' in handover))
  assert.deepEqual(handover, {
    from: { peer: peerAt(0), publicKey: keyAt(0).publicKey },
    to: { peer: peerAt(1), publicKey: keyAt(1).publicKey },
    at: AT + 1,
    sequence: 1,
  } satisfies Handover)
})

test('a hand-over: a vector', async () => {
  // The keys of RFC 8032, section 7.1, tests 1 and 2.
  const [from, to] = [
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
  ].map(seed => ed25519Signer(Uint8Array.from(Buffer.from(seed, 'hex'))))
  assert.ok(from !== undefined && to !== undefined)
  const bytes = await createHandover({ from, to, at: AT, sequence: 1 })
  const { body, ...signatures } = decode<Record<'body' | 'new' | 'old', Uint8Array>>(bytes)
  assert.equal(toHex(body), VECTOR_BODY)
  const message = Buffer.concat([Buffer.from('koinon/handover/1\0'), body])
  assert.deepEqual(signatures, { new: to.sign(message), old: from.sign(message) })
  assert.ok(bytes.byteLength <= STATEMENT_BYTES_MAX)
})

test('keys that answer by a promise hand over too', async () => {
  const [from, to] = [keyAt(0), keyAt(1)].map(key => ({
    publicKey: key.publicKey,
    sign: async (message: Uint8Array) => key.sign(message),
  }))
  assert.ok(from !== undefined && to !== undefined)
  assert.deepEqual(await createHandover({ from, to, at: AT + 1, sequence: 1 }), first)
})

test('a hand-over that one of the two keys has not signed is refused', () => {
  const parts = decode<Record<'body' | 'new' | 'old', Uint8Array>>(first)
  const message = Buffer.concat([Buffer.from('koinon/handover/1\0'), parts.body])
  const stranger = keyAt(2).sign(message)
  for (const forged of [
    { ...parts, old: stranger },
    { ...parts, new: stranger },
    { ...parts, old: parts.new, new: parts.old },
    { ...parts, old: keyAt(0).sign(parts.body), new: keyAt(1).sign(parts.body) },
  ]) {
    assert.equal(codeOf(verifyHandover(encode(forged))), 'HANDOVER_SIGNATURE')
  }
})

/** A statement with these fields changed, signed by both keys as they would sign a right one. */
function signedBody(change: object): Uint8Array {
  const fields = { at: AT, domain: 'koinon/handover/1', from: keyAt(0).publicKey, sequence: 1, to: keyAt(1).publicKey }
  const body = encode({ ...fields, ...change })
  const message = Buffer.concat([Buffer.from('koinon/handover/1\0'), body])
  return encode({ body, new: keyAt(1).sign(message), old: keyAt(0).sign(message) })
}

test('a body that is not as it must be is refused, signed or not', () => {
  assert.equal(codeOf(verifyHandover(signedBody({}))), undefined)
  const changes = [
    { at: -1 },
    { at: 1.5 },
    { at: 'now' },
    { domain: 'koinon/handover/2' },
    { sequence: 0 },
    { sequence: 1.5 },
    { from: new Uint8Array(31) },
    { to: new Uint8Array(33) },
    { to: 'key' },
    { more: 1 },
  ]
  for (const change of changes) assert.equal(codeOf(verifyHandover(signedBody(change))), 'HANDOVER_MALFORMED')
  assert.equal(codeOf(verifyHandover(signedBody({ to: keyAt(0).publicKey }))), 'HANDOVER_LOOP')
  assert.equal(codeOf(verifyHandover(new Uint8Array(STATEMENT_BYTES_MAX + 1))), 'HANDOVER_MALFORMED')
})

test('a statement has one encoding: the same one encoded otherwise is refused', () => {
  const parts = decode<Record<'body' | 'new' | 'old', Uint8Array>>(first)
  const field = (name: string, bytes: Uint8Array): Uint8Array =>
    Buffer.concat([Buffer.from([0x60 + name.length]), Buffer.from(name), encode(bytes)])
  const order = (names: readonly ('body' | 'new' | 'old')[]): Uint8Array =>
    Buffer.concat([Buffer.from([0xa3]), ...names.map(name => field(name, parts[name]))])
  assert.equal(codeOf(verifyHandover(order(['new', 'old', 'body']))), undefined)
  assert.equal(codeOf(verifyHandover(order(['body', 'new', 'old']))), 'HANDOVER_MALFORMED')
  assert.equal(codeOf(verifyHandover(Buffer.concat([first, Buffer.from([0])]))), 'HANDOVER_MALFORMED')
})

test('a statement with any bit changed is refused', () => {
  for (let bit = 0; bit < 8 * first.byteLength; bit++) {
    const changed = first.slice()
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.ok('code' in verifyHandover(changed), `bit ${bit}`)
  }
})

test('no bytes make the reader throw', () => {
  const cut = fc
    .tuple(fc.nat(first.byteLength), fc.nat(first.byteLength), fc.uint8Array({ maxLength: 20 }))
    .map(([from, to, middle]) => Buffer.concat([first.subarray(0, from), middle, first.subarray(to)]))
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 600 }), cut), bytes => {
      assert.ok('code' in verifyHandover(bytes) || Buffer.compare(bytes, first) === 0)
      assert.ok('code' in verifyChain([bytes, first]))
    }),
    { numRuns: 500 },
  )
})

test('a chain leads from its first key to its last, wherever it begins', async () => {
  const all = await Promise.all(Array.from({ length: CHAIN_STATEMENTS_MAX }, (_, index) => statement(index, index + 1)))
  for (const [from, to] of [
    [0, CHAIN_STATEMENTS_MAX],
    [0, 1],
    [3, 7],
  ] as const) {
    const chain = verifyChain(all.slice(from, to))
    assert.ok(!('code' in chain))
    assert.deepEqual(
      chain.peers,
      Array.from({ length: to - from + 1 }, (_, index) => peerAt(from + index)),
    )
    assert.deepEqual(chain.statements[0], { from: peerAt(from), to: peerAt(from + 1), bytes: all[from] })
  }
  assert.deepEqual(verifyChain([]), { peers: [], statements: [] })
})

test('statements that are no chain are refused, with the reason', async () => {
  const cases: readonly (readonly [HandoverFault['code'], readonly Promise<Uint8Array>[]])[] = [
    ['HANDOVER_GAP', [statement(0, 1), statement(2, 3)]],
    ['HANDOVER_GAP', [statement(0, 1), statement(1, 2, { sequence: 3 })]],
    ['HANDOVER_GAP', [statement(0, 1), statement(1, 2, { sequence: 1 })]],
    ['HANDOVER_GAP', [statement(0, 1), statement(1, 2, { sequence: 2, at: AT })]],
    ['HANDOVER_GAP', [statement(1, 2), statement(0, 1)]],
    ['HANDOVER_FORK', [statement(0, 1), statement(0, 2)]],
    ['HANDOVER_FORK', [statement(0, 1), statement(0, 1)]],
    ['HANDOVER_FORK', [statement(0, 1), statement(1, 2), statement(1, 3, { sequence: 3 })]],
    ['HANDOVER_LOOP', [statement(0, 1), statement(1, 0)]],
    ['HANDOVER_LOOP', [statement(0, 1), statement(1, 2), statement(2, 1)]],
    ['HANDOVER_MALFORMED', [statement(0, 1), Promise.resolve(new Uint8Array(3))]],
  ]
  for (const [code, statements] of cases) assert.equal(codeOf(verifyChain(await Promise.all(statements))), code)
})

test('too many statements are refused before any is looked at', () => {
  const statements = Array.from({ length: CHAIN_STATEMENTS_MAX + 1 }, () => new Uint8Array(0))
  assert.equal(codeOf(verifyChain(statements)), 'HANDOVER_TOO_MANY')
})

test('our own mistakes in a hand-over are bugs, not statements', async () => {
  await assert.rejects(statement(0, 0), TypeError)
  await assert.rejects(statement(0, 1, { sequence: 0 }), TypeError)
  await assert.rejects(statement(0, 1, { sequence: 1, at: -1 }), TypeError)
})
