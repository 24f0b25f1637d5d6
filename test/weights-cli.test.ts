/** What a user types about weights, once, against two real nodes: add, share, pull, show, verify, vote, rm. */
import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { startSwarm, until } from '../tools/swarm.ts'
import { type Finished, koinon, temporaryDir } from './support/command.ts'
import { assertHasAll, blobPath, KEEPER, writeWeightsModel } from './support/weights-nodes.ts'

test('a model is added on one node, pulled by name on another, shown, checked, voted on and forgotten', async t => {
  const model = await writeWeightsModel(t)
  const directory = temporaryDir(t)
  await using swarm = await startSwarm({ nodes: [KEEPER, KEEPER], whole: false })
  const [seeder, puller] = swarm.nodes
  assert.ok(seeder && puller)
  const runAt =
    (dataDir: string) =>
    async (...args: string[]): Promise<Finished> => {
      const finished = await koinon([...args, '--data-dir', dataDir])
      assert.equal(finished.code, 0, `${args.join(' ')}: ${finished.stderr}`)
      return finished
    }
  const here = runAt(seeder.ready.dataDir)
  const there = runAt(puller.ready.dataDir)

  const card = join(directory, 'card.json')
  writeFileSync(card, JSON.stringify({ benchmarks: [{ name: 'Nothing', score: 1.5, unit: '%' }] }))
  const label = ['--name', 'Model of chance', '--licence', 'CC0-1.0', '--card', card]
  const added = await here('models', 'add', model.file, ...label)
  assert.match(added.stdout, /Model of chance is here and shared\./)
  assert.ok(added.stdout.includes(model.id))
  assert.match(added.stdout, /magnet:\?xt=urn:btmh:1220/)

  const torrent = join(directory, 'model.torrent')
  const shared = await here('share', model.id.slice(0, 8), '--torrent', torrent)
  assert.match(shared.stdout, /is shared\./)
  assert.ok(existsSync(torrent))

  const stock = ['pull', model.id, '--from', 'bt:127.0.0.1:6881', '--data-dir', puller.ready.dataDir]
  const unasked = await koinon(stock)
  assert.equal(unasked.code, 1)
  assert.match(unasked.stderr, /start the node with "koinon up --bittorrent".*NODE_BITTORRENT_OFF/s)

  const pulled = await there('pull', model.id.slice(0, 8), '--layers', '2-5')
  assert.match(pulled.stdout, /Model of chance: layers 2-5 are here\./)
  assert.match(pulled.stdout, /Wasted +\S+ \S+ \(\d/)
  assert.match(pulled.stderr, /--model [0-9a-f]{8} --layers 2-5/)
  const partly = await there('models', 'show', 'Model of chance')
  assert.match(partly.stdout, /layers 2-5, no edges/)
  assert.match((await there('models')).stdout, /Model of chance +[0-9a-f]{8} .*2-5/)
  assert.match((await there('pull', 'Model of chance')).stdout, /all of it is here\./)
  assertHasAll(puller.ready.dataDir, model)

  const shown = await there('models', 'show', model.id)
  assert.match(shown.stdout, /Licence +CC0-1\.0/)
  assert.match(shown.stdout, /Benchmarks +Nothing 1\.5 %/)
  assert.match(shown.stdout, /Test vector +yes/)
  assert.match(shown.stdout, new RegExp(`Signed by +…${seeder.ready.peer.slice(-8)}`))
  assert.match((await there('models', 'verify', model.id)).stdout, /are as they should be/)

  const voted = await here('models', 'vote', model.id, '--trust', '--comment', 'same answers')
  assert.match(voted.stdout, /You said that you trust Model of chance\. So far 1 trusts it, 0 do not\./)
  await until(async () => ((await puller.client.weights.details(model.id)).votes.length > 0 ? true : undefined), {
    what: 'the vote at the other node',
    timeoutMs: 20_000,
  })
  assert.match((await there('models', 'show', model.id)).stdout, /\+ …\S+ \d{4}-\d\d-\d\d same answers/)

  assert.match((await there('models', 'rm', model.id, '--yes')).stdout, /is forgotten/)
  assert.ok(!existsSync(blobPath(puller.ready.dataDir, model)))
  assert.match((await here('models', 'rm', model.id, '--yes')).stdout, /is where it was/)
  assert.ok(existsSync(model.file))
  const gone = await koinon(['models', 'show', model.id, '--data-dir', puller.ready.dataDir])
  assert.equal(gone.code, 1)
  assert.match(gone.stderr, /NODE_MODEL_UNKNOWN/)
})
