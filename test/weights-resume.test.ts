/** A node whose quota, or disk, is full in the middle of a pull goes on where it was once it has more. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { startSwarm } from '../tools/swarm.ts'
import { temporaryDir } from './support/command.ts'
import { makeSmallDisk, smallDiskMissing } from './support/small-disk.ts'
import {
  assertHasAll,
  KEEPER,
  pull,
  refusedWith,
  untilMet,
  verified,
  writeWeightsModel,
} from './support/weights-nodes.ts'

const MIB = 2 ** 20

test('where the quota is full it is said so, and with a larger one the same pull goes on', async t => {
  const model = await writeWeightsModel(t)
  const dataDir = join(temporaryDir(t), 'puller')
  await using swarm = await startSwarm({
    nodes: [{ layers: 'none', args: ['--model', model.file] }],
    whole: false,
  })
  const small = await swarm.add({ ...KEEPER, args: ['--data-dir', dataDir, '--storage-max', '10MiB'] })
  await untilMet(small, swarm.nodes[0])
  await assert.rejects(pull(small, { model: model.id }), refusedWith('SWARM_DISK_FULL'))
  const held = (await small.client.weights.held()).find(({ id }) => id === model.id)?.heldBytes ?? 0
  assert.ok(held > 0 && held <= 10 * MIB, `${held} bytes are here`)
  assert.equal(await small.stop(), 0)
  const large = await swarm.add({ ...KEEPER, args: ['--data-dir', dataDir, '--storage-max', '100MiB'] })
  await untilMet(large, swarm.nodes[0])
  const end = await pull(large, { model: model.id })
  assert.ok(end.hadBytes >= held && end.receivedBytes <= model.bytes.byteLength - held + 2 * MIB, JSON.stringify(end))
  assertHasAll(dataDir, model)
})

test('where the disk is full it is said so, the node lives on, and with more room the same pull goes on', async t => {
  const missing = smallDiskMissing(t)
  if (missing !== false) {
    t.skip(missing)
    return
  }
  const model = await writeWeightsModel(t)
  const { byteLength } = model.bytes
  const disk = makeSmallDisk(t, { size: byteLength + 24 * MIB, ballast: 32 * MIB })
  await using swarm = await startSwarm({
    nodes: [{ layers: 'none', args: ['--model', model.file] }],
    whole: false,
  })
  const args = ['--data-dir', join(disk.path, 'puller')]
  const inside = await swarm.add({ ...KEEPER, wrapper: disk.wrapper, args })
  const node = disk.from(inside)
  await untilMet(node, swarm.nodes[0])
  const full = {
    ...refusedWith('SWARM_DISK_FULL'),
    message: /the disk or the quota is full: \d+ MiB are still to come; what is here stays/,
  }
  await assert.rejects(pull(node, { model: model.id }), full)
  // Nothing has changed, and nothing of what is here is in the way of the same answer.
  await assert.rejects(pull(node, { model: model.id }), full)
  const held = (await node.client.weights.held()).find(({ id }) => id === model.id)?.heldBytes ?? 0
  assert.ok(held >= 8 * MIB && held < byteLength, `${held} bytes are here`)
  assert.equal(await verified(node, model.id), held)
  assert.equal((await node.client.status()).peer, node.ready.peer)

  disk.makeRoom(inside)
  const end = await pull(node, { model: model.id })
  const facts = `${held} of ${byteLength} bytes were here; then ${JSON.stringify(end)}`
  t.diagnostic(facts)
  assert.ok(end.hadBytes >= held && end.receivedBytes <= byteLength - held + 2 * MIB, facts)
  assertHasAll(node.ready.dataDir, model)
  assert.equal(await verified(node, model.id), byteLength)
  assert.equal(await inside.stop(), 0)
})
