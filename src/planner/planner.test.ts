import assert from 'node:assert/strict'
import { test } from 'node:test'
import { layersIn } from '#base'
import { array, integer, nat, property, record, assert as assertProperty, tuple } from 'fast-check'
import {
  describePlanFault,
  estimateTokensPerSecond,
  findRoute,
  isPlanFault,
  type PlacedStage,
  type Placement,
  type PlanFault,
  type PlanModel,
  type PlanNode,
  placeLayers,
  placeMissing,
  ROUTE_RTT_UNKNOWN_MS,
  type Route,
  type RouteOffer,
  uncoveredLayers,
} from './index.ts'

const model = (...weights: number[]): PlanModel => ({
  layers: weights.map(weightBytes => ({ weightBytes, kvBytesPerPosition: 1 })),
})
const node = (id: string, memoryBytes: number, weightBytesPerSecond = 1000): PlanNode => ({
  id,
  memoryBytes,
  kvPositions: 1,
  weightBytesPerSecond,
})

function must<T extends object>(result: T | PlanFault): T {
  assert.ok(!isPlanFault(result), isPlanFault(result) ? describePlanFault(result) : '')
  return result
}

const models = array(
  record({ weightBytes: integer({ min: 1, max: 9 }), kvBytesPerPosition: integer({ min: 0, max: 3 }) }),
  {
    minLength: 1,
    maxLength: 7,
  },
).map(layers => ({ layers }))
const machines = array(
  record({
    memoryBytes: integer({ min: 0, max: 40 }),
    kvPositions: integer({ min: 0, max: 2 }),
    weightBytesPerSecond: integer({ min: 0, max: 9 }),
  }),
  {
    minLength: 1,
    maxLength: 4,
  },
).map(list => list.map((machine, i) => ({ ...machine, id: `n${i}` })))

/** Every way to cut the layers into one (possibly empty) range per node, in order. */
function everyPlan(plan: PlanModel, nodes: readonly PlanNode[]): { unused: number; slowest: number; sum: number }[] {
  const found: { unused: number; slowest: number; sum: number }[] = []
  const visit = (n: number, first: number, times: readonly number[]): void => {
    const machine = nodes[n]
    if (machine === undefined) {
      if (first === plan.layers.length) {
        const busy = times.filter(ms => ms > 0)
        found.push({
          unused: times.length - busy.length,
          slowest: Math.max(...busy),
          sum: busy.reduce((a, b) => a + b, 0),
        })
      }
      return
    }
    for (let last = first; last <= plan.layers.length; last++) {
      const part = plan.layers.slice(first, last)
      const bytes = part.reduce(
        (sum, layer) => sum + layer.weightBytes + layer.kvBytesPerPosition * machine.kvPositions,
        0,
      )
      const weight = part.reduce((sum, layer) => sum + layer.weightBytes, 0)
      if (bytes <= machine.memoryBytes || part.length === 0) {
        visit(n + 1, last, [...times, (weight / Math.max(1, machine.weightBytesPerSecond)) * 1000])
      }
    }
  }
  visit(0, 0, [])
  return found
}

test('placement is as good as the best of all possible ones, and says so exactly where there is none', () => {
  assertProperty(
    property(models, machines, (plan, nodes) => {
      const result = placeLayers(plan, nodes)
      const every = everyPlan(plan, nodes)
      if (isPlanFault(result)) {
        assert.equal(every.length, 0)
        assert.equal(result.code, 'PLAN_DOES_NOT_FIT')
        return
      }
      const best = every.sort((a, b) => a.unused - b.unused || a.slowest - b.slowest || a.sum - b.sum)[0]
      assert.equal(result.unused.length, best?.unused)
      assert.ok(Math.abs(Math.max(...result.stages.map(s => s.stepMs)) - (best?.slowest ?? 0)) < 1e-6)
      assert.ok(Math.abs(result.stages.reduce((sum, s) => sum + s.stepMs, 0) - (best?.sum ?? 0)) < 1e-6)
    }),
  )
})

test('a placement covers every layer once, within memory, whatever order the nodes come in', () => {
  assertProperty(
    property(models, machines, (plan, nodes) => {
      const result = placeLayers(plan, nodes)
      assert.deepEqual(placeLayers(plan, nodes.toReversed()), result)
      if (isPlanFault(result)) return
      let next = 0
      for (const stage of result.stages) {
        assert.equal(stage.layers.first, next)
        assert.ok(layersIn(stage.layers) > 0)
        const memory = nodes.find(n => n.id === stage.id)?.memoryBytes ?? 0
        assert.ok(stage.weightBytes + stage.kvBytes <= memory)
        next = stage.layers.last
      }
      assert.equal(next, plan.layers.length)
      assert.equal(result.stages.length + result.unused.length, nodes.length)
    }),
  )
})

test('all nodes share the layers where there are enough layers, even where one could hold them all', () => {
  const result = must<Placement>(
    placeLayers(
      model(10, 10, 10, 10, 10, 10, 10, 10),
      ['c', 'a', 'b'].map(id => node(id, 1000)),
    ),
  )
  assert.deepEqual(
    result.stages.map(s => [s.id, layersIn(s.layers)]),
    [
      ['a', 2],
      ['b', 3],
      ['c', 3],
    ],
  )
})

test('a fast node takes more layers than a slow one', () => {
  const result = must<Placement>(placeLayers(model(1, 1, 1, 1, 1, 1), [node('a', 100, 1000), node('b', 100, 5000)]))
  assert.deepEqual(
    result.stages.map(s => layersIn(s.layers)),
    [1, 5],
  )
})

test('a node without room gets nothing and the others carry the model', () => {
  const result = must<Placement>(placeLayers(model(5, 5), [node('a', 2), node('b', 100)]))
  assert.deepEqual(result.unused, ['a'])
  assert.deepEqual(result.stages[0]?.layers, { first: 0, last: 2 })
})

test('a model that does not fit is refused with the missing bytes', () => {
  const result = placeLayers(model(10, 10, 10), [node('a', 11), node('b', 11)])
  assert.deepEqual(result, { code: 'PLAN_DOES_NOT_FIT', missingBytes: 11, layers: { first: 2, last: 3 } })
  assert.match(isPlanFault(result) ? describePlanFault(result) : '', /layers 2-3 need 11 B more/)
})

test('a plan beyond the bounds is refused', () => {
  const result = placeLayers({ layers: [] }, [node('a', 1)])
  assert.equal(isPlanFault(result) && result.code, 'PLAN_TOO_LARGE')
})

test('a new node takes the first gap, as much of it as fits', () => {
  const served = [{ layers: { first: 0, last: 2 }, stepMs: 1 }]
  const stage = must<PlacedStage>(placeMissing(model(5, 5, 5, 5, 5, 5), served, node('x', 18)))
  assert.deepEqual(stage.layers, { first: 2, last: 5 })
})

test('a gap whose first layer does not fit is passed over for one that does', () => {
  const served = [{ layers: { first: 1, last: 2 }, stepMs: 1 }]
  const stage = must<PlacedStage>(placeMissing(model(50, 5, 5), served, node('x', 10)))
  assert.deepEqual(stage.layers, { first: 2, last: 3 })
})

test('where nothing is missing, the layers that the fewest and slowest nodes serve are doubled', () => {
  const served = [
    { layers: { first: 0, last: 2 }, stepMs: 2 },
    { layers: { first: 0, last: 2 }, stepMs: 9 },
    { layers: { first: 2, last: 3 }, stepMs: 1 },
    { layers: { first: 3, last: 4 }, stepMs: 1 },
    { layers: { first: 3, last: 4 }, stepMs: 1 },
    { layers: { first: 4, last: 6 }, stepMs: 4 },
  ]
  const stage = must<PlacedStage>(placeMissing(model(5, 5, 5, 5, 5, 5), served, node('x', 100)))
  assert.deepEqual(stage.layers, { first: 4, last: 6 })
})

test('a node too small for any missing layer is told how many bytes it lacks', () => {
  const result = placeMissing(model(50), [], node('x', 10))
  assert.deepEqual(result, { code: 'PLAN_DOES_NOT_FIT', missingBytes: 41, layers: { first: 0, last: 1 } })
})

const MODEL = 'a'.repeat(64)

type Sketch = {
  first: number
  last: number
  stepMs?: number
  rttMs?: number
  free?: number
  self?: boolean
  context?: number
}

function offer(peer: string, sketch: Sketch, layerCount = 8): RouteOffer {
  const { first, last, stepMs = last - first, rttMs, free = 4, self = false, context = 512 } = sketch
  return {
    peer,
    addresses: [],
    isSelf: self,
    ...(rttMs === undefined ? {} : { rttMs }),
    stage: {
      model: MODEL,
      layers: { first, last },
      layerCount,
      contextMax: context,
      slots: 4,
      slotsFree: free,
      profile: 'p',
      stepMs,
    },
  }
}

const hops = (route: Route | PlanFault): string[] =>
  must<Route>(route).hops.map(hop => `${hop.peer} ${hop.layers.first}-${hop.layers.last}`)

const query = { model: MODEL, layerCount: 8 }

const offersOf = array(tuple(nat(7), integer({ min: 1, max: 8 }), integer({ min: 1, max: 20 }), nat(30)), {
  minLength: 1,
  maxLength: 6,
}).map(list =>
  list.map(([first, length, stepMs, rttMs], i) =>
    offer(`p${i}`, { first, last: Math.min(8, first + length), stepMs, rttMs }),
  ),
)

/** The least cost of all routes, by trying every one with a cut at any layer. */
function leastCost(offers: readonly RouteOffer[]): number {
  let least = Number.POSITIVE_INFINITY
  type Partial = { from: number; used: readonly string[]; costMs: number; rttMs: number }
  const visit = ({ from, used, costMs, rttMs }: Partial): void => {
    if (from === 8) {
      least = Math.min(least, costMs + rttMs / 2 + (rttMs === 0 ? 0 : 0.3))
      return
    }
    for (const { peer, stage, rttMs: next = 0 } of offers) {
      if (used.includes(peer) || from < stage.layers.first) continue
      for (let last = from + 1; last <= stage.layers.last; last++) {
        const handOff = Math.max(rttMs, next) / 2 + (rttMs === 0 && next === 0 ? 0 : 0.3)
        const computeMs = (stage.stepMs * (last - from)) / layersIn(stage.layers)
        visit({ from: last, used: [...used, peer], costMs: costMs + handOff + computeMs, rttMs: next })
      }
    }
  }
  visit({ from: 0, used: [], costMs: 0, rttMs: 0 })
  return least
}

test('a route is the cheapest of all, covers each layer once and uses no peer twice', () => {
  assertProperty(
    property(offersOf, list => {
      const offers = list.map(o => ({ ...o, stage: { ...o.stage, slotsFree: o.stage.slots } }))
      const route = findRoute(offers, query)
      const least = leastCost(offers)
      if (isPlanFault(route)) {
        assert.equal(least, Number.POSITIVE_INFINITY)
        return
      }
      assert.ok(Math.abs(route.costMs - least) < 1e-6, `${route.costMs} is not ${least}`)
      let next = 0
      for (const hop of route.hops) {
        assert.equal(hop.layers.first, next)
        next = hop.layers.last
      }
      assert.equal(next, 8)
      assert.equal(new Set(route.hops.map(hop => hop.peer)).size, route.hops.length)
      assert.deepEqual(findRoute(offers.toReversed(), query), route)
    }),
  )
})

test('a route takes part of a stage where another one is faster for the rest', () => {
  const route = findRoute(
    [offer('a', { first: 0, last: 8, stepMs: 80, rttMs: 1 }), offer('b', { first: 3, last: 8, stepMs: 5, rttMs: 1 })],
    query,
  )
  assert.deepEqual(hops(route), ['a 0-3', 'b 3-8'])
})

test('this node is preferred over an equal peer that must be reached', () => {
  const route = findRoute(
    [offer('a', { first: 0, last: 8, rttMs: 4 }), offer('z', { first: 0, last: 8, self: true })],
    query,
  )
  assert.deepEqual(hops(route), ['z 0-8'])
})

test('a peer without a free slot is the last resort, not a dead end', () => {
  const busy = offer('a', { first: 0, last: 8, stepMs: 1, rttMs: 1, free: 0 })
  const slow = offer('b', { first: 0, last: 8, stepMs: 90, rttMs: 9 })
  assert.deepEqual(hops(findRoute([busy, slow], query)), ['b 0-8'])
  assert.deepEqual(hops(findRoute([busy], query)), ['a 0-8'])
})

test('of equal peers requests go to the one that has fewer, before it says so itself', () => {
  const peers = ['a', 'b', 'c'].map((peer, i) => offer(peer, { first: 0, last: 8, rttMs: 2 + i / 10 }))
  const inFlight = new Map<string, number>()
  for (let request = 0; request < 12; request++) {
    const route = must<Route>(
      findRoute(
        peers.map(o => ({ ...o, inFlight: inFlight.get(o.peer) ?? 0 })),
        query,
      ),
    )
    for (const { peer } of route.hops) inFlight.set(peer, (inFlight.get(peer) ?? 0) + 1)
  }
  assert.deepEqual(Object.fromEntries(inFlight), { a: 4, b: 4, c: 4 })
})

test('of equal peers the nearer one is taken, and none that has gone silent unless there is no other', () => {
  const near = offer('z', { first: 0, last: 8, rttMs: 1 })
  const far = offer('a', { first: 0, last: 8, rttMs: 9 })
  assert.deepEqual(hops(findRoute([far, near], query)), ['z 0-8'])
  const silent = { ...near, isSilent: true }
  assert.deepEqual(hops(findRoute([far, silent], query)), ['a 0-8'])
  assert.deepEqual(hops(findRoute([silent], query)), ['z 0-8'])
})

test('an excluded peer, another model and a context too small are passed over', () => {
  const offers = [
    offer('a', { first: 0, last: 8, rttMs: 1 }),
    offer('b', { first: 0, last: 8, rttMs: 9, context: 4096 }),
  ]
  assert.deepEqual(hops(findRoute(offers, { ...query, exclude: new Set(['a']) })), ['b 0-8'])
  assert.deepEqual(hops(findRoute(offers, { ...query, positions: 600 })), ['b 0-8'])
  assert.ok(isPlanFault(findRoute(offers, { ...query, model: 'b'.repeat(64) })))
})

test('a missing route names the layers that nobody serves', () => {
  const fault = findRoute([offer('a', { first: 1, last: 3 }), offer('b', { first: 5, last: 8 })], query)
  assert.deepEqual(fault, {
    code: 'PLAN_NO_ROUTE',
    uncovered: [
      { first: 0, last: 1 },
      { first: 3, last: 5 },
    ],
  })
  assert.match(isPlanFault(fault) ? describePlanFault(fault) : '', /nobody serves layers 0-1, 3-5/)
})

test('uncovered layers are what no range holds', () => {
  assert.deepEqual(uncoveredLayers(4, []), [{ first: 0, last: 4 }])
  assert.deepEqual(uncoveredLayers(4, [{ first: 0, last: 4 }]), [])
})

test('fifty peers with ranges of every kind are routed within a bounded search', () => {
  const offers = Array.from({ length: 50 }, (_, i) =>
    offer(`p${i}`, { first: i, last: Math.min(100, i + 51), rttMs: i % 7, stepMs: 10 + (i % 11) }, 100),
  )
  const route = must<Route>(findRoute(offers, { model: MODEL, layerCount: 100 }))
  assert.equal(route.hops.at(-1)?.layers.last, 100)
})

test('an estimate adds up its terms and names each', () => {
  const { stepMs, tokensPerSecond, why } = estimateTokensPerSecond(
    [
      { peer: 'a', isSelf: true, layers: { first: 0, last: 4 }, computeMs: 3 },
      { peer: 'b', isSelf: false, layers: { first: 4, last: 8 }, computeMs: 4 },
    ],
    1,
  )
  assert.equal(stepMs, 3 + (ROUTE_RTT_UNKNOWN_MS / 2 + 0.3) * 2 + 4 + 1)
  assert.equal(tokensPerSecond, 1000 / stepMs)
  assert.equal(why.length, 6)
  assert.match(why[1] ?? '', /from this node to b \(assumed/)
})
