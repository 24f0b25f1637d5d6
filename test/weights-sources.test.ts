/**
 * `koinon pull --source`: a web server, a machine with rsync, a folder, on loopback, with what goes wrong with them. The model
 * is known by a peer that has its description, its piece hashes, and no piece.
 */
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type { PullRequest } from '#wire'
import { type SwarmNode, until } from '../tools/swarm.ts'
import { koinon } from './support/command.ts'
import { CutProxy } from './support/cut-proxy.ts'
import { nginxMissing, startNginx } from './support/nginx-server.ts'
import { nodeWith } from './support/sourced-node.ts'
import { sshServerMissing, startSshServer } from './support/ssh-server.ts'
import {
  assertHasAll,
  assertHasNothing,
  pull,
  refusedWith,
  verified,
  writeWeightsModel,
} from './support/weights-nodes.ts'

const MIB = 2 ** 20

/** A pull from a source that gives something else: nobody else has it, so it would wait for others. */
async function assertRefusesBytes(node: SwarmNode, request: PullRequest): Promise<void> {
  const ending = new AbortController()
  const pulling = assert.rejects(pull(node, request, { signal: ending.signal }))
  await until(async () => (/not the model/.test(node.log()) ? true : undefined), {
    what: 'a refused block',
    timeoutMs: 20_000,
  })
  ending.abort(new Error('it was refused'))
  await pulling
}

test('a web server: wrong token, another model, killed and started again', { skip: nginxMissing() }, async t => {
  const model = await writeWeightsModel(t, 1)
  const other = await writeWeightsModel(t, 2)
  assert.equal(other.bytes.byteLength, model.bytes.byteLength)
  const locked = 'location /locked/ { if ($http_authorization != "Bearer good") { return 401; } }'
  const nginx = await startNginx(t, `${locked} location /slow/ { limit_rate 2m; }`)
  for (const folder of ['slow', 'locked', 'other']) {
    mkdirSync(join(nginx.root, folder))
    copyFileSync(folder === 'other' ? other.file : model.file, join(nginx.root, folder, 'model.gguf'))
  }
  const proxy = new CutProxy({ host: '127.0.0.1', port: Number(new URL(nginx.url).port) })
  await proxy.start()
  t.after(() => proxy.stop())
  const base = (folder: string): string => `http://127.0.0.1:${proxy.port}/${folder}/`
  const at = (name: string, folder: string, more: object = {}): object => ({
    kind: 'http',
    name,
    base: base(folder),
    models: { [model.id]: 'model.gguf' },
    ...more,
  })
  const { node } = await nodeWith(t, model, {
    allow: [`127.0.0.1:${proxy.port}`],
    sources: [
      at('wrong token', 'locked', { token: 'bad' }),
      at('right token', 'locked', { token: 'good' }),
      at('other', 'other'),
      at('slow', 'slow'),
      at('gone', 'gone'),
    ],
  })
  const part = { model: model.id, layers: { first: 0, last: 2 } }
  await assert.rejects(pull(node, { ...part, sources: ['wrong token'] }), refusedWith('SWARM_ORIGIN_CREDENTIALS'))
  await assert.rejects(pull(node, { ...part, sources: ['gone'] }), refusedWith('SWARM_ORIGIN_NOT_FOUND'))
  // Whatever its name: the bytes are not the model's.
  await assertRefusesBytes(node, { ...part, sources: ['other'] })
  await assertHasNothing(node, model)

  // A server that is killed in the middle of its work, and comes back.
  let restarted: Promise<void> | undefined
  const before = proxy.received
  const end = await pull(
    node,
    { model: model.id, sources: ['slow'] },
    {
      onProgress: ({ phase, doneBytes }) => {
        if (phase !== 'pulling' || doneBytes < 2 ** 20) return
        restarted ??= nginx.kill().then(() => nginx.start(locked))
      },
    },
  )
  await restarted
  assert.ok(restarted !== undefined, 'it was killed')
  assertHasAll(node.ready.dataDir, model)
  const { byteLength } = model.bytes
  assert.equal(await verified(node, model.id), byteLength)
  const came = `${proxy.received - before} bytes came for ${byteLength}`
  t.diagnostic(came)
  assert.ok(end.receivedBytes === byteLength && proxy.received - before <= byteLength + 2 * MIB, came)
  assert.deepEqual(
    end.from.map(({ name }) => name),
    ['slow'],
  )
})

test('a machine with rsync: wrong key, wrong host key, another file, then right', {
  skip: sshServerMissing(),
}, async t => {
  const model = await writeWeightsModel(t)
  const other = await writeWeightsModel(t, 2)
  copyFileSync(other.file, join(dirname(model.file), 'other.gguf'))
  const { host, port, user, identityFile, strangerFile, knownHostsFile, changedHostsFile } = await startSshServer(t)
  const at = (name: string, more: object = {}): object => ({
    kind: 'rsync',
    name,
    host,
    port,
    user,
    identityFile,
    knownHostsFile,
    path: dirname(model.file),
    models: { [model.id]: 'model.gguf' },
    ...more,
  })
  const { node } = await nodeWith(t, model, {
    allow: ['127.0.0.1'],
    sources: [
      at('wrong key', { identityFile: strangerFile }),
      at('wrong host', { knownHostsFile: changedHostsFile }),
      at('other', { models: { [model.id]: 'other.gguf' } }),
      at('box', { bytesPerSecond: 40_000_000 }),
    ],
  })
  const wanted = { model: model.id, layers: { first: 3, last: 6 } }
  await assert.rejects(pull(node, { ...wanted, sources: ['wrong key'] }), refusedWith('SWARM_ORIGIN_CREDENTIALS'))
  await assert.rejects(pull(node, { ...wanted, sources: ['wrong host'] }), refusedWith('SWARM_ORIGIN_HOST_KEY'))
  await assertRefusesBytes(node, { ...wanted, sources: ['other'] })
  await assertHasNothing(node, model)
  const some = await pull(node, { ...wanted, sources: ['box'] })
  assert.ok(some.receivedBytes <= some.wantedBytes * 1.02 && some.wantedBytes < model.bytes.byteLength * 0.6)
  const all = await koinon(['pull', model.id, '--source', 'box', '--data-dir', node.ready.dataDir])
  assert.equal(all.code, 0, all.stderr)
  assert.match(all.stdout, /box/)
  assertHasAll(node.ready.dataDir, model)
})

test('a folder beside a slow peer; a private address that nobody allowed is not gone to', async t => {
  const model = await writeWeightsModel(t)
  const { node, swarm } = await nodeWith(t, model, {
    sources: [{ kind: 'folder', name: 'disk', path: dirname(model.file) }],
  })
  await assert.rejects(
    pull(node, { model: model.id, sources: ['http://127.0.0.1:9/model.gguf'] }),
    refusedWith('SWARM_ORIGIN_REFUSED'),
  )
  await assertHasNothing(node, model)
  const slow = await swarm.add({ layers: 'none', args: ['--model', model.file, '--upload-max', '2MiB/s'] })
  const end = await pull(node, { model: model.id, sources: ['disk'] })
  const given = new Map(end.from.map(({ name, bytes }) => [name, bytes]))
  t.diagnostic(JSON.stringify([...given]))
  assert.ok((given.get('disk') ?? 0) > (given.get(slow.ready.peer) ?? 0), 'the faster one gives more')
  assertHasAll(node.ready.dataDir, model)
})
