import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, silentLogger } from '#base'
import type { PeerPath } from '../types.ts'
import { HOLDS_MAX, IDLE_LIMIT_MS, LISTENERS_MAX, SWEEP_PERIOD_MS } from '../limits.ts'
import { CLOSE_CODE_IDLE, type ConnectionEvent, Connections, type Living } from './connections.ts'
import { checkSettings } from '../settings.ts'

const DIRECT: PeerPath = { kind: 'direct', transport: 'tcp' }

/** Connections of a table without a floor, and what was said to each at its end. */
function setUp(peersFloor = 0) {
  const clock = new ManualClock()
  const open = new Set<TestConnection>()
  const connections: Connections<TestConnection> = new Connections<TestConnection>(
    {
      clock,
      log: silentLogger,
      peerCount: () => new Set([...open].map(({ peer }) => peer)).size,
      isPreferred: connection => [...open].find(({ peer }) => peer === connection.peer) === connection,
    },
    checkSettings({ peersFloor }),
  )
  const events: ConnectionEvent[] = []
  connections.onConnection(event => events.push(event))
  const connect = (peer: string, path = DIRECT): TestConnection => {
    const connection = new TestConnection(peer, path, code => {
      open.delete(connection)
      connections.closed(connection, code)
    })
    open.add(connection)
    connections.opened(connection)
    connections.joined(connection)
    return connection
  }
  const stop = new AbortController()
  void connections.run({ signal: stop.signal })
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += SWEEP_PERIOD_MS) {
      clock.advance(SWEEP_PERIOD_MS)
      await new Promise(resolve => setImmediate(resolve))
    }
  }
  return { clock, connections, events, connect, pass, open }
}

class TestConnection implements Living {
  readonly direction = 'outbound'
  readonly rttMs = undefined
  readonly traffic = { bytesIn: 0, bytesOut: 0 }
  readonly peer: string
  readonly path: PeerPath
  streams = { plane: 0, libp2p: 0 }
  readonly #retire: (code: number) => void

  constructor(peer: string, path: PeerPath, retire: (code: number) => void) {
    this.peer = peer
    this.path = path
    this.#retire = retire
  }

  retire(code: number): void {
    this.#retire(code)
  }
}

const statesOf = (events: readonly ConnectionEvent[]): string[] => events.map(({ state }) => state)

describe('net / life of connections', () => {
  it('goes from connecting to closed with an event at each step, on direct and relayed paths alike', async () => {
    for (const path of [DIRECT, { kind: 'relayed', transport: 'tcp', via: 'r' } as const]) {
      const { connect, events, pass } = setUp()
      connect('p', path)
      await pass(IDLE_LIMIT_MS)
      assert.deepEqual(statesOf(events), ['connecting', 'connected', 'idle', 'stale', 'closed'])
      assert.deepEqual(events.at(-1), { peer: 'p', path, state: 'closed', before: 'stale', code: CLOSE_CODE_IDLE })
      assert.equal(CLOSE_CODE_IDLE, 0x100)
    }
  })

  it('is of use while a stream is open, over the data plane or not, and again when something is said', async () => {
    const { connections, connect, events, pass } = setUp()
    const [plane, libp2p, quiet] = [connect('a'), connect('b'), connect('c')]
    plane.streams = { plane: 1, libp2p: 0 }
    libp2p.streams = { plane: 0, libp2p: 1 }
    for (let i = 0; i < 3; i++) {
      await pass(IDLE_LIMIT_MS - SWEEP_PERIOD_MS)
      assert.equal(connections.stateOf(quiet), 'idle')
      connections.used(quiet)
      assert.equal(connections.stateOf(quiet), 'connected')
    }
    assert.deepEqual(
      [plane, libp2p].map(one => connections.stateOf(one)),
      ['connected', 'connected'],
    )
    libp2p.streams = { plane: 0, libp2p: 0 }
    await pass(IDLE_LIMIT_MS)
    assert.deepEqual(
      [plane, libp2p, quiet].map(one => connections.stateOf(one)),
      ['connected', 'closed', 'closed'],
    )
    assert.equal(statesOf(events).filter(state => state === 'stale').length, 2)
  })

  it('does not end while somebody holds the peer, and ends soon after the last hold', async () => {
    const { connections, connect, pass } = setUp()
    const connection = connect('p')
    const releases = [connections.hold('p', 'stage'), connections.hold('p', 'stage'), connections.hold('p', 'relay')]
    await pass(3 * IDLE_LIMIT_MS)
    assert.equal(connections.stateOf(connection), 'idle')
    assert.deepEqual(connections.holdsOf('p'), ['stage', 'relay'])
    releases[0]?.()
    releases[0]?.()
    releases[2]?.()
    await pass(SWEEP_PERIOD_MS)
    assert.deepEqual([connections.stateOf(connection), connections.holdsOf('p')], ['idle', ['stage']])
    releases[1]?.()
    await pass(SWEEP_PERIOD_MS)
    assert.equal(connections.stateOf(connection), 'closed')
  })

  it('leaves a small swarm as it is, and of a large one closes the longest idle down to the floor', async () => {
    const { connect, pass, open, clock } = setUp(4)
    for (let i = 0; i < 4; i++) connect(`p${i}`)
    await pass(10 * IDLE_LIMIT_MS)
    assert.equal(open.size, 4)
    clock.advance(1)
    for (let i = 4; i < 7; i++) connect(`p${i}`)
    await pass(IDLE_LIMIT_MS)
    assert.deepEqual(
      [...open].map(({ peer }) => peer),
      ['p3', 'p4', 'p5', 'p6'],
    )
  })

  it('closes a second connection of a peer that is held when nobody uses it', async () => {
    const { connections, connect, pass, open } = setUp(32)
    connections.hold('p', 'kept')
    const [first, second] = [connect('p'), connect('p', { kind: 'relayed', transport: 'tcp', via: 'r' })]
    await pass(IDLE_LIMIT_MS)
    assert.deepEqual([open.has(first), open.has(second)], [true, false])
  })

  it('bounds holds and listeners', () => {
    const { connections } = setUp()
    for (let i = 0; i < HOLDS_MAX; i++) connections.hold(`p${i}`, 'stage')
    const release = connections.hold('late', 'stage')
    assert.deepEqual(connections.holdsOf('late'), [])
    release()
    for (let i = 1; i < LISTENERS_MAX; i++) connections.onConnection(() => undefined)
    assert.throws(() => connections.onConnection(() => undefined), /as many listen/)
  })

  it('tells of age, idle time and holds', () => {
    const { clock, connections, connect } = setUp()
    clock.advance(7)
    const connection = connect('p')
    connections.hold('p', 'kept')
    clock.advance(100)
    connections.used(connection)
    clock.advance(30)
    const [facts] = connections.facts()
    assert.deepEqual([facts?.ageMs, facts?.idleMs, facts?.holds, facts?.state], [130, 30, ['kept'], 'connected'])
  })

  it('takes settings in their ranges only', () => {
    assert.throws(() => checkSettings({ idleLimitMs: 1 }), { code: 'NET_SETTINGS_INVALID' })
    assert.throws(() => checkSettings({ pingFailuresMax: 0 }), { code: 'NET_SETTINGS_INVALID' })
    assert.throws(() => checkSettings({ pingTimeoutMs: 16_000 }), /"pingTimeoutMs" is at most/)
    assert.throws(() => checkSettings({ breakerWaitMsMin: 60_000 }), { code: 'NET_SETTINGS_INVALID' })
    assert.equal(checkSettings({ sweepPeriodMs: 5_000 }).sweepPeriodMs, 5_000)
  })
})
