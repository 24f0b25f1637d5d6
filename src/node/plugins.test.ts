/** Plug-ins as an owner writes them: files, loaded into a registry that a dispatcher serves. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ManualClock } from '#base'
import { CommandRegistry, ProtocolError } from '#protocol'
import { createDispatcher, RecordingSink, settled, testCall, testCommand } from '../../test/support/command-fixture.ts'
import { loadPlugins } from './plugins.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-plugin-'))
after(() => rm(root, { recursive: true, force: true }))

let count = 0
async function pluginOf(source: string, extension = 'mjs'): Promise<string> {
  const path = join(root, `plug in ${count++}.${extension}`)
  await writeFile(path, source)
  return path
}

const command = (fields: string): string => `{
  request: z.object({ text: z.string() }), response: z.object({ text: z.string() }), cost: 1,
  rate: { perSecond: 10, burst: 10 }, right: 'member', deadlineMs: 1000, priority: 'normal',
  async handle({ text }) { return { body: { text: text.toUpperCase() } } },
  ${fields}
}`
const plugin = (...fields: readonly string[]): string =>
  `export const commands = z => [${fields.map(command).join(',')}]`

test("a plug-in's commands are answered like any other, from JavaScript and from TypeScript", async () => {
  const { registry, dispatcher, clock } = createDispatcher([])
  const typed = `type Z = { object(shape: object): unknown; string(): unknown }\n${plugin("type: 65, name: 'LOUDER'").replace('z =>', '(z: Z) =>').replace('{ text })', '{ text }: { text: string })')}`
  const paths = [await pluginOf(plugin("type: 64, name: 'LOUD'")), await pluginOf(typed, 'mts')]
  const loaded = await loadPlugins({ clock, registry }, paths)
  assert.deepEqual(
    loaded.map(({ name }) => name),
    ['LOUD', 'LOUDER'],
  )
  for (const name of ['LOUD', 'LOUDER']) {
    const sink = new RecordingSink()
    dispatcher.receive(testCall({ command: { name } }), sink)
    await settled()
    assert.deepEqual(sink.finals, [{ body: { text: 'HI' } }])
  }
  const bad = new RecordingSink()
  dispatcher.receive(testCall({ command: { name: 'LOUD' }, body: {} }), bad)
  assert.equal(bad.outcome, 'PROTOCOL_BAD_REQUEST')
})

test('a file that is no plug-in is refused with its name and the reason, and nothing of any file stays', async () => {
  const rows: ReadonlyArray<readonly [source: string, reason: RegExp]> = [
    ['export const other = 1', /must export a function `commands`/],
    ['export const commands = []', /must export a function `commands`/],
    ['export const commands = () => ({})', /must return an array/],
    ['export const commands = () => [null]', /a command must be an object/],
    ['export const commands = () => [{}]', /\(unnamed\): its name must be/],
    ["export const commands = () => { throw new Error('no luck') }", /no luck/],
    ['export const commands = (', /cannot be used: /],
    [plugin("type: 40, name: 'OWN'"), /its type must be 64 to 127/],
    [plugin("type: 66, name: 'lower'"), /its name/],
    [plugin("type: 66, name: 'A', cost: 0"), /cost/],
    [plugin("type: 66, name: 'A', request: 'text'"), /zod/],
    [plugin("type: 66, name: 'TAKEN'"), /taken/],
    [plugin("type: 66, name: 'A'", "type: 66, name: 'B'"), /taken/],
  ]
  const good = await pluginOf(plugin("type: 64, name: 'GOOD'"))
  for (const [source, reason] of rows) {
    const registry = new CommandRegistry()
    const own = testCommand({ type: 32, name: 'TAKEN' })
    registry.register(own)
    const file = await pluginOf(source)
    await assert.rejects(loadPlugins({ clock: new ManualClock(), registry }, [good, file]), error => {
      assert.ok(error instanceof ProtocolError)
      assert.deepEqual(error.fault, { code: 'PROTOCOL_PLUGIN_INVALID', file })
      assert.match(error.message, reason)
      return true
    })
    assert.deepEqual(registry.list(), [own])
  }
})

test('a file that is not there is refused, and one that does not come to an end too', async () => {
  const clock = new ManualClock()
  const registry = new CommandRegistry()
  const isRefused = (error: unknown): boolean =>
    error instanceof ProtocolError && error.code === 'PROTOCOL_PLUGIN_INVALID'
  await assert.rejects(loadPlugins({ clock, registry }, [join(root, 'missing.mjs')]), isRefused)
  const endless = await pluginOf('export const commands = () => new Promise(() => undefined)')
  const loading = assert.rejects(loadPlugins({ clock, registry }, [endless]), isRefused)
  clock.advance(60_000)
  await loading
})
