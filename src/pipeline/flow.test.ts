/** What runs when: chunks that overlap, credits, decoding before prefill, slots that wait for their zeroes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requestOf, settle, TestSwarm, tokensOf } from '../../test/support/pipeline/memory-swarm.ts'
import type { FakeStageOptions } from '../../test/support/pipeline/fake-engines.ts'

/** Stages whose computes take so many milliseconds of the swarm's clock. */
function timed(ms: (peer: string) => number): { swarm: TestSwarm; busy: Map<string, number>; most: () => number } {
  const busy = new Map<string, number>()
  let most = 0
  const stage = (peer: string): FakeStageOptions => ({
    before: async () => {
      busy.set(peer, (busy.get(peer) ?? 0) + 1)
      most = Math.max(most, [...busy.values()].filter(count => count > 0).length)
      await new Promise<void>(resolve => swarm.clock.after(ms(peer), resolve))
      busy.set(peer, (busy.get(peer) ?? 0) - 1)
    },
  })
  const swarm: TestSwarm = new TestSwarm({ stage, latency: () => 1 })
  return { swarm, busy, most: () => most }
}

test('the chunks of one prefill keep every stage of the route busy', async () => {
  const { swarm, most } = timed(() => 100)
  const { entry, stages } = swarm.ring(3)
  const started = swarm.clock.monotonic()
  await swarm.until(tokensOf(entry, requestOf(stages, { length: 512 * 6, tokensMax: 1 })))
  assert.equal(most(), 3)
  // Six chunks through three stages of 100 ms: 800 ms where they overlap, 1800 ms where they do not.
  const took = swarm.clock.monotonic() - started
  assert.ok(took < 850, `it took ${took} ms`)
})

test('at most two chunks are on their way to a stage, however slow it is', async () => {
  const sent = new Map<string, number>()
  const done = new Map<string, number>()
  let most = 0
  const stage = (peer: string): FakeStageOptions => ({
    before: async () => {
      await new Promise<void>(resolve => swarm.clock.after(peer === 'stage1' ? 500 : 10, resolve))
      done.set(peer, (done.get(peer) ?? 0) + 1)
    },
  })
  const swarm: TestSwarm = new TestSwarm({
    stage,
    wrap: (stream, _from, to) => ({
      ...stream,
      received: stream.received,
      send: bytes => {
        if (bytes[4] === 3) {
          sent.set(to, (sent.get(to) ?? 0) + 1)
          most = Math.max(most, (sent.get(to) ?? 0) - (done.get(to) ?? 0))
        }
        return stream.send(bytes)
      },
    }),
  })
  const { entry, stages } = swarm.ring(3)
  const prefill = tokensOf(entry, requestOf(stages, { length: 512 * 7, tokensMax: 1 }))
  await swarm.until(prefill)
  assert.equal(most, 2)
  assert.equal(sent.get('stage1'), 7)
})

test('a fast stage before a slow one computes two chunks ahead and one more, then waits', async () => {
  let computed = 0
  const stage = (peer: string): FakeStageOptions => ({
    before: async () => {
      if (peer === 'stage0') computed++
      else await new Promise<void>(resolve => swarm.clock.after(1000, resolve))
    },
  })
  const swarm: TestSwarm = new TestSwarm({ stage })
  const { entry, stages } = swarm.ring(2)
  const prefill = tokensOf(entry, requestOf(stages, { length: 512 * 7, tokensMax: 1 }))
  await settle()
  swarm.clock.advance(900)
  await settle()
  assert.equal(computed, 3)
  await swarm.until(prefill, 100)
  assert.equal(computed, 7)
})

test('a decoding step goes before chunks that wait, and chunks are not starved by decoding', async () => {
  const order: string[] = []
  const swarm: TestSwarm = new TestSwarm({
    stage: () => ({
      before: async step => {
        order.push(step.count > 1 ? 'chunk' : 'decode')
        await new Promise<void>(resolve => swarm.clock.after(10, resolve))
      },
    }),
  })
  const { entry, stages } = swarm.ring(1)
  const decoding = Array.from({ length: 4 }, () => tokensOf(entry, requestOf(stages, { length: 1, tokensMax: 60 })))
  await settle()
  swarm.clock.advance(10)
  await settle()
  const prefill = tokensOf(entry, requestOf(stages, { length: 512 * 4, tokensMax: 1 }))
  await swarm.until(Promise.all([...decoding, prefill]))
  const chunks = order.flatMap((kind, i) => (kind === 'chunk' ? [i] : []))
  assert.equal(chunks.length, 4)
  // Four generations always have a step waiting: without a bound the chunks would all come at the end.
  assert.deepEqual(
    chunks.slice(1).map((at, i) => at - (chunks[i] ?? 0)),
    [17, 17, 17],
  )
  assert.ok((chunks[0] ?? 0) <= 24, `chunks ran at ${chunks.join(' ')}`)
})

test('a slot reaches the next generation only after it was zeroed', async () => {
  let zeroing = 0
  const swarm: TestSwarm = new TestSwarm({
    slots: 1,
    stage: () => ({
      before: () => {
        assert.equal(zeroing, 0, 'a step ran in a slot that was being zeroed')
        return Promise.resolve()
      },
      beforeRelease: async () => {
        zeroing++
        await new Promise<void>(resolve => swarm.clock.after(200, resolve))
        zeroing--
      },
    }),
  })
  const { entry, stages } = swarm.ring(2)
  await swarm.until(tokensOf(entry, requestOf(stages)))
  await settle()
  // The rows are still there, and said to be there.
  assert.equal(stages[0]?.pipeline.stages.generations().length, 1)
  const tokens = await swarm.until(tokensOf(entry, requestOf(stages)))
  assert.equal(tokens.length, 12)
  assert.ok(swarm.clock.monotonic() >= 200)
})

test('a slot that could not be zeroed is zeroed before it is used again', async () => {
  let failures = 1
  const swarm = new TestSwarm({
    slots: 1,
    stage: () => ({
      beforeRelease: () => (failures-- > 0 ? Promise.reject(new Error('not now')) : Promise.resolve()),
    }),
  })
  const { entry, stages } = swarm.ring(1)
  await swarm.until(tokensOf(entry, requestOf(stages)))
  await settle()
  assert.equal(stages[0]?.pipeline.stages.slotsFree(), 0)
  await swarm.until(tokensOf(entry, requestOf(stages)))
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('more generations than slots wait for their turn', async () => {
  const swarm = new TestSwarm({ slots: 2, latency: () => 1 })
  const { entry, stages } = swarm.ring(2)
  const all = await swarm.until(Promise.all(Array.from({ length: 9 }, () => tokensOf(entry, requestOf(stages)))))
  assert.equal(new Set(all.map(tokens => tokens.join())).size, 1)
  await swarm.until(settle())
})

test('a route that stays busy is given up with the reason', async () => {
  const swarm = new TestSwarm({ slots: 1 })
  const { entry, stages } = swarm.ring(2)
  const other = entry.pipeline.entry.generate(requestOf(stages), { signal: new AbortController().signal })
  await swarm.until(other.next())
  await assert.rejects(swarm.until(tokensOf(entry, requestOf(stages)), 20), { code: 'STAGE_BUSY' })
  await other.return(undefined)
  await settle()
  assert.deepEqual(swarm.held(), [])
})
