import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { fromHex, seededRandom, toHex } from '#base'
import { decodeStun, encodeStun, isAuthentic, looksLikeStun, type StunMessage } from './codec.ts'

const PASSWORD = new TextEncoder().encode('VOkJxbRl1RmTxUk/WvJxBt')

/** RFC 5769, 2.1 to 2.3. */
const REQUEST = fromHex(
  '000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151' +
    '263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf',
)
const ANSWER_IPV4 = fromHex(
  '0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd' +
    '9e90c38c7489f92af9ba53f06be7d780280004c07d4c96',
)
const ANSWER_IPV6 = fromHex(
  '010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5be' +
    'd2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c',
)

function decoded(bytes: Uint8Array): StunMessage {
  const message = decodeStun(bytes)
  assert.ok(!('code' in message), JSON.stringify(message))
  return message
}

test('the vectors of RFC 5769 are read, and their integrity holds', () => {
  const request = decoded(REQUEST)
  assert.equal(request.class, 'request')
  assert.equal(request.attributes.username, 'evtj:h6vY')
  assert.equal(request.hasFingerprint, true)
  assert.deepEqual(request.notUnderstood, [])
  const ipv4 = decoded(ANSWER_IPV4)
  assert.equal(ipv4.class, 'success')
  assert.deepEqual(ipv4.attributes.mapped, { address: '192.0.2.1', port: 32853 })
  const ipv6 = decoded(ANSWER_IPV6)
  assert.deepEqual(ipv6.attributes.mapped, { address: '2001:db8:1234:5678:11:2233:4455:6677', port: 32853 })
  for (const bytes of [REQUEST, ANSWER_IPV4, ANSWER_IPV6]) {
    assert.equal(isAuthentic(bytes, decoded(bytes), PASSWORD), true)
    assert.equal(isAuthentic(bytes, decoded(bytes), PASSWORD.subarray(1)), false)
  }
})

test('reading a datagram of Node leaves it as it was, and keeps nothing of it', () => {
  const datagram = Buffer.from(REQUEST)
  const message = decoded(datagram)
  assert.equal(isAuthentic(datagram, message, PASSWORD), true)
  assert.equal(toHex(datagram), toHex(REQUEST))
  datagram.fill(0)
  assert.equal(toHex(message.transactionId), toHex(REQUEST.subarray(8, 20)))
})

test('one changed bit makes the fingerprint wrong, or the message another thing', () => {
  for (let bit = 0; bit < REQUEST.byteLength * 8; bit++) {
    const changed = REQUEST.slice()
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    const message = decodeStun(changed)
    // A bit of the fingerprint's own type makes it an unknown attribute; the integrity still tells.
    if (!('code' in message)) assert.equal(message.hasFingerprint, false)
  }
})

test('what is written is read again', () => {
  const ipv6 = fc.constantFrom('2001:db8::1', '::1', 'fe80::1:2', '2001:db8:1:2:3:4:5:6', '1:0:0:2::3')
  const endpoint = fc.record(
    { address: fc.oneof(fc.ipV4(), ipv6), port: fc.integer({ min: 0, max: 65535 }) },
    { noNullPrototype: true },
  )
  const attributes = fc.record(
    {
      mapped: endpoint,
      otherAddress: endpoint,
      responseOrigin: endpoint,
      changeRequest: fc.record({ address: fc.boolean(), port: fc.boolean() }, { noNullPrototype: true }),
      username: fc.string({ maxLength: 40 }),
      error: fc.record(
        { code: fc.integer({ min: 300, max: 699 }), reason: fc.string({ maxLength: 30 }) },
        { noNullPrototype: true },
      ),
    },
    { requiredKeys: [], noNullPrototype: true },
  )
  const kind = fc.constantFrom(...(['request', 'indication', 'success', 'error'] as const))
  const method = fc.integer({ min: 0, max: 0xfff })
  const id = fc.uint8Array({ minLength: 12, maxLength: 12 })
  fc.assert(
    fc.property(
      fc.record({ class: kind, method, transactionId: id, attributes, hasFingerprint: fc.boolean() }),
      told => {
        const bytes = encodeStun({ ...told, integrityKey: PASSWORD })
        assert.equal(looksLikeStun(bytes), true)
        const message = decoded(bytes)
        assert.equal(message.class, told.class)
        assert.equal(message.method, told.method)
        assert.deepEqual(message.transactionId, told.transactionId)
        assert.deepEqual({ ...message.attributes }, told.attributes)
        assert.equal(message.hasFingerprint, told.hasFingerprint)
        assert.equal(isAuthentic(bytes, message, PASSWORD), true)
      },
    ),
  )
})

test('attributes that must be understood and are not are named; others are passed over', () => {
  const base = encodeStun({ class: 'request', transactionId: new Uint8Array(12) })
  const withUnknown = new Uint8Array([...base, 0x00, 0x31, 0, 1, 9, 0, 0, 0, 0x80, 0x31, 0, 0])
  withUnknown[3] = 12
  assert.deepEqual(decoded(withUnknown).notUnderstood, [0x31])
})

test('what follows the integrity code does not count', () => {
  const signed = encodeStun({ class: 'request', transactionId: new Uint8Array(12), integrityKey: PASSWORD })
  const longer = new Uint8Array([...signed, 0, 6, 0, 4, 0x61, 0x62, 0x63, 0x64])
  longer[3] = (longer[3] ?? 0) + 8
  assert.equal(decoded(longer).attributes.username, undefined)
  assert.equal(isAuthentic(longer, decoded(longer), PASSWORD), true)
})

test('ten thousand damaged messages are read or refused, never thrown', t => {
  const seed = 0x5713
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const vectors = [REQUEST, ANSWER_IPV4, ANSWER_IPV6]
  let faults = 0
  for (let turn = 0; turn < 10_000; turn++) {
    const vector = vectors[random.uint32() % 3] ?? REQUEST
    const bytes = vector.slice(0, random.uint32() % 4 === 0 ? random.uint32() % (vector.byteLength + 1) : undefined)
    for (let change = random.uint32() % 6; change > 0 && bytes.byteLength > 0; change--) {
      bytes[random.uint32() % bytes.byteLength] = random.uint32() & 0xff
    }
    const message = decodeStun(bytes)
    if ('code' in message) faults++
    else if (isAuthentic(bytes, message, PASSWORD)) {
      // Only what stands behind the integrity code can be another.
      assert.equal(toHex(bytes.subarray(4, message.integrityAt)), toHex(vector.subarray(4, message.integrityAt)))
    }
  }
  assert.ok(faults > 1_000)
})
