import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type LayerRange, ManualClock, silentLogger } from '#base'
import type { StageEngine, StageReport } from '#engine'
import { LOADS_WAITING_MAX } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import { OwnStage } from './own-stage.ts'
import { ShardLoader } from './shard-loader.ts'

const report = { profile: 'p', width: 8, layerCount: 8, contextMax: 64, slots: 2, stepMs: 1 } as StageReport
const model = {
  id: 'ab'.repeat(32),
  name: 'm',
  file: '/m.gguf',
  config: { architecture: 'llama' },
  plan: { layers: Array.from({ length: 8 }, () => ({ weightBytes: 10, kvBytesPerPosition: 1 })) },
} as unknown as LocalModel
const signal = new AbortController().signal

/** A stage whose loads end when the test says so. */
function bench(options: { readonly refuses?: (layers: LayerRange) => boolean; readonly state?: string } = {}) {
  const log: string[] = []
  let open = 0
  const gate = { wait: Promise.resolve() }
  const engine = {
    load: async ({ layers }: { readonly layers: LayerRange }) => {
      const name = `${layers.first}-${layers.last}`
      log.push(`load ${name}`)
      await gate.wait
      if (options.refuses?.(layers) === true) throw new Error(`cannot load ${name}`)
      log.push(`loaded ${name}`)
      return report
    },
    status: () => ({ state: options.state ?? 'ready' }),
  } as unknown as StageEngine
  const stage = new OwnStage(engine, model, { slots: 2, contextMax: 64 })
  const placement = { text: 'before' }
  const loader = new ShardLoader({
    clock: new ManualClock(),
    log: silentLogger,
    self: 'me',
    model,
    ownOffer: () => ({
      agent: 'a',
      addresses: [],
      memoryBytes: 1000,
      kvPositions: 1,
      threads: 1,
      weightBytesPerSecond: 1,
      stages: [],
    }),
    stage,
    stages: {
      openCount: () => open,
      evict: async why => {
        log.push(`evict, ${stage.served() === undefined ? 'served nothing' : 'still served'}: ${why}`)
        open = 0
      },
    },
    announce: () => void log.push(`announce ${stage.layers === undefined ? 'nothing' : stage.layers.last}`),
    placement,
    stopping: signal,
  })
  const load = (last: number, force = false, options = { signal }) =>
    loader.load({ layers: { first: 0, last }, force, by: 'owner' }, options)
  return { log, stage, placement, load, gate, setOpen: (count: number) => void (open = count) }
}

test('nothing is served or offered between the layers before and the new ones', async () => {
  const { log, stage, load, placement } = bench()
  await stage.load({ first: 0, last: 2 })
  log.length = 0
  await load(4)
  assert.deepEqual(log, [
    'announce nothing',
    'evict, served nothing: layers 0-4 are being loaded here instead',
    'load 0-4',
    'loaded 0-4',
    'announce 4',
  ])
  assert.equal(placement.text, 'layers 0-4, by LOAD_SHARD of owner')
  // Asked for again there is nothing to do.
  log.length = 0
  await load(4)
  assert.deepEqual(log, [])
})

test('where the new layers cannot be loaded those before come back, and the caller hears why', async () => {
  const { log, stage, load, placement } = bench({ refuses: ({ last }) => last === 5 })
  await stage.load({ first: 0, last: 2 })
  log.length = 0
  await assert.rejects(load(5), { message: 'cannot load 0-5' })
  assert.deepEqual(stage.served()?.layers, { first: 0, last: 2 })
  assert.equal(log.at(-1), 'announce 2')
  assert.equal(placement.text, 'before')
})

test('open generations, layers that do not fit and an engine that restarts are refused with nothing touched', async () => {
  const { log, stage, load, setOpen } = bench()
  await stage.load({ first: 0, last: 2 })
  log.length = 0
  setOpen(3)
  await assert.rejects(load(4), { code: 'NODE_STAGE_IN_USE', fault: { code: 'NODE_STAGE_IN_USE', generations: 3 } })
  await assert.rejects(load(9), { code: 'NODE_LAYERS_UNKNOWN' })
  assert.deepEqual(log, [])
  await load(4, true)
  assert.deepEqual(stage.served()?.layers, { first: 0, last: 4 })
  await assert.rejects(bench({ state: 'restarting' }).load(4), { code: 'NODE_BUSY' })
})

test('loads take turns; those that wait are bounded and may leave', async () => {
  const { log, load, gate } = bench()
  const held = Promise.withResolvers<void>()
  gate.wait = held.promise
  const first = load(1)
  const leaving = new AbortController()
  const left = load(2, false, { signal: leaving.signal })
  const waiting = Array.from({ length: LOADS_WAITING_MAX - 1 }, (_, i) => load(3 + i))
  await assert.rejects(load(8), { code: 'NODE_BUSY' })
  leaving.abort(new Error('left'))
  await assert.rejects(left, { message: 'left' })
  held.resolve()
  await Promise.all([first, ...waiting])
  assert.deepEqual(
    log.filter(line => line.startsWith('load')),
    [1, 3, 4, 5].flatMap(last => [`load 0-${last}`, `loaded 0-${last}`]),
  )
})
