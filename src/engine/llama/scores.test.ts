import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { argmax, scoreTokens } from './scores.ts'

const logitRow = (): fc.Arbitrary<Float32Array> =>
  fc.float32Array({ minLength: 1, maxLength: 50, min: -30, max: 30, noNaN: true, noDefaultInfinity: true })

test('of equal logits the first one is taken, as llama.cpp does', () => {
  assert.equal(argmax(Float32Array.of(1, 3, 3, 2)), 1)
  assert.equal(argmax(Float32Array.of(-5, -5)), 0)
})

test('probabilities of all tokens sum to one', () => {
  fc.assert(
    fc.property(logitRow(), logits => {
      const { top } = scoreTokens(logits, 0, logits.length)
      const sum = top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)
      assert.ok(Math.abs(sum - 1) < 1e-9, `sum is ${sum}`)
    }),
  )
})

test('alternatives are the most likely tokens, most likely first, equal ones by id', () => {
  fc.assert(
    fc.property(logitRow(), fc.integer({ min: 0, max: 20 }), (logits, count) => {
      const sorted = [...logits].map((logit, token) => ({ logit, token }))
      sorted.sort((a, b) => b.logit - a.logit || a.token - b.token)
      assert.deepEqual(
        scoreTokens(logits, 0, count).top.map(({ token }) => token),
        sorted.slice(0, count).map(({ token }) => token),
      )
    }),
  )
})

test('large logits do not overflow', () => {
  const { chosen } = scoreTokens(Float32Array.of(5000, 4999), 0, 0)
  assert.ok(Math.abs(chosen.logprob - Math.log(1 / (1 + Math.exp(-1)))) < 1e-9)
})
