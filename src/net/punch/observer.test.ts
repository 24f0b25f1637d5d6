import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { type ByteStream, createStreamPair, silentLogger, systemClock, systemRandom } from '#base'
import { OBSERVED_PEERS_MAX } from '../limits.ts'
import { locate } from './locate.ts'
import { Observer } from './observer.ts'
import { PunchTalk } from './talk.ts'

const HOST = '127.0.0.1'
const deps = { clock: systemClock, random: systemRandom, log: silentLogger }
const signal = AbortSignal.timeout(20_000)

function observerOf(test: TestContext): Observer {
  const observer = new Observer(deps, { hosts: [HOST], ports: [0, 0] })
  test.after(() => observer.stop())
  return observer
}

/** Opens streams to the observer, as a host would. */
const opener =
  (observer: Observer) =>
  async (peer: string): Promise<ByteStream> => {
    const [near, far] = createStreamPair('test', { a: 'asker', b: peer })
    const talk = new PunchTalk(deps, far)
    void talk
      .next(['observe'])
      .then(() => observer.serve(talk))
      .catch(error => far.abort(error))
    return near
  }

describe('net / punch / observer', () => {
  it('tells where it sees two connections from one port', async t => {
    const observer = observerOf(t)
    const located = await locate({ ...deps, open: opener(observer) }, [{ peer: 'observer', host: HOST }], { signal })
    assert(located !== undefined)
    assert.equal(located.observations.length, 2)
    const [first, second] = located.observations
    assert.notEqual(first?.remote.port, second?.remote.port)
    for (const { localPort, observed } of located.observations) {
      assert.equal(localPort, located.localPort)
      // Nothing translates on loopback.
      assert.deepEqual(observed, { address: HOST, port: located.localPort })
    }
    located.release()
  })

  it('adds one view of another node, and does without one that does not answer', async t => {
    const [observer, other] = [observerOf(t), observerOf(t)]
    const streams = { observer: opener(observer), other: opener(other) }
    const open = (peer: string): Promise<ByteStream> =>
      peer in streams ? streams[peer as keyof typeof streams](peer) : Promise.reject(new Error('gone'))
    const ask = (...peers: string[]) =>
      locate(
        { ...deps, open },
        peers.map(peer => ({ peer, host: HOST })),
        { signal },
      )
    const located = await ask('observer', 'other')
    assert.equal(located?.observations.length, 3)
    located?.release()
    const alone = await ask('gone', 'other')
    assert.equal(alone?.observations.length, 2)
    alone?.release()
    assert.equal(await ask('gone'), undefined)
    assert.equal(await ask(), undefined)
  })

  it('closes who does not say the word, and tells nobody of it', async t => {
    const observer = observerOf(t)
    const [near, far] = createStreamPair('test', { a: 'asker', b: 'observer' })
    const serving = observer.serve(new PunchTalk(deps, far))
    const talk = new PunchTalk(deps, near)
    const { ports, token } = await talk.next(['observing'])
    const [port = 0] = ports
    const stranger = connect({ host: HOST, port })
    stranger.on('error', () => undefined)
    stranger.write(systemRandom.bytes(16))
    await once(stranger, 'close')
    const right = connect({ host: HOST, port })
    // In pieces, as it may come.
    right.write(token.subarray(0, 5))
    right.write(token.subarray(5))
    const seen = await talk.next(['observed'])
    assert.equal(seen.from.port, right.localPort)
    await talk.close()
    await serving
    await once(right.resume(), 'close')
    // The word has had its time.
    const late = connect({ host: HOST, port })
    late.on('error', () => undefined)
    late.write(token)
    await once(late.resume(), 'close')
  })

  it('serves a peer once at a time, and a bounded number of them', async t => {
    const observer = observerOf(t)
    const serve = (peer: string): { readonly near: ByteStream; readonly served: Promise<void> } => {
      const [near, far] = createStreamPair('test', { a: peer, b: 'observer' })
      return { near, served: observer.serve(new PunchTalk(deps, far)) }
    }
    const busy = { fault: { code: 'NET_PUNCH_FAILED', reason: 'busy' } }
    const askers = Array.from({ length: OBSERVED_PEERS_MAX }, (_, index) => serve(`peer ${index}`))
    await assert.rejects(serve('peer 0').served, error => sameReason(error, busy))
    await assert.rejects(serve('one more').served, error => sameReason(error, busy))
    for (const { near } of askers) await near.close()
    await Promise.all(askers.map(({ served }) => served))
    const again = serve('peer 0')
    await again.near.close()
    await again.served
  })
})

function sameReason(
  error: unknown,
  wanted: { readonly fault: { readonly code: string; readonly reason: string } },
): boolean {
  const { fault } = error as typeof wanted
  assert.equal(fault.code, wanted.fault.code)
  assert.equal(fault.reason, wanted.fault.reason)
  return true
}
