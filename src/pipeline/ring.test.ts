/** Honest rings: whatever the number of stages, the tokens are those of one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { referenceTokens, requestOf, settle, TestSwarm, tokensOf } from '../../test/support/pipeline/memory-swarm.ts'

for (const count of [1, 2, 3, 4]) {
  test(`a ring of ${count} gives the tokens of one stage`, async () => {
    for (const length of [1, 7, 512, 513, 1500]) {
      const swarm = new TestSwarm()
      const { entry, stages } = swarm.ring(count)
      const request = requestOf(stages, { length })
      const tokens = await swarm.until(tokensOf(entry, request))
      assert.equal(tokens.length, 12)
      assert.deepEqual(tokens, await referenceTokens(request))
      await settle()
      assert.deepEqual(swarm.held(), [])
    }
  })
}

test('an entry may be any stage of its own route', async () => {
  const swarm = new TestSwarm()
  const { stages } = swarm.ring(3)
  const request = requestOf(stages, { length: 600 })
  const expected = await referenceTokens(request)
  for (const stage of stages) {
    assert.deepEqual(await swarm.until(tokensOf(stage, request)), expected)
    await settle()
    assert.deepEqual(swarm.held(), [])
  }
})

test('eight generations at once each give the tokens that they give alone', async () => {
  const swarm = new TestSwarm({ latency: () => 1 })
  const { entry, stages } = swarm.ring(3)
  const requests = Array.from({ length: 8 }, (_, i) => requestOf(stages, { length: 3 + i * 200 }))
  const expected = await Promise.all(requests.map(request => referenceTokens(request)))
  const all = await swarm.until(Promise.all(requests.map(request => tokensOf(entry, request))))
  assert.deepEqual(all, expected)
  await swarm.until(settle())
})

test('an end token ends the stream, unless it is to be ignored', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  for (let length = 1; length < 40; length++) {
    const request = requestOf(stages, { length, tokensMax: 200, ignoreEnd: false })
    const tokens = await swarm.until(tokensOf(entry, request))
    const end = tokens.findIndex(token => token % 97 === 0)
    assert.ok(end === -1 ? tokens.length === 200 : end === tokens.length - 1)
    if (end !== -1) return
  }
  assert.fail('no prompt met an end token')
})

test('a generation is opened under an id that its stages know', async () => {
  const swarm = new TestSwarm()
  const { entry, stages } = swarm.ring(2)
  const events = entry.pipeline.entry.generate(requestOf(stages), { signal: new AbortController().signal })
  const first = await swarm.until(events.next())
  assert.ok(first.done !== true && first.value.kind === 'opened')
  for (const { pipeline, layers } of stages) {
    const [status] = pipeline.stages.generations()
    assert.equal(status?.generation, first.value.generation)
    assert.deepEqual(status.layers, layers)
    assert.equal(status.entry, 'entry')
  }
  await swarm.until(events.next())
  // Seven of the prompt, and the first token, which goes round while the caller still looks at it.
  assert.equal(stages[0]?.pipeline.stages.generations()[0]?.positions, 8)
  assert.equal(entry.pipeline.entry.generations()[0]?.route?.length, 2)
  await events.return(undefined)
  await settle()
  assert.deepEqual(swarm.held(), [])
})

test('a decoding step of one row is one write', async () => {
  const sizes: number[] = []
  const swarm = new TestSwarm({
    wrap: (stream, from, to) => ({
      ...stream,
      received: stream.received,
      send: bytes => {
        if (from === 'stage0' && to === 'stage1') sizes.push(bytes.byteLength)
        return stream.send(bytes)
      },
    }),
  })
  const { entry, stages } = swarm.ring(2)
  await swarm.until(tokensOf(entry, requestOf(stages, { tokensMax: 5 })))
  // Two starts, one chunk of seven rows, four decoding steps: header and row together.
  assert.deepEqual(
    sizes.sort((a, b) => a - b),
    [6, 6, 64, 64, 64, 64, 48 + 7 * 16],
  )
})
