import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { codeOf, seededRandom, silentLogger, systemClock } from '#base'
import { temporaryDir } from '../../../test/support/command.ts'
import { fetchAll, randomBytes } from '../../../test/support/origin-fetch.ts'
import { sshServerMissing, startSshServer } from '../../../test/support/ssh-server.ts'
import type { Origin } from '../types.ts'
import { parseSources } from './config.ts'
import { createOrigins, type Origins, type OriginsDeps, type WantedModel } from './create-origins.ts'

const FILE = randomBytes(50_000)
const MODEL: WantedModel = { id: 'cd'.repeat(32), fileBytes: FILE.byteLength, name: 'Tiny Model-1' }
const signal = new AbortController().signal

async function originsOf(t: TestContext, config: unknown, deps: Partial<OriginsDeps> = {}): Promise<Origins> {
  const standard = { clock: systemClock, random: seededRandom(1), log: silentLogger, env: {} }
  return createOrigins({ ...standard, stagingDir: join(temporaryDir(t), 'staging'), ...deps }, parseSources(config))
}

async function findAll(t: TestContext, origins: Origins): Promise<{ found: readonly Origin[]; faults: string[] }> {
  const faults: string[] = []
  const onFault = (name: string, error: Error): void => void faults.push(`${name} ${codeOf(error)}`)
  const found = await origins.find(MODEL, { signal, onFault })
  t.after(() => Promise.all(found.map(origin => origin.close())))
  return { found, faults }
}

/** Serves `files` by path, and keeps what was asked for. */
async function webServer(t: TestContext, files: readonly string[]): Promise<{ base: string; asked: string[] }> {
  const asked: string[] = []
  const server = createServer((incoming, outgoing) => {
    asked.push(incoming.url ?? '')
    if (!files.includes(incoming.url ?? '')) return outgoing.writeHead(404).end()
    const [, first = 0, last = 0] = (/(\d+)-(\d+)/.exec(incoming.headers.range ?? '') ?? []).map(Number)
    outgoing.writeHead(206, { 'Content-Range': `bytes ${first}-${last}/${FILE.byteLength}` })
    return outgoing.end(FILE.subarray(first, last + 1))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { base: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, asked }
}

test('a web server is asked for the names that a model may have', async t => {
  const { base, asked } = await webServer(t, ['/a/Tiny%20Model-1', '/a/x/y.gguf'])
  const origins = await originsOf(t, {
    allow: ['127.0.0.1'],
    sources: [
      { kind: 'http', base: `${base}a/` },
      { kind: 'http', name: 'named', base: `${base}a/`, models: { [MODEL.id]: 'x/y.gguf' } },
      { kind: 'http', name: 'listed', base: `${base}a/`, files: ['no.gguf', 'x/y.gguf'] },
      { kind: 'http', name: 'without it', base: `${base}b/` },
      { kind: 'http', name: 'of others', models: { [`ef`.repeat(32)]: `${base}a/x/y.gguf` } },
    ],
  })
  const { found, faults } = await findAll(t, origins)
  assert.deepEqual(
    found.map(({ kind, name }) => `${kind} ${name.replace(/:\d+/, '')}`),
    ['http 127.0.0.1 (Tiny%20Model-1)', 'http named', 'http listed'],
  )
  assert.deepEqual(faults, ['without it SWARM_ORIGIN_NOT_FOUND'])
  assert.equal(
    asked.filter(path => path === '/a/x/y.gguf').length,
    1,
    'what the configuration names is not asked for first',
  )
  for (const origin of found)
    assert.ok((await fetchAll(origin, { offset: 7, length: 40_000 })).equals(FILE.subarray(7, 40_007)))
})

test('a label that is no name of a file is never asked for', async t => {
  const { base, asked } = await webServer(t, [])
  const folder = temporaryDir(t)
  const origins = await originsOf(t, {
    allow: ['127.0.0.1'],
    sources: [
      { kind: 'http', base },
      { kind: 'folder', path: folder },
    ],
  })
  for (const name of ['../../etc/passwd', 'a/b', '.hidden', '-rf', 'a\u0000', '', 'x?y=z', 'a#b', 'C:\\x']) {
    const found = await origins.find({ ...MODEL, name }, { signal })
    assert.deepEqual(found, [])
  }
  assert.deepEqual(asked, [])
})

test('folders, wrong sources and missing tokens: what can be used is, the rest is told', async t => {
  const folder = temporaryDir(t)
  writeFileSync(join(folder, 'other-name.gguf'), FILE)
  const { base } = await webServer(t, ['/m'])
  const origins = await originsOf(t, {
    sources: [
      { kind: 'folder', name: 'disk', path: folder },
      { kind: 'folder', name: 'gone', path: join(folder, 'gone') },
      { kind: 'http', name: 'private', base, files: ['m'] },
      { kind: 'http', name: 'no token', base: 'https://x.example/', tokenEnv: 'NO_SUCH_TOKEN' },
    ],
  })
  const { found, faults } = await findAll(t, origins)
  assert.deepEqual(
    found.map(origin => origin.name),
    ['disk'],
  )
  assert.deepEqual(faults.toSorted(), [
    'gone SWARM_ORIGIN_NOT_FOUND',
    'no token SWARM_ORIGIN_CONFIG',
    'private SWARM_ORIGIN_REFUSED',
  ])
})

test('a machine with rsync is asked for the names that a model may have', { skip: sshServerMissing() }, async t => {
  const folder = temporaryDir(t)
  const stagingDir = join(folder, 'staging')
  mkdirSync(join(stagingDir, 'rsync-left'), { recursive: true })
  mkdirSync(join(stagingDir, 'something'))
  writeFileSync(join(folder, 'second.gguf'), FILE)
  const { host, port, user, identityFile, knownHostsFile } = await startSshServer(t)
  const machine = { kind: 'rsync', host, port, user, identityFile, knownHostsFile, path: folder }
  const config = { sources: [{ ...machine, files: ['first.gguf', 'second.gguf'] }] }
  const { found, faults } = await findAll(t, await originsOf(t, config, { stagingDir }))
  assert.deepEqual(faults, [])
  assert.deepEqual(
    found.map(origin => origin.kind),
    ['rsync'],
  )
  for (const origin of found) assert.ok((await fetchAll(origin, { offset: 0, length: 50_000 })).equals(FILE))
  assert.ok(!existsSync(join(stagingDir, 'rsync-left')) && existsSync(join(stagingDir, 'something')))
  await Promise.all(found.map(origin => origin.close()))
  assert.deepEqual(readdirSync(stagingDir), ['something'])
})

test('what others suggest is used where the owner allows it, and by no other rules', async t => {
  const urls = [
    'https://huggingface.co/o/r/resolve/main/m.gguf',
    'https://mirror.example/m.gguf',
    'http://mirror.example/m.gguf',
    'https://user:word@mirror.example/m.gguf',
    'file:///etc/passwd',
    'nonsense',
  ]
  const namesBy = async (config: object): Promise<string[]> => {
    const origins = (await originsOf(t, config)).suggested(MODEL, urls)
    await Promise.all(origins.map(origin => origin.close()))
    return origins.map(origin => origin.name)
  }
  assert.deepEqual(await namesBy({}), [])
  assert.deepEqual(await namesBy({ allow: ['mirror.example'] }), [])
  assert.deepEqual(await namesBy({ allowSuggested: true }), ['huggingface.co (m.gguf)', 'mirror.example (m.gguf)'])
  assert.deepEqual(await namesBy({ allowSuggested: ['huggingface.co'] }), ['huggingface.co (m.gguf)'])
  const { base, asked } = await webServer(t, ['/m'])
  const origins = await originsOf(t, { allow: ['127.0.0.0/8'], allowSuggested: true })
  const [origin] = origins.suggested(MODEL, [`https://127.0.0.1:${new URL(base).port}/m`])
  assert.ok(origin !== undefined)
  await assert.rejects(fetchAll(origin, { offset: 0, length: 1 }), { fault: { code: 'SWARM_ORIGIN_REFUSED' } })
  assert.deepEqual(asked, [])
})

test('the owner can name a source, a URL or a path for once', async t => {
  const folder = temporaryDir(t)
  writeFileSync(join(folder, 'm.gguf'), FILE)
  const { base } = await webServer(t, ['/m'])
  const origins = await originsOf(t, {
    allow: ['127.0.0.1'],
    sources: [{ kind: 'folder', name: 'disk', path: folder }],
  })
  const faults: string[] = []
  const onFault = (name: string, error: Error): void => void faults.push(`${name} ${codeOf(error)}`)
  const places = [
    'disk',
    `${base}m`,
    join(folder, 'm.gguf'),
    'no such name',
    'ftp://x/',
    'https://a:b@x/',
    '/no/such/file',
  ]
  const found = await origins.chosen(MODEL, places, { signal, onFault })
  t.after(() => Promise.all(found.map(origin => origin.close())))
  assert.deepEqual(
    found.map(origin => origin.kind),
    ['folder', 'http', 'folder'],
  )
  for (const origin of found) assert.deepEqual(await fetchAll(origin, { offset: 5, length: 5 }), FILE.subarray(5, 10))
  assert.deepEqual(faults, [
    'no such name SWARM_ORIGIN_CONFIG',
    'ftp://x/ SWARM_ORIGIN_CONFIG',
    'a URL SWARM_ORIGIN_CONFIG',
    '/no/such/file SWARM_ORIGIN_NOT_FOUND',
  ])
})

test('a search ends with its signal', async t => {
  const folder = temporaryDir(t)
  writeFileSync(join(folder, 'm.gguf'), FILE)
  const origins = await originsOf(t, { sources: [{ kind: 'folder', path: folder }] })
  const stop = new Error('enough')
  await assert.rejects(origins.find(MODEL, { signal: AbortSignal.abort(stop) }), stop)
})
