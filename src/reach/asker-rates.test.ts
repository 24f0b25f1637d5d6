import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { AskerRates } from './asker-rates.ts'
import {
  DIAL_BACK_ASKERS_MAX,
  DIAL_BACKS_MAX,
  DIAL_BACKS_PER_ADDRESS_MAX,
  DIAL_BACKS_PER_ADDRESS_PER_MINUTE,
} from './limits.ts'

test('an address, of IPv6 its /64, gets so many dials and then some a minute', () => {
  const clock = new ManualClock()
  for (const ips of [
    ['62.1.0.1', '62.1.0.1'],
    ['2a01::1', '2a01::2'],
  ]) {
    const rates = new AskerRates({ clock })
    const taken = Array.from({ length: 50 }, (_, at) => rates.take(ips[at % 2] ?? ''))
    assert.equal(taken.filter(Boolean).length, DIAL_BACKS_PER_ADDRESS_MAX)
    clock.advance(60_000)
    const later = Array.from({ length: 50 }, (_, at) => rates.take(ips[at % 2] ?? ''))
    assert.equal(later.filter(Boolean).length, DIAL_BACKS_PER_ADDRESS_PER_MINUTE)
  }
})

test('everybody together gets so many, and the table is bounded', () => {
  const rates = new AskerRates({ clock: new ManualClock() })
  let taken = 0
  for (let at = 0; at < 5_000; at++) if (rates.take(`62.${at >> 8}.${at & 0xff}.1`)) taken++
  assert.equal(taken, DIAL_BACKS_MAX)
  assert.equal(rates.size, DIAL_BACK_ASKERS_MAX)
})
