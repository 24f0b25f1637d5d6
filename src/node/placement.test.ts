import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import type { Peer, PeerEvent } from '#net'
import type { NodeOffer, StageOffer } from '#wire'
import { NodeError } from './errors.ts'
import { PLACEMENT_WAIT_MS_MAX, SWARM_QUIET_MS } from './limits.ts'
import { PeerWatch } from './peer-watch.ts'
import { type Choice, chooseLayers } from './placement.ts'
import { SwarmView } from './swarm-view.ts'
import type { LayerChoice } from './types.ts'

const MODEL = 'a'.repeat(64)
const LAYERS = 6

const stageOffer = (first: number, last: number): StageOffer => ({
  model: MODEL,
  name: 'm',
  architecture: 'llama',
  layers: { first, last },
  layerCount: LAYERS,
  width: 8,
  contextMax: 512,
  slots: 4,
  slotsFree: 4,
  profile: 'p',
  stepMs: 1,
})

const PROTOCOL: Peer['protocol'] = {
  version: 1,
  suite: 'test',
  session: 'test',
  resumptions: 0,
  rekeys: 0,
  capabilities: [],
  agent: 'test',
  key: 'test',
  clockOffsetMs: 0,
}

const offer = (placing: boolean, stages: readonly StageOffer[] = [], memoryBytes = 1000): NodeOffer => ({
  agent: 'koinon/test',
  addresses: [],
  memoryBytes,
  kvPositions: 1,
  threads: 1,
  weightBytesPerSecond: 1000,
  ...(placing ? { placing: MODEL } : {}),
  stages: [...stages],
})

/** One node of a pretended swarm: the peers that it sees are moved by hand. */
class Seat {
  readonly clock = new ManualClock()
  readonly id: string
  own: NodeOffer
  readonly #peers = new Map<string, Peer>()
  #listener: (event: PeerEvent) => void = () => undefined
  readonly watch: PeerWatch
  readonly progress: string[] = []
  isSomebodyComing = false

  constructor(id: string, own: NodeOffer) {
    this.id = id
    this.own = own
    const onPeer = (listener: (event: PeerEvent) => void): (() => void) => {
      this.#listener = listener
      return () => undefined
    }
    this.watch = new PeerWatch(this.clock, { onPeer, isSomebodyComing: () => this.isSomebodyComing })
  }

  see(id: string, theirs: NodeOffer): void {
    const streams = { plane: 0, libp2p: 0 }
    const path = { kind: 'direct', transport: 'tcp' } as const
    const facts = { id, addresses: [], direction: 'inbound', path, connectedAt: 0 } as const
    const life = { state: 'connected', holds: [], pingFailures: 0, traffic: { bytesIn: 0, bytesOut: 0 } } as const
    const peer: Peer = { ...facts, ...life, offer: theirs, streams, protocol: PROTOCOL }
    this.#peers.set(id, peer)
    this.#listener({ kind: 'joined', peer })
  }

  choose(choice: LayerChoice, signal = new AbortController().signal): Promise<Choice> {
    const host = { id: this.id, peers: () => [...this.#peers.values()], addresses: () => [] }
    return chooseLayers(
      {
        model: {
          id: MODEL,
          plan: { layers: Array.from({ length: LAYERS }, () => ({ weightBytes: 10, kvBytesPerPosition: 1 })) },
        },
        self: this.id,
        ownOffer: () => this.own,
        view: new SwarmView({ host, ownOffer: () => this.own, routes: () => [] }),
        watch: this.watch,
        dialled: Promise.resolve(),
        onProgress: (phase, { done, total }) => this.progress.push(`${phase} ${done}/${total}`),
      },
      choice,
      { signal },
    )
  }
}

const auto = (nodes: number): LayerChoice => ({ kind: 'auto', nodes })

/** Lets promises that are settled run their continuations. */
const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

test('nodes that wait for each other agree on shares that cover the model, in whatever order they meet', async () => {
  const seats = ['c', 'a', 'b'].map(id => new Seat(id, offer(true)))
  const choices = seats.map(seat => seat.choose(auto(3)))
  for (const [i, seat] of seats.entries()) {
    for (const other of i % 2 === 0 ? seats : seats.toReversed()) if (other !== seat) seat.see(other.id, other.own)
  }
  const layers = (await Promise.all(choices)).map(choice => choice.layers)
  assert.deepEqual(layers, [
    { first: 4, last: 6 },
    { first: 0, last: 2 },
    { first: 2, last: 4 },
  ])
  assert.deepEqual(seats[0]?.progress, ['waiting for nodes 1/3', 'waiting for nodes 2/3', 'waiting for nodes 3/3'])
})

test('a node that hears last of a peer that is already loaded still takes its own share', async () => {
  const seat = new Seat('b', offer(true))
  const choice = seat.choose(auto(2))
  seat.see('a', offer(true, [stageOffer(0, 3)]))
  assert.deepEqual((await choice).layers, { first: 3, last: 6 })
})

test("a restarted node takes what is missing where the others did not share by today's plan", async () => {
  const seat = new Seat('b', offer(true))
  const choice = seat.choose(auto(2))
  seat.see('a', offer(true, [stageOffer(0, 5)]))
  assert.deepEqual((await choice).layers, { first: 5, last: 6 })
})

test('a node that is one too many doubles what the others serve', async () => {
  const seat = new Seat('b', offer(true))
  seat.see('a', offer(true, [stageOffer(0, 3)]))
  seat.see('c', offer(true, [stageOffer(3, 6)]))
  const { layers, text } = await seat.choose(auto(2))
  assert.deepEqual(layers, { first: 0, last: 6 })
  assert.match(text, /second copy/)
})

test('peers of another model are not waited for, and the wait is bounded', async () => {
  const seat = new Seat('a', offer(true))
  const choice = seat.choose(auto(2))
  seat.see('b', { ...offer(false), placing: 'b'.repeat(64) })
  seat.clock.advance(PLACEMENT_WAIT_MS_MAX)
  await assert.rejects(choice, (error: unknown) => {
    assert.ok(error instanceof NodeError)
    assert.deepEqual(error.fault, { code: 'NODE_PLACEMENT_TIMEOUT', nodes: 2, known: 1 })
    return true
  })
})

test('giving up while waiting passes the reason on', async () => {
  const controller = new AbortController()
  const choice = new Seat('a', offer(true)).choose(auto(2), controller.signal)
  controller.abort(new Error('Ctrl-C'))
  await assert.rejects(choice, /Ctrl-C/)
})

test('a joining node waits until the swarm is quiet, then takes the gap', async () => {
  const seat = new Seat('z', offer(false))
  const choice = seat.choose(auto(1))
  await turn()
  seat.see('a', offer(false, [stageOffer(0, 2)]))
  seat.clock.advance(SWARM_QUIET_MS - 1)
  seat.see('b', offer(false, [stageOffer(2, 3)]))
  seat.clock.advance(SWARM_QUIET_MS)
  assert.deepEqual((await choice).layers, { first: 3, last: 6 })
})

test('a quiet moment while somebody is just coming is not the end of the coming', async () => {
  const seat = new Seat('z', offer(false))
  const choice = seat.choose(auto(1))
  await turn()
  seat.isSomebodyComing = true
  seat.clock.advance(3 * SWARM_QUIET_MS)
  seat.isSomebodyComing = false
  seat.see('a', offer(false, [stageOffer(0, 3)]))
  seat.clock.advance(SWARM_QUIET_MS)
  assert.deepEqual((await choice).layers, { first: 3, last: 6 })
})

test('a range is taken as asked, and refused where it is not in the model or in memory', async () => {
  const range = (first: number, last: number): LayerChoice => ({ kind: 'range', layers: { first, last } })
  const seat = new Seat('a', offer(false, [], 33))
  assert.deepEqual((await seat.choose(range(1, 4))).layers, { first: 1, last: 4 })
  await assert.rejects(seat.choose(range(4, 7)), { code: 'NODE_LAYERS_UNKNOWN' })
  await assert.rejects(seat.choose(range(0, 4)), (error: unknown) => {
    assert.ok(error instanceof NodeError)
    assert.deepEqual(error.fault, { code: 'NODE_DOES_NOT_FIT', missingBytes: 11 })
    return true
  })
  assert.equal((await seat.choose({ kind: 'none' })).layers, undefined)
})

test('machines that are too small together are told what is missing', async () => {
  const seat = new Seat('a', offer(true, [], 22))
  seat.see('b', offer(true, [], 22))
  await assert.rejects(seat.choose(auto(2)), { code: 'NODE_DOES_NOT_FIT', message: /22 B more/ })
})
