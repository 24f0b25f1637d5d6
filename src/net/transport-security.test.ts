/** Whom the transports let in: versions of TLS, certificates, encryptions, identities, lists of those that are allowed. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { noise } from '@libp2p/noise'
import { tls } from '@libp2p/tls'
import type { Libp2p } from 'libp2p'
import { ManualClock, systemClock, systemRandom } from '#base'
import { generateNodeKey, type NodePrivateKey } from '#crypto'
import {
  countingTls,
  type Encrypter,
  encryptionCalled,
  startForger,
  tlsOfAnotherTime,
} from '../../test/support/forged-tls.ts'
import { firstAddress, hasPeers, startHost, within } from '../../test/support/net-hosts.ts'
import { parseAddress } from './address.ts'
import { ADMISSION_TIMEOUT_MS } from './limits.ts'
import type { Host } from './types.ts'

type Cleaner = Parameters<typeof startHost>[0]

const HUNDRED_YEARS_MS = 100 * 365 * 24 * 60 * 60 * 1000
const HEADER = '/multistream/1.0.0'

/** A name of a protocol as multistream-select sends it. */
const line = (text: string): string => `${String.fromCharCode(text.length + 1)}${text}\n`

async function forger(test: Cleaner, encrypter: Encrypter, change: Partial<NodePrivateKey> = {}): Promise<Libp2p> {
  const key = await generateNodeKey(systemRandom)
  return startForger(test, { key: { ...key, sign: data => key.sign(data), ...change }, encrypter })
}

const addressOf = (libp2p: Libp2p): string => libp2p.getMultiaddrs()[0]?.toString() ?? ''

/** Whether the host takes the node as somebody who dials, and whether it takes it as somebody whom it dials. */
async function isTaken(test: Cleaner, node: Libp2p): Promise<{ inbound: boolean; outbound: boolean }> {
  const host = await startHost(test)
  const dialled = await node.dial(parseAddress(firstAddress(host)).target).catch(() => undefined)
  // A connection that the other side refuses may look open for a moment: a stream shows.
  const stream = await dialled
    ?.newStream('/koinon/control/1', { signal: AbortSignal.timeout(10_000) })
    .catch(() => undefined)
  // Nobody there speaks our protocol, so a connection that comes about is lost again: that one is told from a failed dial.
  const code = await host.connect(addressOf(node)).catch((error: unknown) => (error as { code: string }).code)
  return { inbound: stream !== undefined, outbound: code !== 'NET_DIAL_FAILED' }
}

/** A TLS client behind the negotiation of libp2p, with whatever versions it wants. */
async function tlsTo(host: Host, versions: { readonly maxVersion: 'TLSv1.2' | 'TLSv1.3' }): Promise<TLSSocket> {
  const port = Number(/\/tcp\/(\d+)/.exec(firstAddress(host))?.[1])
  const socket = connect({ port, host: '127.0.0.1' })
  socket.write(line(HEADER) + line('/tls/1.0.0'))
  const expected = line(HEADER) + line('/tls/1.0.0')
  let heard = ''
  while (heard.length < expected.length) {
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    heard += bytes.toString('latin1')
  }
  assert.equal(heard, expected)
  socket.pause()
  return connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['/yamux/1.0.0'], ...versions })
}

describe('net / who is let in', () => {
  it('refuses TLS below 1.3 at its listener, and TLS 1.3 without a certificate', async test => {
    const host = await startHost(test)
    const old = await tlsTo(host, { maxVersion: 'TLSv1.2' })
    const [error] = (await within('the refusal', once(old, 'error'))) as [NodeJS.ErrnoException]
    assert.match(error.code ?? '', /PROTOCOL_VERSION|ECONNRESET/)
    const bare = await tlsTo(host, { maxVersion: 'TLSv1.3' })
    bare.on('error', () => undefined)
    await within('the end', new Promise(resolve => bare.once('close', resolve)))
    assert.deepEqual(host.peers(), [])
  })

  it('refuses TLS below 1.3 at its data plane', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    await a.connect(firstAddress(b))
    await hasPeers(b, [a.id])
    const port = a.peers()[0]?.offer.planePort
    assert.ok(port !== undefined)
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      maxVersion: 'TLSv1.2',
      ciphers: 'PSK',
      pskCallback: () => ({ identity: 'x', psk: new Uint8Array(32) }),
      checkServerIdentity: () => undefined,
      rejectUnauthorized: false,
    })
    const [error] = (await within('the refusal', once(socket, 'error'))) as [NodeJS.ErrnoException]
    assert.match(error.code ?? '', /PROTOCOL_VERSION|HANDSHAKE_FAILURE|ECONNRESET/)
  })

  it('takes a certificate that is in order, and Noise', async test => {
    for (const encrypter of [tlsOfAnotherTime(0), noise() as unknown as Encrypter]) {
      assert.deepEqual(await isTaken(test, await forger(test, encrypter)), { inbound: true, outbound: true })
    }
  })

  it('refuses a certificate that has expired, one that is not valid yet, and one that the named key has not signed', async test => {
    const expired = await forger(test, tlsOfAnotherTime(-HUNDRED_YEARS_MS - 60_000))
    assert.deepEqual(await isTaken(test, expired), { inbound: false, outbound: false })
    const early = await forger(test, tlsOfAnotherTime(2 * 60 * 60 * 1000))
    assert.deepEqual(await isTaken(test, early), { inbound: false, outbound: false })
    const victim = await generateNodeKey(systemRandom)
    const other = await forger(test, tls(), { publicKey: victim.publicKey })
    assert.deepEqual(await isTaken(test, other), { inbound: false, outbound: false })
    const unsigned = await forger(test, tls(), { sign: () => new Uint8Array(64) })
    assert.deepEqual(await isTaken(test, unsigned), { inbound: false, outbound: false })
  })

  it('refuses every other encryption, and none at all', async test => {
    for (const protocol of ['/plaintext/2.0.0', '/noise/ik', '/secio/1.0.0', '/tls/2.0.0']) {
      assert.deepEqual(await isTaken(test, await forger(test, encryptionCalled(protocol))), {
        inbound: false,
        outbound: false,
      })
    }
  })

  it('says nothing to another node at the address of the one that it wants', async test => {
    let bytes = 0
    let streams = 0
    const gone = Promise.withResolvers<void>()
    const heard = Promise.withResolvers<void>()
    const onBytes = (count: number): void => {
      bytes += count
      if (bytes > 0) heard.resolve()
    }
    const other = await forger(test, countingTls({ onBytes, onGone: () => gone.resolve() }))
    await other.handle('/koinon/control/1', () => void streams++)
    const wanted = (await startHost(test)).id
    const clock = new ManualClock(systemClock.now())
    const host = await startHost(test, { clock })
    const address = addressOf(other).replace(other.peerId.toString(), wanted)
    await assert.rejects(host.connect(address), { code: 'NET_WRONG_PEER' })
    await within('the end', gone.promise)
    assert.deepEqual([bytes, streams], [0, 0])
    // With the right id the same node hears of us: the counters count.
    const answered = assert.rejects(host.connect(addressOf(other)))
    await within('the first bytes', heard.promise)
    // Nobody there answers. That ends when its time is up, and not before the bytes have come.
    clock.advance(ADMISSION_TIMEOUT_MS)
    await within('the end of the attempt', answered)
  })

  it('says no more than the name of its encryption to what is no node', async test => {
    let heard = ''
    const server = createServer((socket: Socket) => {
      socket.on('error', () => undefined)
      socket.on('data', data => {
        heard += data.toString('latin1')
        socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    test.after(() => void server.close())
    const host = await startHost(test)
    const { port } = server.address() as AddressInfo
    await assert.rejects(host.connect(`/ip4/127.0.0.1/tcp/${port}`))
    assert.ok((line(HEADER) + line('/tls/1.0.0')).startsWith(heard), JSON.stringify(heard))
  })

  for (const listen of ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/udp/0/quic-v1']) {
    it(`connects to those of its list and to nobody else, at ${listen}`, async test => {
      const [friend, stranger] = [
        await startHost(test, { listen: [listen] }),
        await startHost(test, { listen: [listen] }),
      ]
      const host = await startHost(test, { listen: [listen], allow: [friend.id] })
      const notAllowed = { code: 'NET_PEER_NOT_ALLOWED', fault: { code: 'NET_PEER_NOT_ALLOWED', peer: stranger.id } }
      await assert.rejects(host.connect(firstAddress(stranger)), notAllowed)
      // Also where only the address is known, so that who is there shows when it answers.
      await assert.rejects(host.connect(firstAddress(stranger).replace(/\/p2p\/.*/, '')), notAllowed)
      await assert.rejects(stranger.connect(firstAddress(host)))
      assert.deepEqual([host.peers(), stranger.peers()], [[], []])
      await friend.connect(firstAddress(host))
      await hasPeers(host, [friend.id])
    })
  }
})
