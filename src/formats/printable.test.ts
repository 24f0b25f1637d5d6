import assert from 'node:assert/strict'
import { test } from 'node:test'
import { printable } from './printable.ts'

test('what could steer a terminal is made visible, and other text stays', () => {
  assert.equal(printable('größe → 🦊', 40), 'größe → 🦊')
  assert.equal(printable('a\u001b[2Jb\n\u202e', 40), 'a\ufffd[2Jb\ufffd\ufffd')
})

test('long text is cut, and says so', () => {
  assert.equal(printable('abcdef', 3), 'abc…')
  assert.equal(printable('abc', 3), 'abc')
})
