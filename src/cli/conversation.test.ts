import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Conversation } from './conversation.ts'

test('a conversation holds the system text, the turns and the question, in order', () => {
  const conversation = new Conversation({ contextMax: 1000, system: 'S' })
  conversation.remember('Q1', 'A1', 10)
  assert.deepEqual(conversation.messagesFor('Q2'), [
    { role: 'system', content: 'S' },
    { role: 'user', content: 'Q1' },
    { role: 'assistant', content: 'A1' },
    { role: 'user', content: 'Q2' },
  ])
})

test('the oldest turns go first when the context fills up, and the system text stays', () => {
  const conversation = new Conversation({ contextMax: 100, system: 'S' })
  for (const name of ['first', 'second', 'third']) {
    const answer = 'x'.repeat(95)
    // One token a character: so long turns that only one fits beside a question.
    const tokens = conversation.messagesFor(name).reduce((sum, m) => sum + m.content.length, 0) + answer.length
    conversation.remember(name, answer, tokens / 2)
  }
  assert.equal(conversation.makeRoomFor('question'), 2)
  assert.deepEqual(
    conversation.messagesFor('question').map(message => message.content.slice(0, 8)),
    ['S', 'third', 'xxxxxxxx', 'question'],
  )
  assert.equal(conversation.makeRoomFor('q'.repeat(1000)), 1)
  assert.deepEqual(conversation.turns, 0)
})

test('a reset forgets the turns', () => {
  const conversation = new Conversation({ contextMax: 100 })
  conversation.remember('Q', 'A', 2)
  conversation.reset()
  assert.equal(conversation.messagesFor('Q').length, 1)
})
