import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { fromHex, toHex } from '#base'
import { decodeHello, encodeHello, type HelloMessage, swarmProof } from './hello.ts'
import { HELLO_PEERS_MAX, PEER_ADDRESSES_MAX } from './limits.ts'
import type { NodeOffer } from './offer.ts'

const OFFER: NodeOffer = {
  agent: 'test',
  addresses: ['/ip4/192.0.2.1/tcp/4001'],
  memoryBytes: 2 ** 34,
  threads: 8,
  weightBytesPerSecond: 1.5e10,
  stages: [],
}

const CONTEXT = {
  role: 'dialler',
  dialler: 'peer-d',
  listener: 'peer-l',
  diallerNonce: new Uint8Array(32).fill(1),
  listenerNonce: new Uint8Array(32).fill(2),
} as const

describe('wire / hello', () => {
  it('carries every message', () => {
    const nonce = new Uint8Array(32).fill(3)
    const messages: HelloMessage[] = [
      { kind: 'hello', version: 1, nonce, secret: true },
      { kind: 'proof', mac: nonce },
      { kind: 'info', offer: OFFER, peers: [{ id: 'x', addresses: ['/ip4/192.0.2.2/tcp/1'] }] },
      { kind: 'offer', offer: { ...OFFER, placing: 'ab'.repeat(32) } },
      { kind: 'peers', peers: [] },
      { kind: 'ping', id: 0xffff_ffff },
      { kind: 'pong', id: 0 },
      { kind: 'refuse', reason: 'full' },
    ]
    for (const message of messages) assert.deepEqual(decodeHello(encodeHello(message)), message)
  })

  it('leaves out a field that is undefined, and encodes alike whatever the order of fields', () => {
    const { agent, ...rest } = OFFER
    const other = { ...rest, agent, placing: undefined } as unknown as NodeOffer
    assert.deepEqual(encodeHello({ kind: 'offer', offer: other }), encodeHello({ kind: 'offer', offer: OFFER }))
  })

  it('tells a hello of another revision from garbage', () => {
    // {"kind": "hello", "version": 2}
    const foreign = fromHex('a2646b696e646568656c6c6f6776657273696f6e02')
    assert.deepEqual(decodeHello(foreign), { code: 'WIRE_HELLO_VERSION' })
  })

  it('returns a fault, and never throws, for bytes that are no message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), bytes => {
        const result = decodeHello(bytes)
        assert.ok('code' in result)
      }),
    )
    for (const deep of [0x81, 0xa1, 0x9f, 0xd8]) {
      const result = decodeHello(new Uint8Array(100_000).fill(deep))
      assert.ok('code' in result && result.code === 'WIRE_HELLO_MALFORMED')
    }
  })

  it('refuses a message with one field changed to anything else', () => {
    const good: Record<string, unknown> = { kind: 'proof', mac: new Uint8Array(32) }
    for (const mac of [new Uint8Array(31), new Uint8Array(33), 'text', null, Array.from({ length: 32 }, () => 0)]) {
      const result = decodeHello(encodeHello({ ...good, mac } as unknown as HelloMessage))
      assert.ok('code' in result && result.code === 'WIRE_HELLO_MALFORMED')
    }
  })

  it('bounds what a peer may tell of others', () => {
    const peer = (addresses: number) => ({ id: 'x', addresses: Array.from({ length: addresses }, () => 'y') })
    const told = (peers: number, addresses: number) =>
      decodeHello(encodeHello({ kind: 'peers', peers: Array.from({ length: peers }, () => peer(addresses)) }))
    assert.ok(!('code' in told(HELLO_PEERS_MAX, PEER_ADDRESSES_MAX)))
    assert.ok('code' in told(HELLO_PEERS_MAX + 1, 1))
    assert.ok('code' in told(1, PEER_ADDRESSES_MAX + 1))
  })

  it('makes the proof that an independent HMAC makes', () => {
    // Python: hmac.new(b'secret', b''.join(struct.pack('<I', len(p)) + p for p in parts), 'sha256')
    const expected = '9a00d39cf7960fcd5690441458050081a0c085edc53cc0b8b2eb8c161b1706b1'
    assert.equal(toHex(swarmProof(new TextEncoder().encode('secret'), CONTEXT)), expected)
  })

  it('makes another proof for another secret, role, peer or nonce', () => {
    const secret = new TextEncoder().encode('secret')
    const other = new Uint8Array(32).fill(9)
    const proofs = [
      swarmProof(secret, CONTEXT),
      swarmProof(other, CONTEXT),
      swarmProof(secret, { ...CONTEXT, role: 'listener' }),
      swarmProof(secret, { ...CONTEXT, dialler: 'peer-' }),
      swarmProof(secret, { ...CONTEXT, dialler: 'peer-l', listener: 'peer-d' }),
      swarmProof(secret, { ...CONTEXT, diallerNonce: other }),
      swarmProof(secret, { ...CONTEXT, listenerNonce: other }),
    ]
    assert.equal(new Set(proofs.map(toHex)).size, proofs.length)
  })
})
