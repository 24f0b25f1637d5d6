import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { VOTE_LIFE_MS, VOTERS_MAX } from './limits.ts'
import { Votes } from './votes.ts'

test('one network is not believed, however many peers it has; two are', () => {
  const votes = new Votes({ clock: new ManualClock() })
  for (let host = 1; host < 200; host++) votes.cast(`62.1.0.${host}`, 'a lie')
  assert.deepEqual(votes.agreed(), [])
  votes.cast('77.1.0.1', 'the truth')
  votes.cast('80.1.0.1', 'the truth')
  assert.deepEqual(votes.agreed(), ['the truth'])
})

test('a later word of a network replaces its earlier one', () => {
  const votes = new Votes({ clock: new ManualClock() })
  votes.cast('62.1.0.1', 'before')
  votes.cast('77.1.0.1', 'before')
  votes.cast('62.1.0.1', 'after')
  assert.deepEqual(votes.agreed(), [])
  votes.cast('77.1.0.1', 'after')
  assert.deepEqual(votes.agreed(), ['after'])
})

test('words age, unless they are heard again', () => {
  const clock = new ManualClock()
  const votes = new Votes({ clock })
  votes.cast('62.1.0.1', 'here')
  votes.cast('77.1.0.1', 'here')
  clock.advance(VOTE_LIFE_MS - 1)
  votes.cast('62.1.0.1', 'here')
  assert.deepEqual(votes.agreed(), ['here'])
  clock.advance(1)
  assert.deepEqual(votes.agreed(), [])
  assert.equal(votes.size, 1)
})

test('voters are bounded, and what is no address does not vote', () => {
  const votes = new Votes({ clock: new ManualClock() })
  for (let network = 0; network < 1_000; network++) votes.cast(`62.${network % 256}.0.1`, 'x')
  for (let network = 0; network < 1_000; network++) votes.cast(`77.${network % 256}.0.1`, 'x')
  votes.cast('nobody', 'y')
  assert.equal(votes.size, VOTERS_MAX)
})
