import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { encode } from '@ipld/dag-cbor'
import { seededRandom, systemRandom } from '#base'
import { PUNCH_MESSAGE_BYTES_MAX } from './limits.ts'
import { decodePunchMessage, encodePunchMessage, type PunchMessage } from './punch-messages.ts'

const token = new Uint8Array(16)
const ends = [{ address: '62.1.1.1', port: 4001 }]
const candidate = { type: 'srflx', address: '62.1.1.1', port: 9, priority: 1, foundation: 'f' } as const
const MESSAGES: readonly PunchMessage[] = [
  { type: 'connect', methods: ['tcp', 'ice'], nat: 'symmetric', listensQuic: true },
  { type: 'offer' },
  { type: 'offer', tcp: { mapping: 'foreseen', outside: ends, inside: ends, token } },
  { type: 'offer', ice: { ufrag: 'abcd', password: 'x'.repeat(22), candidates: [candidate] } },
  { type: 'ping' },
  { type: 'pong' },
  { type: 'sync' },
  { type: 'result', isJoined: true },
  { type: 'observe' },
  { type: 'observing', ports: [4001, 4002], token },
  { type: 'observed', port: 4001, from: { address: '2a01::1', port: 7 } },
]

describe('wire / punch messages', () => {
  it('come back as they were', () => {
    for (const message of MESSAGES) assert.deepEqual(decodePunchMessage(encodePunchMessage(message)), message)
  })

  it('leave out what a later revision may add', () => {
    assert.deepEqual(decodePunchMessage(encode({ type: 'ping', mood: 'good' })), { type: 'ping' })
  })

  it('are refused where anything is beyond its bound', () => {
    const offer = { mapping: 'stable', outside: ends, inside: [], token }
    const refused = [
      'ping',
      { type: 'offer', tcp: { ...offer, outside: Array.from({ length: 5 }, () => ends[0]) } },
      { type: 'offer', tcp: { ...offer, outside: [{ address: '62.1.1.1', port: 80 }] } },
      { type: 'offer', tcp: { ...offer, outside: [{ address: 'x'.repeat(46), port: 4001 }] } },
      { type: 'offer', tcp: { ...offer, token: new Uint8Array(15) } },
      {
        type: 'offer',
        ice: { ufrag: 'abcd', password: 'x'.repeat(22), candidates: Array.from({ length: 25 }, () => candidate) },
      },
      { type: 'observing', ports: [], token },
      { type: 'observing', ports: [4001, 4002, 4003], token },
      { type: 'observed', port: 4001, from: { address: '62.1.1.1', port: 0 } },
    ]
    for (const message of refused) assert.ok('code' in decodePunchMessage(encode(message)), JSON.stringify(message))
    assert.ok('code' in decodePunchMessage(new Uint8Array(PUNCH_MESSAGE_BYTES_MAX + 1)))
  })

  it('never throw, whatever the bytes are', t => {
    const seed = systemRandom.uint32()
    t.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    for (let count = 0; count < 3_000; count++) {
      const bytes = encodePunchMessage(MESSAGES[random.uint32() % MESSAGES.length] as PunchMessage)
      for (let flips = 0; flips < 1 + (random.uint32() % 3); flips++)
        bytes[random.uint32() % bytes.length] = random.uint32() & 0xff
      decodePunchMessage(bytes)
    }
  })
})
