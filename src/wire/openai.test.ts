import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  type ChatCompletionRequest,
  chatCompletionRequestSchema,
  type TextCompletionRequest,
  textCompletionRequestSchema,
} from './openai.ts'

const sampling = {
  model: fc.string({ minLength: 1, maxLength: 40 }),
  temperature: fc.option(fc.double({ min: 0, max: 2, noNaN: true })),
  top_p: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
  top_k: fc.option(fc.nat(1000)),
  presence_penalty: fc.option(fc.double({ min: -2, max: 2, noNaN: true })),
  seed: fc.option(fc.maxSafeInteger()),
  logit_bias: fc.option(
    fc.dictionary(fc.nat(99_999).map(String), fc.double({ min: -100, max: 100, noNaN: true }), { maxKeys: 20 }),
  ),
  stop: fc.option(fc.oneof(fc.string(), fc.array(fc.string(), { maxLength: 16 }))),
  max_tokens: fc.option(fc.integer({ min: 1 })),
  n: fc.option(fc.integer({ min: 1, max: 4 })),
  stream: fc.option(fc.boolean()),
}

const content = fc.oneof(fc.string(), fc.array(fc.record({ type: fc.constant('text' as const), text: fc.string() })))

const chatRequest: fc.Arbitrary<ChatCompletionRequest> = fc.record(
  {
    ...sampling,
    messages: fc.array(
      fc.record({ role: fc.constantFrom('system' as const, 'developer' as const, 'user' as const), content }),
      { minLength: 1, maxLength: 5 },
    ),
  },
  { requiredKeys: ['model', 'messages'] },
)

const textRequest: fc.Arbitrary<TextCompletionRequest> = fc.record(
  {
    ...sampling,
    prompt: fc.oneof(
      fc.string(),
      fc.array(fc.string(), { minLength: 1, maxLength: 16 }),
      fc.array(fc.nat(99_999), { minLength: 1 }),
      fc.array(fc.array(fc.nat(99_999), { minLength: 1 }), { minLength: 1, maxLength: 16 }),
    ),
  },
  { requiredKeys: ['model', 'prompt'] },
)

/** As it comes out of a JSON parser. */
function asJson<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T
}

test('every request within the bounds is taken, and nothing that is given is changed', () => {
  const isTaken = (schema: { parse(body: unknown): unknown }) => (request: object) => {
    assert.deepEqual(schema.parse(asJson(request)), asJson(request))
  }
  fc.assert(fc.property(chatRequest, isTaken(chatCompletionRequestSchema)))
  fc.assert(fc.property(textRequest, isTaken(textCompletionRequestSchema)))
})

test('anything at all is taken or refused, never thrown on', () => {
  const field = fc.constantFrom(...Object.keys(chatCompletionRequestSchema.shape))
  fc.assert(
    fc.property(fc.jsonValue(), fc.dictionary(field, fc.jsonValue()), (value, fields) => {
      for (const schema of [chatCompletionRequestSchema, textCompletionRequestSchema]) {
        for (const body of [value, { model: 'x', messages: [{ role: 'user', content: '' }], prompt: '', ...fields }]) {
          const result = schema.safeParse(body)
          assert.ok(result.success || result.error.issues.length > 0)
        }
      }
    }),
  )
})

test('fields that nobody knows are ignored', () => {
  const request = { model: 'x', prompt: 'a', service_tier: 'auto', whatever: [1] }
  assert.deepEqual(textCompletionRequestSchema.parse(request), { model: 'x', prompt: 'a' })
})

test('a long list of wrong elements makes a short list of complaints', () => {
  const messages = Array<unknown>(100_000).fill(0)
  const result = chatCompletionRequestSchema.safeParse({ model: 'x', messages })
  assert.equal(result.error?.issues.length, 1)
  const prompt = Array<unknown>(100_000).fill(null)
  assert.equal(textCompletionRequestSchema.safeParse({ model: 'x', prompt }).error?.issues.length, 1)
})
