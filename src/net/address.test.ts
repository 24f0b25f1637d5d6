import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { addressesOf, decodeAddress, isLoopback } from './address.ts'

const ID = '12D3KooWJNndPqQahSd7nSot5y1bUSbhqg5LiJJzPEgLv1MzqKGu'

describe('net / address', () => {
  it('takes IP addresses and names with a TCP port, with a peer id and without', () => {
    for (const host of [
      'ip4/192.0.2.1',
      'ip6/2001:db8::1',
      'dns/example.org',
      'dns4/example.org',
      'dns6/example.org',
    ]) {
      const bare = decodeAddress(`/${host}/tcp/4001`)
      assert.equal(bare?.target.toString(), `/${host}/tcp/4001`)
      assert.equal(bare.peer, undefined)
      const named = decodeAddress(`/${host}/tcp/4001/p2p/${ID}`)
      assert.deepEqual([named?.target.toString(), named?.peer], [`/${host}/tcp/4001`, ID])
    }
  })

  it('takes WebSocket and QUIC addresses, and circuits through a relay with or without its address', () => {
    const relay = '12D3KooWC7sXbuA1GwfPk2upNL8ePxSWaMfsEBDB41ShHnB15Q5q'
    const facts = (text: string) => {
      const { target, transport, host, peer, relay } = decodeAddress(text) ?? {}
      return [target?.toString(), transport, host, peer, relay]
    }
    const [ws, quic] = ['/dns4/example.org/tcp/443/ws', '/ip6/2001:db8::1/udp/30906/quic-v1']
    assert.deepEqual(facts(`${ws}/p2p/${ID}`), [ws, 'ws', 'example.org', ID, undefined])
    assert.deepEqual(facts(quic), [quic, 'quic', '2001:db8::1', undefined, undefined])
    const circuit = `/ip4/192.0.2.1/udp/4001/quic-v1/p2p/${relay}/p2p-circuit`
    assert.deepEqual(facts(`${circuit}/p2p/${ID}`), [circuit, 'quic', '192.0.2.1', ID, relay])
    assert.deepEqual(facts(`/p2p/${relay}/p2p-circuit/p2p/${ID}`), [`/p2p/${relay}/p2p-circuit`, 'tcp', '', ID, relay])
    assert.deepEqual(facts(circuit), [circuit, 'quic', '192.0.2.1', undefined, relay])
  })

  it('refuses everything else', () => {
    const bad = [
      '',
      'x',
      '/',
      '/ip4/192.0.2.1',
      '/ip4/300.0.0.1/tcp/1',
      '/ip4/192.0.2.1/udp/1',
      '/ip4/192.0.2.1/tcp/99999',
      '/ip4/192.0.2.1/tcp/1/p2p/nobody',
      '/ip4/192.0.2.1/tcp/1/p2p-circuit',
      `/p2p/${ID}/p2p-circuit/p2p/${ID}/p2p-circuit`,
      `/ip4/192.0.2.1/tcp/1/p2p/${ID}/p2p-circuit/ip4/192.0.2.1`,
      `/ip4/192.0.2.1/tcp/1/p2p/${ID}/p2p/${ID}`,
      '/ip4/192.0.2.1/udp/1/quic',
      '/ip4/192.0.2.1/tcp/1/wss',
      `/p2p/${ID}`,
      '/unix/tmp%2Fsocket',
      '/dnsaddr/example.org/tcp/1',
      `/dns4/${'x'.repeat(400)}/tcp/1`,
    ]
    for (const text of bad) assert.equal(decodeAddress(text), undefined, text)
  })

  it("keeps of a peer's addresses those that are its own, and names it in each", () => {
    const own = `/ip4/192.0.2.1/tcp/1/p2p/${ID}`
    const others = ['/ip4/192.0.2.2/tcp/1/p2p/12D3KooWC7sXbuA1GwfPk2upNL8ePxSWaMfsEBDB41ShHnB15Q5q', 'x']
    assert.deepEqual(
      addressesOf(ID, [own, ...others, '/ip4/192.0.2.3/tcp/1']).map(address => address.text),
      [own, `/ip4/192.0.2.3/tcp/1/p2p/${ID}`],
    )
    // As a DHT keeps it.
    const circuit = `${others[0] ?? ''}/p2p-circuit`
    assert.deepEqual(addressesOf(ID, [circuit]), [decodeAddress(`${circuit}/p2p/${ID}`)])
  })

  it('knows loopback', () => {
    const isIt = (text: string): boolean | undefined => {
      const address = decodeAddress(text)
      return address && isLoopback(address)
    }
    assert.deepEqual(
      ['/ip4/127.0.0.1/tcp/1', '/ip4/127.9.9.9/tcp/1', '/ip6/::1/tcp/1', '/ip4/192.0.2.1/tcp/1'].map(isIt),
      [true, true, true, false],
    )
  })
})
