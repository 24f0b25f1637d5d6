import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HIDDEN_MAGNITUDE_MAX, LOGIT_MAGNITUDE_MAX } from './limits.ts'
import { refuseRows, type RowOrigin } from './row-check.ts'

const hidden: RowOrigin = { kind: 'hidden', side: 'input', what: 'the rows', why: 'somebody is broken' }
const logits: RowOrigin = { ...hidden, kind: 'logits', side: 'output' }
const bytesOf = (...numbers: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(numbers).buffer)

test('every finite number up to the bound passes, with either sign', () => {
  const [hiddenMax, logitMax] = [HIDDEN_MAGNITUDE_MAX, LOGIT_MAGNITUDE_MAX]
  refuseRows(bytesOf(0, -0, 1e-45, -1e-45, 1, -8e5, hiddenMax, -hiddenMax), hidden)
  refuseRows(bytesOf(-30, 12.5, logitMax, -logitMax), logits)
  refuseRows(new Uint8Array(0), hidden)
})

test('what is not finite is refused wherever it stands', () => {
  for (const poison of [NaN, -NaN, Infinity, -Infinity]) {
    for (const at of [0, 1, 99]) {
      const numbers = Array.from({ length: 100 }, (_, i) => (i === at ? poison : i))
      const fault = { code: 'ENGINE_NON_FINITE', side: 'input' }
      assert.throws(() => refuseRows(bytesOf(...numbers), hidden), { fault, message: /NaN or infinity: somebody/ })
    }
  }
})

test('what no model makes is refused, and told from what is not finite', () => {
  for (const [origin, bound] of [[hidden, HIDDEN_MAGNITUDE_MAX] as const, [logits, LOGIT_MAGNITUDE_MAX] as const]) {
    const fault = { code: 'ENGINE_OUT_OF_RANGE', side: origin.side, bound }
    for (const number of [bound * 1.000001, -bound * 1.000001, 3e38]) {
      assert.throws(() => refuseRows(bytesOf(1, number), origin), { fault })
    }
    assert.throws(() => refuseRows(bytesOf(3e38, NaN), origin), { code: 'ENGINE_NON_FINITE' })
  }
})
