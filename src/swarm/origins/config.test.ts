import assert from 'node:assert/strict'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { temporaryDir } from '../../../test/support/command.ts'
import { SwarmError } from '../errors.ts'
import { ORIGIN_CONFIG_BYTES_MAX, ORIGIN_SOURCES_MAX } from '../limits.ts'
import { certificatesOf, type HttpSource, parseSources, readSources, tokenOf } from './config.ts'

const ID = 'ab'.repeat(32)
const onPosix = { skip: process.platform === 'win32' && 'rights are no bits of a mode here' }
const isConfigFault = (error: unknown): boolean => error instanceof SwarmError && error.code === 'SWARM_ORIGIN_CONFIG'

const rsync = {
  kind: 'rsync',
  host: 'nas.home',
  user: 'weights',
  identityFile: '/home/me/.ssh/id',
  knownHostsFile: '/home/me/.ssh/known_hosts',
  path: '/srv/models',
}

function fileWith(t: TestContext, text: string, mode = 0o600): string {
  const path = join(temporaryDir(t), 'sources.json')
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

test('everything that the guide shows is read', () => {
  const config = {
    allow: ['nas.home', '10.0.0.0/8', 'box:8080'],
    allowSuggested: ['huggingface.co'],
    sources: [
      {
        kind: 'http',
        base: 'https://huggingface.co/owner/repo/resolve/main/',
        tokenEnv: 'HF_TOKEN',
        files: ['a.gguf'],
      },
      {
        kind: 'http',
        name: 'mirror',
        models: { [ID]: 'https://x.example/m.gguf' },
        bytesPerSecond: 1_000_000,
        parallel: 2,
      },
      { kind: 'http', base: 'http://nas.home/', models: { [ID]: 'sub/m.gguf' } },
      { ...rsync, port: 2222, bytesPerSecond: 10_000_000, models: { [ID]: 'sub/m.gguf' } },
      { kind: 'folder', path: '/mnt/models' },
    ],
  }
  assert.deepEqual(parseSources(config), config)
  assert.deepEqual(parseSources({}), {})
})

test('what is not as it should be is refused, and no value is repeated', () => {
  const http = { kind: 'http', base: 'https://x.example/' }
  for (const value of [
    null,
    [],
    { extra: 1 },
    { allow: ['10.0.0.0/99'] },
    { allowSuggested: 'yes' },
    { sources: Array.from({ length: ORIGIN_SOURCES_MAX + 1 }, () => ({ kind: 'folder', path: '/x' })) },
    ...[
      { kind: 'ftp', base: 'ftp://x/' },
      { ...http, base: 'https://x.example/no-slash' },
      { ...http, base: 'ftp://x.example/' },
      { ...http, base: 'https://user:secret-word@x.example/' },
      { ...http, token: 'secret-word', tokenEnv: 'X' },
      { ...http, token: 'secret-word with spaces' },
      { ...http, models: { [ID]: '../up.gguf' } },
      { ...http, models: { [ID]: '/root.gguf' } },
      { ...http, models: { short: 'a.gguf' } },
      { kind: 'http', models: { [ID]: 'a.gguf' } },
      { ...http, files: ['-e'] },
      { ...http, parallel: 1_000 },
      { ...http, bytesPerSecond: 1 },
      { ...rsync, path: 'relative' },
      { ...rsync, identityFile: '~/.ssh/id' },
      { ...rsync, models: { [ID]: 'a/../../b' } },
      { ...rsync, password: 'secret-word' },
      { kind: 'folder', path: 'relative' },
      { kind: 'folder', path: '/x', files: ['a\u0000b'] },
    ].map(source => ({ sources: [source] })),
  ]) {
    assert.throws(
      () => parseSources(value),
      error => isConfigFault(error) && !String(error).includes('secret-word'),
      JSON.stringify(value)?.slice(0, 200),
    )
  }
})

test('a file that others can change, or whose token they can read, is refused', onPosix, async t => {
  const plain = '{"sources":[{"kind":"folder","path":"/mnt"}]}'
  const secret = '{"sources":[{"kind":"http","base":"https://x.example/","token":"secret-word"}]}'
  assert.equal((await readSources(fileWith(t, plain, 0o644))).sources?.length, 1)
  assert.equal((await readSources(fileWith(t, secret, 0o600))).sources?.length, 1)
  await assert.rejects(readSources(fileWith(t, plain, 0o664)), /SWARM|others can change/)
  await assert.rejects(readSources(fileWith(t, secret, 0o640)), isConfigFault)
  await assert.rejects(
    readSources(fileWith(t, `${secret}}`)),
    error => isConfigFault(error) && !String(error).includes('word'),
  )
  await assert.rejects(readSources(fileWith(t, ' '.repeat(ORIGIN_CONFIG_BYTES_MAX + 1))), isConfigFault)
  await assert.rejects(readSources('/no/such/file'), isConfigFault)
  await assert.rejects(readSources('/dev/zero'), isConfigFault)
})

test('a token comes from the configuration, the environment or a file of its own', onPosix, async t => {
  const source: HttpSource = { kind: 'http', base: 'https://x.example/' }
  assert.equal(await tokenOf(source, {}), undefined)
  assert.equal(await tokenOf({ ...source, token: 'one' }, {}), 'one')
  assert.equal(await tokenOf({ ...source, tokenEnv: 'HF_TOKEN' }, { HF_TOKEN: 'two' }), 'two')
  assert.equal(await tokenOf({ ...source, tokenFile: fileWith(t, 'three\n') }, {}), 'three')
  await assert.rejects(tokenOf({ ...source, tokenEnv: 'HF_TOKEN' }, {}), isConfigFault)
  await assert.rejects(tokenOf({ ...source, tokenFile: fileWith(t, '\n') }, {}), isConfigFault)
  await assert.rejects(tokenOf({ ...source, tokenFile: fileWith(t, 'three\n', 0o644) }, {}), /chmod 600/)
  await assert.rejects(tokenOf({ ...source, tokenFile: fileWith(t, 'a\nX-Header: b') }, {}), isConfigFault)
  assert.equal(await certificatesOf({ ...source, caFile: fileWith(t, 'pem', 0o644) }), 'pem')
})
