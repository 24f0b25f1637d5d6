/** Nodes that are killed in the middle of a pull, again and again, go on where they were. Slow: every life starts a node. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { seededRandom } from '#base'
import { startSwarm, type SwarmNode, until } from '../../tools/swarm.ts'
import { temporaryDir } from '../support/command.ts'
import { assertHasAll, KEEPER, pull, untilMet, verified, writeWeightsModel } from '../support/weights-nodes.ts'

const SEED = Number(process.env['SEED'] ?? Math.floor(performance.timeOrigin) % 1e6)
/** One node that is killed ten times within half a minute is no flood to the one that it comes back to. */
const PULLERS = 1
const LIVES = 10
const MIB = 2 ** 20
/** What one kill may cost: chosen from runs (0.1 to 0.9 MiB a kill), below the 8 MiB that a channel may have under way. */
const IN_FLIGHT_MAX = 2 * MIB

test(`nodes that are killed ten times while they pull lose no more than was under way (seed ${SEED})`, async t => {
  const random = seededRandom(SEED)
  const model = await writeWeightsModel(t)
  await using swarm = await startSwarm({
    nodes: [{ layers: 'none', args: ['--model', model.file, '--upload-max', '6MiB/s'] }],
    whole: false,
  })
  const [seeder] = swarm.nodes
  assert.ok(seeder)
  const sent = async (): Promise<number> => (await seeder.client.weights.details(model.id)).uploadedBytes
  const heldBy = async (node: SwarmNode): Promise<number> =>
    (await node.client.weights.held()).find(({ id }) => id === model.id)?.heldBytes ?? 0
  const request = { model: model.id }
  /** One life, which is ended after a random part of the model has moved. */
  const live = async (dataDir: string, heldBefore: number, livesLeft: number): Promise<number> => {
    const node = await swarm.add({ ...KEEPER, args: ['--data-dir', dataDir] })
    await untilMet(node, seeder)
    const held = await heldBy(node)
    assert.ok(held >= heldBefore, `${heldBefore} bytes were verified before the kill, ${held} are here after it`)
    // Of what is still missing: whatever came beyond the share of another life is not counted on.
    const share = ((model.bytes.byteLength - held) / (livesLeft + 1)) * (random.uint32() / 2 ** 32)
    const start = await sent()
    const pulling = pull(node, request).catch((error: unknown) => error)
    const hasMoved = async (): Promise<true | undefined> => ((await sent()) >= start + share ? true : undefined)
    const moving = until(hasMoved, { what: `${Math.round(share)} more bytes`, timeoutMs: 60_000 })
    const early = await Promise.race([moving.then(() => undefined), pulling])
    assert.equal(early, undefined, 'it is killed before its pull is over')
    const heldLast = await heldBy(node)
    await node.kill()
    await pulling
    return heldLast
  }
  for (let puller = 0; puller < PULLERS; puller++) {
    const dataDir = join(temporaryDir(t), 'puller')
    const before = await sent()
    let held = 0
    for (let life = 0; life < LIVES; life++) held = await live(dataDir, held, LIVES - life)
    const node = await swarm.add({ ...KEEPER, args: ['--data-dir', dataDir] })
    await untilMet(node, seeder)
    const end = await pull(node, request)
    const lost = (await sent()) - before - model.bytes.byteLength
    const facts = `${lost} bytes were sent again after ${LIVES} kills; the last life had ${end.hadBytes} of ${end.wantedBytes}`
    t.diagnostic(facts)
    assert.ok(end.hadBytes > 0 && lost <= LIVES * IN_FLIGHT_MAX, facts)
    assertHasAll(dataDir, model)
    assert.equal(await verified(node, model.id), model.bytes.byteLength)
    // The next one has the seeder to itself.
    assert.equal(await node.stop(), 0)
  }
})
