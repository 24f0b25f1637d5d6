import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import type { Place } from './address.ts'
import { FAILURE_LIFE_MS, PROOF_LIFE_MS } from './limits.ts'
import { Proofs } from './proofs.ts'

const PLACE: Place = { ip: '62.1.0.1', port: 4001, transport: 'tcp' }
const OTHER: Place = { ...PLACE, transport: 'plane' }
const [FIRST, NEIGHBOUR, SECOND] = ['77.1.0.1', '77.1.9.9', '80.1.0.1'] as const

test('one nonce proves; one who says that he could not does not disprove, two of one network neither', () => {
  const proofs = new Proofs({ clock: new ManualClock() })
  assert.equal(proofs.verdict(PLACE), 'unknown')
  proofs.failed(PLACE, FIRST)
  proofs.failed(PLACE, NEIGHBOUR)
  assert.equal(proofs.verdict(PLACE), 'unknown')
  assert.deepEqual([proofs.isDue(PLACE, FIRST), proofs.isDue(PLACE, SECOND)], [false, true])
  proofs.failed(PLACE, SECOND)
  assert.equal(proofs.verdict(PLACE), 'not')
  assert.equal(proofs.isDue(PLACE, '90.1.0.1'), false)
  proofs.proved(PLACE)
  assert.deepEqual([proofs.verdict(PLACE), proofs.verdict(OTHER)], ['reachable', 'unknown'])
})

test('a proof is renewed after a half of its life and ends with it', () => {
  const clock = new ManualClock()
  const proofs = new Proofs({ clock })
  proofs.proved(PLACE)
  assert.equal(proofs.isDue(PLACE, FIRST), false)
  clock.advance(PROOF_LIFE_MS / 2)
  assert.deepEqual([proofs.isDue(PLACE, FIRST), proofs.verdict(PLACE)], [true, 'reachable'])
  clock.advance(PROOF_LIFE_MS / 2)
  assert.equal(proofs.verdict(PLACE), 'unknown')
})

test('a port that is closed is noticed before its proof ends, and tried again later', () => {
  const clock = new ManualClock()
  const proofs = new Proofs({ clock })
  proofs.proved(PLACE)
  clock.advance(PROOF_LIFE_MS / 2)
  proofs.failed(PLACE, FIRST)
  proofs.failed(PLACE, SECOND)
  assert.equal(proofs.verdict(PLACE), 'not')
  clock.advance(FAILURE_LIFE_MS)
  assert.equal(proofs.isDue(PLACE, FIRST), true)
})

test('places are bounded', () => {
  const proofs = new Proofs({ clock: new ManualClock() })
  for (let port = 1; port <= 10_000; port++) proofs.proved({ ...PLACE, port })
  const kept = Array.from({ length: 10_000 }, (_, at) => proofs.verdict({ ...PLACE, port: at + 1 }))
  assert.equal(kept.filter(verdict => verdict === 'reachable').length, 32)
})
