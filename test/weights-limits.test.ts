/**
 * Sources that break, that are slow, and that could give more than the node's owner wants: what comes is counted on the wire,
 * by a proxy before the server.
 */
import assert from 'node:assert/strict'
import { copyFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { systemClock } from '#base'
import { until } from '../tools/swarm.ts'
import type { TransferProgress } from '#wire'
import { CutProxy } from './support/cut-proxy.ts'
import { nginxMissing, startNginx } from './support/nginx-server.ts'
import { nodeWith } from './support/sourced-node.ts'
import { type SshServer, sshServerMissing, startSshServer } from './support/ssh-server.ts'
import { assertHasAll, pull, verified, type WeightsModel, writeWeightsModel } from './support/weights-nodes.ts'

const MIB = 2 ** 20

test('a machine with rsync: cut off, killed and started again, and the node too; no byte that was verified comes twice', {
  skip: sshServerMissing(),
}, async t => {
  const model = await writeWeightsModel(t)
  const server = await startSshServer(t)
  const proxy = await proxyTo(t, server)
  server.knowAt(proxy.port)
  const source = rsyncSource(model, { server, port: proxy.port, bytesPerSecond: 8_000_000 })
  const { node, add } = await nodeWith(t, model, { allow: ['127.0.0.1'], sources: [source] })
  // Nothing more comes before the node has taken what came, but for a piece that is not whole yet and for what rsync holds.
  const harm = [
    { at: 4 * MIB, had: 2 * MIB, doIt: async () => proxy.cut({ withReset: true }) },
    { at: 8 * MIB, had: 4 * MIB, doIt: () => server.kill().then(() => server.start()) },
    { at: 16 * MIB, had: 10 * MIB, doIt: () => node.kill() },
  ]
  const done: Promise<void>[] = []
  let doneBytes = 0
  const doHarm = async ({ had, doIt }: { readonly had: number; readonly doIt: () => Promise<void> }): Promise<void> => {
    const release = proxy.hold()
    const what = `${had} bytes of what had come`
    await until(async () => (doneBytes >= had ? true : undefined), { what, timeoutMs: 60_000 })
    await doIt()
    release()
  }
  proxy.onReceived = () => {
    const next = harm[0]
    if (next === undefined || proxy.received < next.at) return
    harm.shift()
    done.push(doHarm(next))
  }
  const onProgress = (progress: TransferProgress): void => void (doneBytes = progress.doneBytes)
  await assert.rejects(pull(node, { model: model.id, sources: ['box'] }, { onProgress }))
  await Promise.all(done)
  assert.equal(done.length, 3, 'the node was killed, and nothing else ended the pull')
  assert.ok(server.logins() >= 3, `${server.logins()} logins`)

  const next = await add(['--data-dir', node.ready.dataDir])
  // An rsync whose node was killed goes on for up to a second.
  proxy.cut()
  const before = proxy.received
  const end = await pull(next, { model: model.id, sources: ['box'] })
  const { byteLength } = model.bytes
  const missing = byteLength - end.hadBytes
  const over = proxy.received - before
  const facts = `${byteLength} bytes, ${end.hadBytes} here after the kill, then ${end.receivedBytes} came by ${over} over the wire`
  t.diagnostic(facts)
  // Half of what had come by then, if a break had lost what was here.
  assert.ok(end.hadBytes >= 9 * MIB, facts)
  assert.ok(end.receivedBytes <= missing + MIB, facts)
  // rsync sends an eighth of a second's bytes at once, so as much is lost whenever it is ended: three times here.
  assert.ok(over <= missing + 8 * MIB && missing + 8 * MIB < byteLength, facts)
  assertHasAll(next.ready.dataDir, model)
  assert.equal(await verified(next, model.id), byteLength)
})

test('--download-max holds for a web server and for rsync, which goes ahead of what it is asked for', {
  skip: nginxMissing() || sshServerMissing(),
}, async t => {
  const model = await writeWeightsModel(t)
  const nginx = await startNginx(t)
  copyFileSync(model.file, join(nginx.root, 'model.gguf'))
  const server = await startSshServer(t)
  const web = await proxyTo(t, { host: '127.0.0.1', port: Number(new URL(nginx.url).port) })
  const box = await proxyTo(t, server)
  server.knowAt(box.port)
  const base = `http://127.0.0.1:${web.port}/`
  const { node } = await nodeWith(t, model, {
    allow: ['127.0.0.1'],
    sources: [
      { kind: 'http', name: 'web', base, models: { [model.id]: 'model.gguf' } },
      rsyncSource(model, { server, port: box.port }),
    ],
    args: ['--download-max', '8MiB/s'],
  })
  const rate = 8 * MIB
  for (const { proxy, name, layers } of [
    // There is more to go ahead to behind these layers.
    { proxy: box, name: 'box', layers: { first: 0, last: 4 } },
    { proxy: web, name: 'web', layers: { first: 4, last: 8 } },
  ]) {
    const ahead = watchRate(proxy, rate)
    const end = await pull(node, { model: model.id, layers, sources: [name] })
    const facts = `${name}: ${end.receivedBytes} bytes in ${end.seconds} s, at most ${Math.round(ahead())} ahead of the limit`
    t.diagnostic(facts)
    assert.ok(end.receivedBytes > 8 * MIB, facts)
    // A quarter of a second is made up for, and pieces are asked for whole.
    assert.ok(end.seconds >= (0.9 * (end.receivedBytes - 3 * MIB)) / rate, facts)
    assert.ok(ahead() <= 4 * MIB, facts)
  }
  await pull(node, { model: model.id, sources: ['web'] })
  assertHasAll(node.ready.dataDir, model)
})

test('a slow web server and a slow peer fill one another up', { skip: nginxMissing() }, async t => {
  const model = await writeWeightsModel(t)
  // For each of four connections.
  const nginx = await startNginx(t, 'limit_rate 2m;')
  copyFileSync(model.file, join(nginx.root, 'model.gguf'))
  const source = { kind: 'http', name: 'web', base: nginx.url, models: { [model.id]: 'model.gguf' } }
  const { node, swarm } = await nodeWith(t, model, { allow: [new URL(nginx.url).host], sources: [source] })
  const peer = await swarm.add({ layers: 'none', args: ['--model', model.file, '--upload-max', '8MiB/s'] })
  const end = await pull(node, { model: model.id })
  const given = new Map(end.from.map(({ name, bytes }) => [name, bytes]))
  const [web = 0, peers = 0] = [given.get('web'), given.get(peer.ready.peer)]
  const facts = `${end.wantedBytes} bytes: ${web} from the web server, ${peers} from the peer, ${end.wastedBytes} for nothing`
  t.diagnostic(facts)
  assert.equal(end.wantedBytes, model.bytes.byteLength)
  assert.ok(web >= 0.1 * end.wantedBytes && peers >= 0.1 * end.wantedBytes, facts)
  assert.ok(web + peers >= end.wantedBytes && web + peers <= 1.05 * end.wantedBytes, facts)
  assertHasAll(node.ready.dataDir, model)
  assert.equal(await verified(node, model.id), model.bytes.byteLength)
})

async function proxyTo(t: TestContext, target: { readonly host: string; readonly port: number }): Promise<CutProxy> {
  const proxy = new CutProxy({ host: target.host, port: target.port })
  await proxy.start()
  t.after(() => proxy.stop())
  return proxy
}

function rsyncSource(
  model: WeightsModel,
  how: { readonly server: SshServer; readonly port: number; readonly bytesPerSecond?: number },
): object {
  const { server, ...more } = how
  const { host, user, identityFile, knownHostsFile } = server
  const place = { path: dirname(model.file), models: { [model.id]: 'model.gguf' } }
  return { kind: 'rsync', name: 'box', host, user, identityFile, knownHostsFile, ...place, ...more }
}

/** @returns the most bytes that have come so far beyond a rate, counted from the first byte on */
function watchRate(proxy: CutProxy, bytesPerSecond: number): () => number {
  let first: { readonly at: number; readonly received: number } | undefined
  let ahead = 0
  proxy.onReceived = () => {
    const [at, { received }] = [systemClock.monotonic(), proxy]
    first ??= { at, received }
    ahead = Math.max(ahead, received - first.received - ((at - first.at) * bytesPerSecond) / 1000)
  }
  return () => ahead
}
