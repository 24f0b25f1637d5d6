import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PROTOCOLS } from '#wire'
import { firstAddress, hasPeers, startHost, within } from '../../test/support/net-hosts.ts'
import { EXTERNAL_ADDRESSES_MAX } from './limits.ts'
import type { Host } from './types.ts'

const options = (): { readonly protocol: typeof PROTOCOLS.reachBack; readonly signal: AbortSignal } => ({
  protocol: PROTOCOLS.reachBack,
  signal: new AbortController().signal,
})

/** What comes in as a probe. */
function nextProbe(
  host: Host,
): Promise<{ readonly peer: string; readonly address: string; readonly isPlane: boolean }> {
  const { promise, resolve } = Promise.withResolvers<{ peer: string; address: string; isPlane: boolean }>()
  host.handleProbes(PROTOCOLS.reachBack, async (stream, from) => {
    resolve({ peer: stream.peer, ...from })
    await stream.close()
  })
  return within('a probe', promise)
}

test('both sides of a session learn where the other sees them', async t => {
  const [a, b] = [await startHost(t, { listen: ['/ip4/127.1.0.1/tcp/0'] }), await startHost(t)]
  await b.connect(firstAddress(a))
  await hasPeers(a, [b.id])
  const [ofB, ofA] = [b.peers()[0], a.peers()[0]]
  const listening = firstAddress(a).replace(/\/p2p\/.*$/, '')
  assert.deepEqual([ofB?.remoteAddress, ofA?.observedAddress], [listening, listening])
  assert.match(ofA?.remoteAddress ?? '', /^\/ip4\/127\.0\.0\.1\/tcp\/\d+$/)
  assert.equal(ofB?.observedAddress, ofA?.remoteAddress)
})

test('a probe comes on a connection of its own, beside the session, and leaves it as it is', async t => {
  const [a, b] = [await startHost(t), await startHost(t)]
  await b.connect(firstAddress(a))
  const come = nextProbe(b)
  const probe = await a.probe({ peer: b.id, address: firstAddress(b) }, options())
  const { peer, address, isPlane } = await come
  assert.deepEqual([peer, isPlane], [a.id, false])
  assert.match(address, /^\/ip4\/127\.0\.0\.1\/tcp\/\d+$/)
  for await (const _ of probe.stream.received) assert.fail('nothing was sent')
  await probe.end()
  assert.deepEqual(
    a.peers().map(({ id }) => id),
    [b.id],
  )
})

test('of a data plane too, for which there has to be a session', async t => {
  const [a, b] = [await startHost(t), await startHost(t)]
  const target = { peer: b.id, address: `/ip4/127.0.0.1/tcp/${b.planePort ?? 0}`, isPlane: true }
  await assert.rejects(a.probe(target, options()), { code: 'NET_DIAL_FAILED' })
  await b.connect(firstAddress(a))
  await hasPeers(a, [b.id])
  const come = nextProbe(b)
  const probe = await a.probe(target, options())
  assert.deepEqual([(await come).peer, (await come).isPlane], [a.id, true])
  await probe.end()
})

test('a probe of an address where somebody else answers, or nobody, fails', async t => {
  const [a, b, c] = [await startHost(t), await startHost(t), await startHost(t)]
  c.handleProbes(PROTOCOLS.reachBack, () => assert.fail('somebody else was asked for'))
  const elsewhere = firstAddress(c).replace(/\/p2p\/.*$/, '')
  await assert.rejects(a.probe({ peer: b.id, address: elsewhere }, options()), { code: 'NET_WRONG_PEER' })
  await c.stop()
  await assert.rejects(a.probe({ peer: c.id, address: elsewhere }, options()), { code: 'NET_DIAL_FAILED' })
  await assert.rejects(a.probe({ peer: c.id, address: 'nowhere' }, options()), { code: 'NET_ADDRESS_INVALID' })
})

test('addresses outside go first, with our peer id, each once, and not without a bound', async t => {
  const a = await startHost(t)
  const own = a.listening()
  const many = Array.from({ length: 50 }, (_, at) => `/ip4/62.0.0.1/tcp/${at + 1}`)
  a.setExternalAddresses([...many, ...many])
  assert.equal(a.addresses().length, EXTERNAL_ADDRESSES_MAX + own.length)
  assert.equal(a.addresses()[0], `/ip4/62.0.0.1/tcp/1/p2p/${a.id}`)
  a.setExternalAddresses([])
  assert.deepEqual(a.addresses(), own)
  const other = (await startHost(t)).id
  for (const bad of ['x', '/ip4/62.0.0.1/udp/1', `/ip4/62.0.0.1/tcp/1/p2p/${other}`]) {
    assert.throws(() => a.setExternalAddresses([bad]), { code: 'NET_ADDRESS_INVALID' })
  }
})
