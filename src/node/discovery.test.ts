/** What peers are made to pay for in discovery, held against what costs them their connection. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { Penalties, PenaltyRecords } from '#protocol'
import { costOf } from './discovery.ts'

function penalties(): Penalties {
  const clock = new ManualClock(1_000_000)
  const store = { load: () => [], save: () => undefined, remove: () => undefined }
  return new Penalties({ clock, records: new PenaltyRecords({ clock, store }), audit: { record: () => undefined } })
}

test('a node that comes back again and again is refused, and stays in the swarm', () => {
  const of = penalties()
  // Ten lives, each with more messages than are answered.
  for (let message = 0; message < 200; message++) assert.equal(of.add('peer', costOf('DISCOVERY_FLOOD')), 'none')
})

test('a flood without end, and what no honest node says, do not go on', () => {
  const of = penalties()
  let messages = 0
  while (of.add('flooder', costOf('DISCOVERY_FLOOD')) !== 'ban') messages++
  assert.ok(messages < 5_000)
  let lies = 0
  while (of.add('liar', costOf('DISCOVERY_RECORD')) !== 'ban') lies++
  assert.ok(lies < 20)
})
