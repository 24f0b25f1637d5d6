import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { METADATA_ABSENT_MS, METADATA_FRESH_MS, METADATA_QUERIES_MAX, METADATA_QUERIES_WAITING_MAX } from './limits.ts'
import { MetadataCache } from './metadata-cache.ts'
import type { VersionedMetadata } from './peer-metadata.ts'

const of = (sequence: number): VersionedMetadata => ({
  sequence,
  metadata: {
    version: 1,
    timestamp: 0,
    nodeType: 'public',
    isRelay: false,
    addresses: [],
    protocols: [],
    capabilities: [],
  },
})

test('metadata is fetched once while fresh, and its number never falls', async () => {
  const clock = new ManualClock()
  const answers = [of(5), of(3), of(6)]
  let queries = 0
  const cache = new MetadataCache({ clock, fetch: async () => answers[queries++] })
  const both = await Promise.all([cache.get('a'), cache.get('a')])
  assert.deepEqual([both.map(found => found?.sequence), queries], [[5, 5], 1], 'one query for both')
  clock.advance(METADATA_FRESH_MS - 1)
  assert.equal((await cache.get('a'))?.sequence, 5)
  clock.advance(1)
  assert.equal((await cache.get('a'))?.sequence, 5, 'an old value is not taken')
  cache.expire('a')
  assert.equal((await cache.get('a'))?.sequence, 6)
  assert.equal(queries, 3)
})

test('that a peer has none is remembered, for a shorter time', async () => {
  const clock = new ManualClock()
  let queries = 0
  const cache = new MetadataCache({
    clock,
    fetch: async () => {
      queries++
      return undefined
    },
  })
  await cache.get('a')
  await cache.get('a')
  clock.advance(METADATA_ABSENT_MS)
  await cache.get('a')
  assert.equal(queries, 2)
})

test('a few queries run at once, a bounded number waits, and stopping ends them all', async () => {
  const clock = new ManualClock()
  let running = 0
  let most = 0
  const waiting: (() => void)[] = []
  const cache = new MetadataCache({
    clock,
    fetch: async () => {
      most = Math.max(most, ++running)
      await new Promise<void>(resolve => waiting.push(resolve))
      running--
      return of(1)
    },
  })
  const peers = Array.from({ length: METADATA_QUERIES_MAX + METADATA_QUERIES_WAITING_MAX }, (_, i) => `p${i}`)
  const all = peers.map(async peer => cache.get(peer))
  await new Promise(resolve => setImmediate(resolve))
  await assert.rejects(cache.get('one more'), { code: 'DISCOVERY_BUSY' })
  assert.equal(running, METADATA_QUERIES_MAX)
  while (waiting.length > 0) {
    waiting.splice(0).forEach(resolve => resolve())
    await new Promise(resolve => setImmediate(resolve))
  }
  await Promise.all(all)
  assert.equal(most, METADATA_QUERIES_MAX)
  const last = assert.rejects(cache.get('the last one'), { code: 'DISCOVERY_STOPPED' })
  await cache.stop()
  await last
  assert.equal(cache.queries, 0)
})

test('many are fetched as the answers come, and the cache is bounded', async () => {
  const cache = new MetadataCache(
    { clock: new ManualClock(), fetch: async peer => (peer === 'p3' ? undefined : of(1)) },
    { entriesMax: 10 },
  )
  const peers = Array.from({ length: 40 }, (_, i) => `p${i}`)
  const found: string[] = []
  for await (const [peer] of cache.getMany([...peers, 'p1'])) found.push(peer)
  assert.deepEqual(found.sort(), peers.filter(peer => peer !== 'p3').sort())
  assert.equal(cache.size, 10)
})
