/** When metadata is published, over a simulated day: the plan alone, then the publisher with a network in memory. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '#base'
import { CountingClock } from '../../test/support/counting-clock.ts'
import { DiscoveryError } from './errors.ts'
import { PUBLISH_GAP_MS, PUBLISH_RETRY_MS_MIN, REPUBLISH_MS } from './limits.ts'
import { MetadataPublisher } from './metadata-publisher.ts'
import type { VersionedMetadata } from './peer-metadata.ts'
import { type OwnFacts, PublishPlan } from './publish-state.ts'

const RELAY = {
  peer: '12D3KooWBmwkafWE2fqfzS96VoTZgpGp6aJsF4N7eATwBpvXNRMd',
  session: 's1',
  address: '/ip4/1.2.3.4/tcp/1',
}
const PUBLIC: OwnFacts = {
  nodeType: 'public',
  isRelay: false,
  publicPlace: { host: '203.0.113.9', tcp: 4001 },
  addresses: [],
  protocols: [],
  capabilities: [],
}
const NAT: OwnFacts = { ...PUBLIC, nodeType: 'private' }
const UNIX = 1_700_000_000_000

test('a public node and a relay publish at once, a NAT node only once a relay is held', () => {
  for (const facts of [PUBLIC, { ...PUBLIC, isRelay: true }]) {
    const plan = new PublishPlan(undefined)
    plan.update(facts, 100)
    assert.equal(plan.dueAt, 100)
    const { metadata, sequence } = plan.begin(100, UNIX)
    assert.deepEqual([metadata.isRelay, metadata.timestamp, sequence], [facts.isRelay, UNIX / 1000, 0])
  }
  const plan = new PublishPlan(undefined)
  plan.update(NAT, 0)
  assert.deepEqual([plan.state.kind, plan.dueAt], ['held', undefined])
  plan.update({ ...NAT, relay: RELAY }, 5_000)
  assert.equal(plan.dueAt, 5_000)
  plan.begin(5_000, UNIX)
  plan.succeeded(5_100)
  plan.update(NAT, 20_000)
  assert.equal(plan.dueAt, 20_000, 'that the relay is lost is told at once')
  assert.equal(plan.begin(20_000, UNIX).sequence, 1)
})

test('the number goes on over a restart, and is kept where nothing has changed', () => {
  const earlier = new PublishPlan(undefined)
  earlier.update(PUBLIC, 0)
  const found = { ...earlier.begin(0, UNIX), sequence: 41 }
  const same = new PublishPlan(undefined)
  same.learn(found)
  same.update(PUBLIC, 0)
  assert.deepEqual(same.begin(0, UNIX + 9e6), found, 'the very same bytes, or the DHT refuses them')
  const other = new PublishPlan(undefined)
  other.learn(found)
  other.update({ ...PUBLIC, isRelay: true }, 0)
  assert.equal(other.begin(0, UNIX).sequence, 42)
  const remembering = new PublishPlan(77)
  remembering.learn(found)
  remembering.update(PUBLIC, 0)
  assert.equal(remembering.begin(0, UNIX).sequence, 78, 'an old value of the DHT does not bring the number down')
})

test('changes while publishing, failures and newer values lead back to due', () => {
  const plan = new PublishPlan(undefined)
  plan.update(PUBLIC, 0)
  plan.begin(0, UNIX)
  plan.update({ ...PUBLIC, isRelay: true }, 10)
  plan.succeeded(20)
  assert.deepEqual(plan.state, { kind: 'due', at: PUBLISH_GAP_MS })
  assert.equal(plan.begin(PUBLISH_GAP_MS, UNIX).sequence, 1)
  plan.failed(6_000)
  assert.equal(plan.dueAt, 6_000 + PUBLISH_RETRY_MS_MIN)
  assert.equal(plan.begin(40_000, UNIX).sequence, 1, 'the same again')
  plan.failed(40_000)
  assert.equal(plan.dueAt, 40_000 + 2 * PUBLISH_RETRY_MS_MIN)
  plan.begin(200_000, UNIX)
  plan.superseded(9, 200_000)
  assert.equal(plan.dueAt, 200_000 + PUBLISH_GAP_MS)
  assert.equal(plan.begin(300_000, UNIX).sequence, 10)
})

const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
}

test('a day: every half hour under the same number, at once on a change, and no timer too many', async () => {
  const clock = new CountingClock(UNIX)
  const puts: { readonly at: number; readonly sequence: number }[] = []
  let stored: VersionedMetadata | undefined
  const network = {
    get: async () => stored,
    put: async (item: VersionedMetadata) => {
      puts.push({ at: clock.monotonic() - UNIX, sequence: item.sequence })
      if (stored !== undefined && stored.sequence > item.sequence)
        throw new DiscoveryError({ code: 'DISCOVERY_METADATA_NEWER', sequence: stored.sequence }, 'newer')
      stored = item
      return 8
    },
  }
  const kept: number[] = []
  const store = { sequence: () => kept.at(-1), setSequence: (value: number) => void kept.push(value) }
  const publisher = new MetadataPublisher({ clock, log: silentLogger, self: 'us', network, store })
  publisher.update(PUBLIC)
  await turns()
  assert.deepEqual(puts, [{ at: 0, sequence: 0 }])
  const step = 60_000
  for (let at = 0; at < 24 * 60 * 60_000; at += step) {
    clock.advance(step)
    publisher.update(PUBLIC)
    await turns()
    assert.ok(clock.pending <= 1, `${clock.pending} timers`)
  }
  assert.equal(puts.length, 49)
  for (const [i, { at, sequence }] of puts.entries()) assert.deepEqual([at, sequence], [i * REPUBLISH_MS, 0])
  const changes: readonly OwnFacts[] = [
    { ...PUBLIC, publicPlace: { host: '203.0.113.10', tcp: 4001 } },
    { ...NAT, relay: RELAY },
    { ...NAT, relay: { ...RELAY, session: 's2' } },
    NAT,
  ]
  for (const [i, facts] of changes.entries()) {
    clock.advance(10_000)
    publisher.update(facts)
    await turns()
    assert.deepEqual(puts.at(-1), { at: clock.monotonic() - UNIX, sequence: i + 1 })
  }
  assert.equal(kept.at(-1), 4)
  stored = { ...(stored as unknown as VersionedMetadata), sequence: 30 }
  clock.advance(REPUBLISH_MS)
  await turns()
  clock.advance(PUBLISH_GAP_MS)
  await turns()
  assert.equal(puts.at(-1)?.sequence, 31, 'somebody with our key was ahead of us')
  await publisher.stop()
  assert.equal(clock.pending, 0)
})
