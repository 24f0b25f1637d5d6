/** Two nodes that are connected through a third come to a direct connection, on loopback: by TCP, and by ICE and QUIC. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStreamPair, silentLogger, systemClock, systemRandom } from '#base'
import { createIceAgent, foreseeTcp, openUdp } from '#nat'
import type { Host, Peer, PunchTools } from '#net'
import { PROTOCOLS } from '#wire'
import type { BytePipe } from '../src/net/adopt.ts'
import type { Adoption } from '../src/net/connector.ts'
import { firstAddress, nextEvent, offerOf, startHost, within } from './support/net-hosts.ts'

type Cleaner = { after(action: () => Promise<void>): void }
type Adopting = Host & { adopt(pipe: BytePipe, adoption: Adoption): Promise<void> }

const LOOPBACK = { address: '127.0.0.1', prefixBits: 8 }

const tcpTools: PunchTools = {
  foresee: observations => foreseeTcp(observations, ['127.0.0.1']),
  natKind: () => 'unknown',
  networks: () => [LOOPBACK],
}

const iceTools: PunchTools = {
  ...tcpTools,
  createIce: role =>
    createIceAgent(
      { clock: systemClock, random: systemRandom, log: silentLogger, openUdp },
      { role, hostAddresses: ['127.0.0.1'] },
    ),
}

/** A host that tells of an address which leads nowhere from here, so that nobody dials it. */
async function hidden(test: Cleaner, punch: PunchTools, options: { readonly quic?: boolean } = {}): Promise<Adopting> {
  const listen = ['/ip4/127.0.0.1/tcp/0', ...(options.quic === true ? ['/ip4/127.0.0.1/udp/0/quic-v1'] : [])]
  const offer = { ...offerOf('hidden'), addresses: ['/ip4/10.99.99.99/tcp/4001'] }
  return (await startHost(test, { punch, listen, offer })) as Adopting
}

/** Joins two hosts by bytes that somebody else carries. */
async function relayed(a: Adopting, b: Adopting, via: string): Promise<void> {
  const [pipeA, pipeB] = createStreamPair('test', { a: a.id, b: b.id })
  const path = { kind: 'relayed', transport: 'tcp', via } as const
  const signal = AbortSignal.timeout(20_000)
  await Promise.all([
    a.adopt(pipeA, { peer: b.id, address: `/ip4/192.0.2.2/tcp/4001`, path, direction: 'outbound', signal }),
    b.adopt(pipeB, { peer: a.id, address: `/ip4/192.0.2.1/tcp/4001`, path, direction: 'inbound', signal }),
  ])
}

const comesTo = (host: Host, peer: string, kind: Peer['path']['kind']): Promise<Peer> =>
  nextEvent(host, event => event.peer.id === peer && event.peer.path.kind === kind)

/** Says something over new streams, in both directions. */
async function echoes(from: Host, to: Host): Promise<string> {
  to.handle(PROTOCOLS.stage, async stream => {
    for await (const piece of stream.received) stream.send(piece)
    await stream.close()
  })
  const stream = await from.open(to.id, PROTOCOLS.stage)
  stream.send(new TextEncoder().encode('hello'))
  await stream.close()
  let heard = ''
  for await (const piece of stream.received) heard += new TextDecoder().decode(piece)
  return heard
}

describe('a relayed connection', () => {
  it('becomes a punched one by TCP, where a third node tells both sides where they are seen', async t => {
    const relay = await startHost(t, { punch: tcpTools })
    const [a, b] = [await hidden(t, tcpTools), await hidden(t, tcpTools)]
    for (const host of [a, b]) await host.connect(firstAddress(relay))
    const direct = Promise.all([comesTo(a, b.id, 'punched'), comesTo(b, a.id, 'punched')])
    await relayed(a, b, relay.id)
    const [atA, atB] = await within('a punched connection', direct)
    assert.deepEqual(atA.path, { kind: 'punched', transport: 'tcp' })
    assert.notEqual(atA.direction, atB.direction)
    assert.equal(atA.direction === 'outbound', a.id < b.id)
    assert.equal(await echoes(a, b), 'hello')
  })

  it('becomes one by ICE and QUIC, where nobody tells of TCP', async t => {
    const [a, b] = [await hidden(t, iceTools, { quic: true }), await hidden(t, iceTools, { quic: true })]
    const direct = Promise.all([comesTo(a, b.id, 'ice'), comesTo(b, a.id, 'ice')])
    await relayed(a, b, a.id)
    const [atA, atB] = await within('a connection by ICE', direct)
    assert.deepEqual(atA.path, { kind: 'ice', transport: 'quic' })
    assert.notEqual(atA.direction, atB.direction)
    assert.equal(await echoes(b, a), 'hello')
  })

  it('is left for the addresses of the peer itself, where those lead to it', async t => {
    const [a, b] = [await startHost(t, { punch: tcpTools }), await startHost(t, { punch: tcpTools })]
    const direct = Promise.all([comesTo(a, b.id, 'direct'), comesTo(b, a.id, 'direct')])
    await relayed(a as Adopting, b as Adopting, a.id)
    await within('a direct connection', direct)
  })
})
