/** The order to go over to another key, as it comes over the node's local socket. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startLocalApi } from '#api'
import { createLogger, ManualClock, seededRandom, systemClock } from '#base'
import { createLocalClient, type LocalClient } from '#cli'
import type { KeyRotationRequest } from '#node'
import { createScriptedNode, type ScriptedNode } from './support/scripted-node.ts'

const isWindows = process.platform === 'win32'
const SECRET = '5ec2e7'.repeat(10)

type Setup = { readonly node: ScriptedNode; readonly client: LocalClient; readonly log: readonly string[] }

async function setUp(t: TestContext): Promise<Setup> {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-api-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const socket = isWindows ? `\\\\.\\pipe\\${directory.replaceAll(/\W/g, '-')}` : join(directory, 'node.sock')
  const node = createScriptedNode()
  const lines: string[] = []
  const clock = new ManualClock()
  const log = createLogger({ clock, write: line => lines.push(line) }, { level: 'debug', format: 'text' })
  const api = await startLocalApi(
    { node, clock, random: seededRandom(1), log },
    { socket, onStop: () => assert.fail('nobody asked for a stop') },
  )
  t.after(() => api.stop())
  return { node, client: createLocalClient({ clock: systemClock }, { socket, dataDir: directory }), log: lines }
}

test('a node is told where its new key lies, with the secrets that open it, which are not logged', async t => {
  const { node, client, log } = await setUp(t)
  const asked: KeyRotationRequest[] = [
    {},
    { newPhrase: true },
    { to: { kind: 'file' } },
    { to: { kind: 'environment', text: SECRET } },
    { to: { kind: 'pkcs11', module: '/m.so', token: 'T', serial: '1', label: 'k', id: '0aff', pin: SECRET } },
    { to: { kind: 'kms', key: 'alias/k', region: 'eu-west-1', endpoint: 'http://127.0.0.1:1' } },
  ]
  for (const request of asked) assert.deepEqual(await client.rotateKey(request), { from: 'self', to: 'next' })
  assert.deepEqual(node.rotations, asked)
  assert.doesNotMatch(log.join('\n'), new RegExp(SECRET))
})

test('what names no key is refused before the node sees it, and is not repeated', async t => {
  const { node, client, log } = await setUp(t)
  const wrong = [
    { to: { kind: 'usb' } },
    { to: { kind: 'environment', text: '' } },
    { to: { kind: 'environment', text: SECRET, more: 1 } },
    { to: { kind: 'pkcs11', token: 'T', label: 'k', pin: SECRET } },
    { to: { kind: 'pkcs11', module: 'm', token: 'T', id: 'xyz', pin: SECRET } },
    { to: { kind: 'kms', key: 'k', endpoint: 'nowhere' } },
    { newPhrase: 'yes' },
    { passphrase: SECRET },
  ]
  for (const request of wrong) {
    await assert.rejects(client.rotateKey(request as KeyRotationRequest), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'CLI_NODE_REFUSED')
      assert.doesNotMatch(error.message, new RegExp(SECRET))
      return true
    })
  }
  assert.deepEqual(node.rotations, [])
  assert.doesNotMatch(log.join('\n'), new RegExp(SECRET))
})
