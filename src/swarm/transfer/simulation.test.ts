/** Both state machines against each other, and against those who do harm, in simulated swarms. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Bitfield } from '#base'
import { fanOut } from '../../../bench/lib/swarm-sim.ts'
import { MIB, runSmallWorld, SwarmWorld } from '../../../test/support/swarm-simulation.ts'
import { BLOCK_BYTES } from '../types.ts'

/** Worlds, and the first seed: set them to look further, or to replay one. */
const WORLDS = Number(process.env['KOINON_SWARM_WORLDS'] ?? 2_000)
const SEED = Number(process.env['KOINON_SWARM_SEED'] ?? 1)

describe(`simulated swarms (seeds from ${SEED})`, () => {
  it(`${WORLDS} small worlds: every download completes, and at every step every promise is kept`, () => {
    for (let seed = SEED; seed < SEED + WORLDS; seed++) runSmallWorld(seed)
  })

  it('a world gives the same for the same seed', () => {
    const [first, second] = [runSmallWorld(SEED + 6), runSmallWorld(SEED + 6)]
    assert.equal(first.world.events.count, second.world.events.count)
    assert.equal(first.world.events.now, second.world.events.now)
  })

  it('one seeder to four leechers takes little longer than to one, and little is wasted', () => {
    const [one, four] = [fanOut(SEED, { leechers: 1, mib: 256 }), fanOut(SEED, { leechers: 4, mib: 256 })]
    assert.ok(four.tookMs / one.tookMs < 1.3, `${four.tookMs / one.tookMs} times`)
    assert.ok(four.waste < 0.02, `${four.waste} wasted`)
    assert.ok(one.tookMs < 13_500, `${one.tookMs} ms: the line of 20 MiB/s is not full`)
  })

  it('who corrupts one block in 100 is banned, everybody else stays, and the download completes with little waste', () => {
    const world = new SwarmWorld(SEED, { pieceCount: 64, pieceBytes: MIB, bytes: 64 * MIB }, () => 5)
    const common = { requestBytesMax: MIB, givesLeaves: true }
    const line = { up: 20 * MIB, down: 200 * MIB }
    world.add({ name: 'seed', line, ...common, has: Bitfield.full(64) })
    const leecher = world.add({ name: 'leecher', line, ...common })
    const bad = world.addAdversary({ name: 'bad', line, behaviour: 'corrupt', badOneIn: 100, ...common })
    for (const other of [world.nodes[0], bad]) if (other !== undefined) world.network.connect(leecher, other)
    world.run(() => leecher.isComplete, 600_000)
    assert.equal(leecher.checks.bans, 1)
    const { wastedBytes } = leecher.download.facts(world.events.now)
    assert.ok(wastedBytes < 0.02 * 64 * MIB + MIB, `${wastedBytes} wasted`)
  })

  for (const mib of [4, 32, 128]) {
    it(`a peer that lets ask and never answers holds ${mib} MiB from two honest seeds up for no longer than a few seconds`, () => {
      for (let seed = SEED; seed < SEED + 20; seed++) {
        const world = new SwarmWorld(seed, { pieceCount: mib, pieceBytes: MIB, bytes: mib * MIB }, () => 5)
        const common = { requestBytesMax: MIB, givesLeaves: true, line: { up: 20 * MIB, down: 200 * MIB } }
        const honest = ['one', 'two'].map(name => world.add({ name, ...common, has: Bitfield.full(mib) }))
        const leecher = world.add({ name: 'leecher', ...common })
        const silent = world.addAdversary({
          name: 'silent',
          behaviour: 'stall',
          badOneIn: 1,
          ...common,
          givesLeaves: false,
        })
        for (const other of [silent, ...honest]) world.network.connect(leecher, other)
        world.run(() => leecher.isComplete, 600_000)
        const fairMs = (mib / 40) * 1_000
        const { now } = world.events
        assert.ok(now < fairMs * 1.2 + 2_500, `seed ${seed}: ${Math.round(now)} ms`)
        const { wastedBytes } = leecher.download.facts(now)
        assert.ok(wastedBytes <= 0.02 * mib * MIB + 256 * 1024, `seed ${seed}: ${wastedBytes} wasted`)
      }
    })
  }

  it('where slots are few, free riders get less than those who give', () => {
    const world = new SwarmWorld(SEED, { pieceCount: 200, pieceBytes: 16 * BLOCK_BYTES, bytes: 50 * MIB }, () => 20)
    const common = { line: { up: MIB, down: 20 * MIB }, requestBytesMax: 16 * BLOCK_BYTES, givesLeaves: true }
    const uploads = { slots: 3, slotsMax: 3 }
    for (let index = 0; index < 10; index++) {
      const isFreeRider = index >= 6
      // Each piece is with two of those who give, and with none of the others.
      const pieces = Array.from({ length: 200 }, (_, piece) => piece)
      const has = Bitfield.of(200, isFreeRider ? [] : pieces.filter(piece => piece % 3 === index % 3))
      world.add({ name: `leecher${index}`, ...common, uploads, isFreeRider, has })
    }
    for (const [index, node] of world.nodes.entries())
      for (const other of world.nodes.slice(0, index)) world.network.connect(node, other)
    const isGiver = (node: (typeof world.nodes)[number]): boolean => node.options.isFreeRider !== true
    world.run(() => world.nodes.filter(isGiver).every(node => node.isComplete), 3_600_000)
    const shareOf = (nodes: typeof world.nodes): number =>
      nodes.reduce((sum, node) => sum + node.store.has.count, 0) / nodes.length / 200
    const riders = shareOf(world.nodes.filter(node => !isGiver(node)))
    assert.ok(riders < 0.5, `free riders have ${riders} when those who give have all, of which they lacked two thirds`)
  })
})
