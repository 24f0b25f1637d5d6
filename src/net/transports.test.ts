/** Hosts over each transport and each mode: real sockets on loopback. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { systemRandom } from '#base'
import { nodeKeyOf } from '#crypto'
import { createNodeIdentity } from '#identity'
import { PROTOCOLS } from '#wire'
import { freePort } from '../../test/support/free-port.ts'
import { firstAddress, hasPeers, nextEvent, startHost, within } from '../../test/support/net-hosts.ts'
import { DEFAULT_SETTINGS } from './settings.ts'
import { listenable, mountTransports } from './transports.ts'
import type { Host } from './types.ts'

const TCP = '/ip4/127.0.0.1/tcp/0'
const QUIC = '/ip4/127.0.0.1/udp/0/quic-v1'
const WS = '/ip4/127.0.0.1/tcp/0/ws'

/** Sends the bytes and reads them back. */
async function echo(from: Host, to: Host, bytes: Uint8Array): Promise<void> {
  to.handle(PROTOCOLS.stage, async stream => {
    for await (const piece of stream.received) if (!stream.send(piece.slice())) await stream.drained()
    await stream.close()
  })
  const stream = await from.open(to.id, PROTOCOLS.stage)
  const sending = (async () => {
    for (let at = 0; at < bytes.byteLength; at += 65_536) {
      if (!stream.send(bytes.slice(at, at + 65_536))) await stream.drained()
    }
    await stream.close()
  })()
  let at = 0
  for await (const piece of stream.received) {
    assert.deepEqual(Buffer.compare(piece, bytes.subarray(at, at + piece.byteLength)), 0)
    at += piece.byteLength
  }
  await sending
  assert.equal(at, bytes.byteLength)
}

describe('net / transports', () => {
  const data = new Uint8Array(3_000_000).map((_, index) => (index * 7) % 251)
  for (const [name, listen, mode, transport] of [
    ['TCP', TCP, 'tcp', 'tcp'],
    ['QUIC', QUIC, 'quic', 'quic'],
    ['WebSocket', WS, 'tcp', 'ws'],
  ] as const) {
    it(`joins and carries streams over ${name} alone`, async test => {
      const options = { transport: mode, planePort: 'off', secret: 's' } as const
      const [a, b] = [
        await startHost(test, { ...options, listen: [] }),
        await startHost(test, { ...options, listen: [listen] }),
      ]
      assert.equal(await a.connect(firstAddress(b)), b.id)
      await hasPeers(b, [a.id])
      assert.deepEqual(
        [a.peers()[0]?.path, b.peers()[0]?.path],
        [
          { kind: 'direct', transport },
          { kind: 'direct', transport },
        ],
      )
      await within('the echo', echo(a, b, data))
      await within('the echo', echo(b, a, data))
    })
  }

  it('listens on both, prefers what it is told to, and gets through by the other', async test => {
    for (const [dialPrefer, expected] of [
      ['tcp', 'tcp'],
      ['quic', 'quic'],
    ] as const) {
      const a = await startHost(test, { listen: [], settings: { dialPrefer, dialGraceMs: 5_000 } })
      const b = await startHost(test, { listen: [TCP, QUIC] })
      await a.open(b.id, PROTOCOLS.stage, { addresses: b.addresses() }).catch(() => undefined)
      assert.equal(a.peers()[0]?.path.transport, expected)
      assert.equal(a.peers().length, 1)
    }
    const quicOnly = await startHost(test, { listen: [], transport: 'quic' })
    const tcpOnly = await startHost(test, { listen: [], transport: 'tcp' })
    const both = await startHost(test, { listen: [TCP, QUIC] })
    for (const host of [quicOnly, tcpOnly]) {
      await host.open(both.id, PROTOCOLS.stage, { addresses: both.addresses() }).catch(() => undefined)
    }
    assert.deepEqual([quicOnly.peers()[0]?.path.transport, tcpOnly.peers()[0]?.path.transport], ['quic', 'tcp'])
  })

  it('gets through by QUIC where TCP leads nowhere', async test => {
    const [a, b] = [await startHost(test), await startHost(test, { listen: [QUIC] })]
    const addresses = [`/ip4/127.0.0.1/tcp/${await freePort()}/p2p/${b.id}`, ...b.addresses()]
    await a.open(b.id, PROTOCOLS.stage, { addresses }).catch(() => undefined)
    assert.equal(a.peers()[0]?.path.transport, 'quic')
  })

  it('tells whom it refuses why, and whom it leaves, over each of them', async test => {
    for (const listen of [QUIC, WS]) {
      const host = await startHost(test, { listen: [listen], secret: 'the secret', planePort: 'off' })
      const stranger = await startHost(test, { listen: [], secret: 'another one' })
      const fault = { code: 'NET_NOT_ADMITTED', peer: host.id, reason: 'proof-wrong', by: 'peer' }
      await assert.rejects(stranger.connect(firstAddress(host)), { fault })
      const friend = await startHost(test, { listen: [], secret: 'the secret' })
      await friend.connect(firstAddress(host))
      const left = nextEvent(friend, event => event.kind === 'left')
      await within('the end', host.stop())
      await left
    }
  })

  it('has an address for each transport, wildcards expanded, with the same number for TCP and UDP where that is asked', async test => {
    const port = await freePort()
    const listen = [`/ip4/0.0.0.0/tcp/${port}`, `/ip4/0.0.0.0/udp/${port}/quic-v1`]
    const host = await startHost(test, { listen, secret: 's' })
    const addresses = host.addresses()
    assert.ok(addresses.some(address => address.includes(`/tcp/${port}/`)))
    assert.ok(addresses.some(address => address.includes(`/udp/${port}/quic-v1/`)))
    for (const address of addresses) {
      assert.doesNotMatch(address, /\/0\.0\.0\.0\//)
      const other = await startHost(test, { listen: [], secret: 's' })
      assert.equal(await other.connect(address), host.id)
    }
  })

  it('refuses addresses that the mode rules out, with a sentence', async test => {
    const b = await startHost(test, { listen: [QUIC] })
    const a = await startHost(test, { transport: 'tcp' })
    await assert.rejects(a.connect(firstAddress(b)), { code: 'NET_DIAL_FAILED', message: /no address of a transport/ })
    await assert.rejects(startHost(test, { transport: 'tcp', listen: [QUIC] }), { code: 'NET_LISTEN_FAILED' })
    await assert.rejects(startHost(test, { transport: 'quic', listen: [TCP] }), { code: 'NET_LISTEN_FAILED' })
  })

  it('does without QUIC where the key cannot be given to it', async () => {
    const { provider } = await createNodeIdentity(systemRandom)
    const key = nodeKeyOf({ publicKey: provider.publicKey, sign: message => provider.sign(message) })
    const settings = DEFAULT_SETTINGS
    const mounted = await mountTransports({ mode: 'dual', key, settings })
    assert.deepEqual([...mounted.kinds], ['tcp', 'ws'])
    assert.match(mounted.quicMissing ?? '', /not in this process/)
    assert.deepEqual(listenable([TCP, QUIC], mounted), [TCP])
    assert.throws(() => listenable([QUIC], mounted), { code: 'NET_LISTEN_FAILED' })
    await assert.rejects(mountTransports({ mode: 'quic', key, settings }), { code: 'NET_QUIC_MISSING' })
  })
})
