import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, silentLogger, systemClock, withDeadline } from '#base'
import { PROTOCOLS } from '#wire'
import { isLoopback, reachDeps, reaches, startReachNode } from '../../test/support/reach-hosts.ts'
import { firstAddress, hasPeers, offerOf, startHost } from '../../test/support/net-hosts.ts'
import { DialBackServer } from './dial-back-server.ts'
import { LOOK_MS, PROOF_LIFE_MS } from './limits.ts'
import { createReach } from './reach.ts'

const isPublic = ({ type }: { readonly type: string }): boolean => type === 'public'

test('three nodes prove each other public by dial-backs, over libp2p and the data plane', async t => {
  const [a, b, c] = [
    await startReachNode(t, '127.1.0.1'),
    await startReachNode(t, '127.2.0.1'),
    await startReachNode(t, '127.3.0.1'),
  ]
  assert.equal(a.reach.mayRelay, false)
  await a.host.connect(firstAddress(b.host))
  await a.host.connect(firstAddress(c.host))
  // Whom nobody sees at its listening address cannot ask: a's calls come from 127.0.0.1.
  await reaches(b, 'b becomes public', isPublic)
  await reaches(c, 'c becomes public', isPublic)
  assert.equal(b.reach.mayRelay, true)
  await reaches(b, 'the data plane of b is proved', reach => reach.status().transports.plane === 'reachable')
  const report = b.reach.status()
  assert.deepEqual(
    { type: report.type, mayRelay: report.mayRelay, tcp: report.transports.tcp, quic: report.transports.quic },
    { type: 'public', mayRelay: true, tcp: 'reachable', quic: 'off' },
  )
  assert.deepEqual(
    report.external.map(({ source, reach }) => [source, reach]),
    [['interface', 'reachable']],
  )
  assert.equal(report.mapping.state, 'not-needed')
})

test('a node that its owner says to be public is, and tells the address', async t => {
  const a = await startReachNode(t, '127.1.0.1', { external: ['/dns4/koinon.example/tcp/4001'] })
  assert.equal(a.reach.type, 'public')
  assert.equal(a.host.addresses()[0], `/dns4/koinon.example/tcp/4001/p2p/${a.host.id}`)
  const b = await startHost(t)
  await b.connect(a.host.listening()[0] ?? '')
  assert.deepEqual(b.peers()[0]?.offer.addresses[0], a.host.addresses()[0])
})

test('an address that names another node is refused at the start', async t => {
  const [a, b] = [await startHost(t), await startHost(t)]
  const external = [firstAddress(b)]
  assert.throws(() => createReach(reachDeps(a), { isUsable: isLoopback, external }).start(), {
    code: 'NET_ADDRESS_INVALID',
  })
})

test('a node at private addresses alone, without a gateway, is a NAT node and says so once', async t => {
  const events: string[] = []
  const host = await startHost(t)
  const reach = createReach(reachDeps(host))
  t.after(() => reach.stop())
  reach.onChange(({ type }) => events.push(type))
  reach.start()
  assert.deepEqual([reach.type, events], ['nat', ['nat']])
  assert.equal(reach.status().isLocalOnly, true)
})

test('a session cannot pass for a dial-back: the stream has to come on a connection of its own', async t => {
  const a = await startReachNode(t, '127.1.0.1')
  const b = await startHost(t, { planePort: 'off' })
  await b.connect(firstAddress(a.host))
  await assert.rejects(async () => {
    const stream = await b.open(a.host.id, PROTOCOLS.reachBack)
    for await (const _ of stream.received) assert.fail('nothing was sent')
  })
})

test('a public node runs a STUN server; others learn from two of them what their NAT is', async t => {
  // The machine does not know its address, so what the servers see must be a NAT's.
  const a = await startReachNode(t, '127.1.0.1', { deps: { localAddresses: () => [] } })
  const others = [await startReachNode(t, '127.2.0.1'), await startReachNode(t, '127.3.0.1')]
  for (const { host } of others) await a.host.connect(firstAddress(host))
  for (const node of others) {
    await reaches(node, 'a node becomes public', ({ stunPort }) => stunPort !== undefined)
    const { stunPort } = node.reach
    node.host.announce({ ...offerOf('of a public node'), ...(stunPort === undefined ? {} : { stunPort }) })
  }
  // With the first server it knows where it is seen; it takes the second to tell the mapping.
  await reaches(a, 'a knows its NAT', reach => reach.status().nat.mapping === 'endpoint-independent')
  const { nat } = a.reach.status()
  assert.deepEqual([nat.kind, nat.mapping, nat.address], ['port-restricted', 'endpoint-independent', '127.0.0.1'])
})

test('another network is another question, a proof ends with its time, and each change is one event', async t => {
  const clock = new ManualClock()
  const helpers = [await startHost(t), await startHost(t)]
  const host = await startHost(t, { listen: ['/ip4/127.1.0.1/tcp/0'] })
  let addresses = ['127.0.0.1']
  const reach = createReach({ ...reachDeps(host, clock), localAddresses: () => addresses }, { isUsable: isLoopback })
  const events: string[] = []
  reach.onChange(({ type, stunPort }) => events.push(`${type} ${stunPort === undefined ? 'alone' : 'serving'}`))
  for (const helper of helpers) {
    const server = new DialBackServer({ clock: systemClock, log: silentLogger, host: helper, isUsable: isLoopback })
    helper.handle(PROTOCOLS.reach, stream => server.serve(stream))
    await helper.connect(firstAddress(host))
  }
  reach.start()
  t.after(() => reach.stop())
  const settle = (what: string, isSo: () => boolean): Promise<void> =>
    withDeadline(systemClock, { what, timeoutMs: 60_000 }, async signal => {
      let at = systemClock.monotonic()
      while (!isSo() && !signal.aborted) {
        await new Promise(resolve => setImmediate(resolve))
        // No faster than real time, and what stood still does not count: what is asked of helpers has deadlines by this clock.
        const now = systemClock.monotonic()
        clock.advance(Math.min(10, now - at))
        at = now
      }
    })
  await settle('it becomes public', () => reach.stunPort !== undefined)
  assert.deepEqual(events.splice(0).slice(0, 2), ['unknown alone', 'public alone'])
  addresses = ['127.0.0.1', '127.0.0.2']
  clock.advance(LOOK_MS)
  assert.equal(reach.type, 'unknown')
  await settle('it becomes public in the other network', () => reach.type === 'public' && reach.stunPort !== undefined)
  for (const helper of helpers) await helper.stop()
  await hasPeers(host, [])
  clock.advance(PROOF_LIFE_MS)
  await new Promise(resolve => setImmediate(resolve))
  clock.advance(LOOK_MS)
  assert.equal(reach.type, 'unknown')
})
