import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, silentLogger } from '#base'
import { PATH_RETRY_MS_MAX, PATH_RETRY_MS_MIN, PATH_START_WAIT_MS } from '../limits.ts'
import type { Peer, PeerEvent, PeerPath } from '../types.ts'
import { PathKeeper } from './path-keeper.ts'

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

type Changes = {
  readonly path?: PeerPath['kind']
  readonly direction?: Peer['direction']
  readonly addresses?: string[]
}

/** Of a peer, what the keeper looks at. */
function peerOf(id: string, { path = 'relayed', direction = 'inbound', addresses = [] }: Changes = {}): Peer {
  return { id, direction, path: { kind: path, transport: 'tcp' }, offer: { addresses } } as unknown as Peer
}

function setUp(
  options: {
    readonly servedAt?: () => number
    readonly dials?: () => Promise<void>
    readonly hasRoom?: () => boolean
  } = {},
) {
  const clock = new ManualClock()
  const stopping = new AbortController()
  let listener: (event: PeerEvent) => void = () => undefined
  const dialled: string[] = []
  const punched: { readonly peer: string; readonly atMs: number }[] = []
  const keeper = new PathKeeper({
    clock,
    random: seededRandom(3),
    log: silentLogger,
    onPeer: given => (listener = given),
    addressesOf: peer => peer.offer.addresses,
    dial: peer => {
      dialled.push(peer)
      return options.dials?.() ?? Promise.reject(new Error('nobody there'))
    },
    punch: peer => {
      punched.push({ peer, atMs: clock.monotonic() })
      return Promise.reject(new Error('no way'))
    },
    servedAt: () => options.servedAt?.(),
    hasRoomFor: () => options.hasRoom?.() ?? true,
    stopping: stopping.signal,
  })
  const pass = async (ms: number): Promise<void> => {
    await turn()
    for (let passed = 0; passed < ms; passed += 500) {
      clock.advance(500)
      await turn()
    }
  }
  const say = (kind: PeerEvent['kind'], peer: Peer): void => listener({ kind, peer })
  return { keeper, stopping, dialled, punched, pass, say }
}

describe('net / punch / path keeper', () => {
  it('punches at once where the peer dialled, and leaves the start to the other side where we did', async () => {
    const { punched, pass, say } = setUp()
    say('joined', peerOf('in'))
    say('joined', peerOf('out', { direction: 'outbound' }))
    await pass(0)
    assert.deepEqual(
      punched.map(({ peer }) => peer),
      ['in'],
    )
    await pass(PATH_START_WAIT_MS)
    assert.deepEqual(
      punched.map(({ peer }) => peer),
      ['in', 'out'],
    )
  })

  it('leaves the turn to a peer that takes it', async () => {
    const { punched, pass, say } = setUp({ servedAt: () => 1_000 })
    say('joined', peerOf('out', { direction: 'outbound' }))
    await pass(PATH_START_WAIT_MS)
    assert.equal(punched.length, 0)
    // It takes it no more.
    await pass(2 * PATH_RETRY_MS_MIN)
    assert.equal(punched.length, 1)
  })

  it('tries the addresses of the peer first, and punches only where they lead nowhere', async () => {
    const reached = setUp({ dials: () => Promise.resolve() })
    reached.say('joined', peerOf('p', { addresses: ['/ip4/62.1.1.1/tcp/1'] }))
    await reached.pass(0)
    assert.deepEqual([reached.dialled.length, reached.punched.length], [1, 0])
    const lost = setUp()
    lost.say('joined', peerOf('p', { addresses: ['/ip4/62.1.1.1/tcp/1'] }))
    await lost.pass(0)
    assert.deepEqual([lost.dialled.length, lost.punched.length], [1, 1])
  })

  it('rests twice as long after each failure, up to a bound', async () => {
    const { punched, pass, say } = setUp()
    say('joined', peerOf('p'))
    await pass(8 * PATH_RETRY_MS_MAX)
    const waits = punched.slice(1).map(({ atMs }, index) => atMs - (punched[index]?.atMs ?? 0))
    for (const [index, waitMs] of waits.entries()) {
      const wantedMs = Math.min(PATH_RETRY_MS_MAX, PATH_RETRY_MS_MIN * 2 ** index)
      assert.ok(waitMs >= 0.5 * wantedMs && waitMs <= 1.5 * wantedMs + 500, `${waitMs} of ${wantedMs}`)
    }
    assert.ok(waits.length > 8)
  })

  it('tries again at once where addresses change, theirs or ours, and not where anything else does', async () => {
    const { keeper, punched, pass, say } = setUp()
    say('joined', peerOf('p'))
    await pass(1_000)
    say('changed', peerOf('p'))
    await pass(1_000)
    assert.equal(punched.length, 1)
    say('changed', peerOf('p', { addresses: ['/ip4/62.1.1.1/tcp/1'] }))
    await pass(1_000)
    assert.equal(punched.length, 2)
    keeper.changed()
    await pass(1_000)
    assert.equal(punched.length, 3)
  })

  it('is done with peers that are reached well, or are gone', async () => {
    const { keeper, punched, pass, say } = setUp()
    for (const [kind, path] of [
      ['changed', 'direct'],
      ['changed', 'punched'],
      ['left', 'relayed'],
    ] as const) {
      say('joined', peerOf('p'))
      assert.equal(keeper.size, 1)
      say(kind, peerOf('p', { path }))
      assert.equal(keeper.size, 0)
    }
    say('joined', peerOf('q', { path: 'direct' }))
    const { length } = punched
    await pass(PATH_RETRY_MS_MAX)
    assert.equal(punched.length, length)
  })

  it('goes on looking for something better than ICE', async () => {
    const { punched, pass, say } = setUp()
    say('joined', peerOf('p', { path: 'ice' }))
    await pass(0)
    assert.equal(punched.length, 1)
  })

  it('waits for room', async () => {
    let hasRoom = false
    const { punched, pass, say } = setUp({ hasRoom: () => hasRoom })
    say('joined', peerOf('p'))
    await pass(10_000)
    assert.equal(punched.length, 0)
    hasRoom = true
    await pass(2_000)
    assert.equal(punched.length, 1)
  })

  it('stops with the host', async () => {
    const { keeper, stopping, punched, pass, say } = setUp()
    say('joined', peerOf('p'))
    stopping.abort(new Error('stopped'))
    await pass(0)
    const { length } = punched
    say('joined', peerOf('q'))
    await pass(PATH_RETRY_MS_MAX)
    assert.equal(keeper.size, 0)
    assert.equal(punched.length, length)
  })
})
