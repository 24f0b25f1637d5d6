import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testCommand } from '../../test/support/command-fixture.ts'
import type { Command } from './command.ts'
import { ProtocolError } from './errors.ts'
import { CommandRegistry } from './registry.ts'

const refusedWith = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code

test('commands are found by type and by name, and listed by type', () => {
  const registry = new CommandRegistry()
  const echo = testCommand({ type: 40, name: 'ECHO' })
  const ask = testCommand({ type: 33, name: 'ASK', answerName: 'ANSWER' })
  registry.register(echo)
  registry.register(ask)
  assert.equal(registry.byType(40), echo)
  assert.equal(registry.byName('ASK'), ask)
  assert.equal(registry.byType(41), undefined)
  assert.equal(registry.byName('ANSWER'), undefined, 'the name of an answer is no command')
  assert.deepEqual(registry.list(), [ask, echo])
})

test('a type or a name is taken once, the names of answers too', () => {
  const registry = new CommandRegistry()
  registry.register(testCommand({ type: 33, name: 'ASK', answerName: 'ANSWER' }))
  const taken: Array<Partial<Command>> = [
    { type: 33 },
    { name: 'ASK' },
    { name: 'ANSWER' },
    { answerName: 'ASK' },
    { answerName: 'ANSWER' },
  ]
  for (const overrides of taken) {
    const command = testCommand({ type: 40, name: 'OTHER', ...overrides })
    assert.throws(() => registry.register(command), refusedWith('PROTOCOL_COMMAND_TAKEN'), JSON.stringify(overrides))
  }
  assert.equal(registry.list().length, 1)
})

test('a plug-in takes types from 64 on, Koinon itself those below', () => {
  const registry = new CommandRegistry()
  const invalid = refusedWith('PROTOCOL_COMMAND_INVALID')
  for (const type of [0, 31, 64, 127, 33.5, Number.NaN]) {
    assert.throws(() => registry.register(testCommand({ type, name: 'OWN' })), invalid, `own ${type}`)
  }
  for (const type of [0, 32, 63, 128, 200]) {
    assert.throws(() => registry.register(testCommand({ type, name: 'ADDED' }), { isPlugin: true }), invalid, `${type}`)
  }
  for (const type of [32, 63]) registry.register(testCommand({ type, name: `OWN_${type}` }))
  for (const type of [64, 127]) registry.register(testCommand({ type, name: `ADDED_${type}` }), { isPlugin: true })
  assert.equal(registry.list().length, 4)
})

test('a command with a bad name, number or part is refused', () => {
  const bad: ReadonlyArray<Readonly<Record<string, unknown>>> = [
    { name: 'echo' },
    { name: '' },
    { name: 'A-B' },
    { name: '_A' },
    { name: 'A__B' },
    { name: 'A'.repeat(41) },
    { name: 7 },
    { answerName: 'ECHO' },
    { answerName: 'lower' },
    { request: undefined },
    { response: {} },
    { event: 'text' },
    { cost: 0 },
    { cost: Number.NaN },
    { cost: 1e9 },
    { rate: undefined },
    { rate: { perSecond: 0, burst: 1 } },
    { rate: { perSecond: 1, burst: 0 } },
    { rate: { perSecond: Number.POSITIVE_INFINITY, burst: 1 } },
    { right: 'owner' },
    { deadlineMs: 0 },
    { deadlineMs: 1e12 },
    { priority: 'urgent' },
    { attachmentBytesMax: -1 },
    { handle: undefined },
  ]
  for (const overrides of bad) {
    const command = { ...testCommand({ type: 40, name: 'ECHO' }), ...overrides } as unknown as Command
    const registry = new CommandRegistry()
    const isRefused = refusedWith('PROTOCOL_COMMAND_INVALID')
    assert.throws(() => registry.register(command), isRefused, JSON.stringify(overrides))
    assert.deepEqual(registry.list(), [])
  }
})

test("only a plug-in's command can be taken away, and its place is free then", () => {
  const registry = new CommandRegistry()
  registry.register(testCommand({ type: 40, name: 'OWN' }))
  registry.register(testCommand({ type: 64, name: 'ADDED' }), { isPlugin: true })
  assert.ok(!registry.unregister('OWN'))
  assert.ok(registry.unregister('ADDED'))
  assert.ok(!registry.unregister('ADDED'))
  assert.equal(registry.byType(64), undefined)
  registry.register(testCommand({ type: 64, name: 'ADDED' }), { isPlugin: true })
})
