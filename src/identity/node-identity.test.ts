import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#base'
import { createNodeIdentity, encodeKeyFile, parseKeyFile } from './node-identity.ts'

test('an identity survives its key file', async () => {
  const identity = await createNodeIdentity(seededRandom(1))
  const text = encodeKeyFile(identity)
  assert.match(text, /^koinon-node-key 1\n[A-Za-z0-9+/]+=*\n$/)
  assert.equal(parseKeyFile(text).peer, identity.peer)
  assert.equal(parseKeyFile(text.replaceAll('\n', '\r\n')).peer, identity.peer, 'after an editor on Windows')
})

test('a damaged key file is refused, not replaced by another identity', async () => {
  const text = encodeKeyFile(await createNodeIdentity(seededRandom(1)))
  const damaged = [
    '',
    'hello',
    text.slice(0, 60),
    text.replace('node', 'nude'),
    `${text}more`,
    text.replace(/\n./, '\n~'),
  ]
  for (const file of damaged) assert.throws(() => parseKeyFile(file), { code: 'IDENTITY_KEY_INVALID' })
})

test('a key file of a later version says so', async () => {
  const text = encodeKeyFile(await createNodeIdentity(seededRandom(1)))
  assert.throws(() => parseKeyFile(text.replace('key 1', 'key 2')), { code: 'IDENTITY_KEY_VERSION' })
})
