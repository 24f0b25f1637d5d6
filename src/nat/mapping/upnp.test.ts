import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { seededRandom, systemClock } from '#base'
import { stretchedClock } from '../../../test/support/stretched-clock.ts'
import { UPNP_BODY_BYTES_MAX } from '../limits.ts'
import type { Endpoint } from '../types.ts'
import { openUdp } from '../udp.ts'
import { gatewaysOf, guessGateways } from './gateways.ts'
import { controlOf, decodeSearchAnswer, UpnpProtocol } from './upnp.ts'
import { elementsOf, textOf } from './upnp-xml.ts'

const IGD1 = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1'
const WANIP1 = 'urn:schemas-upnp-org:service:WANIPConnection:1'

const service = (type: string, url: string): string =>
  `<service><serviceType>${type}</serviceType><controlURL>${url}</controlURL></service>`

/** An old gateway, version 1: no AddAnyPortMapping. What it answers to AddPortMapping is the test's. */
async function oldGateway(
  t: TestContext,
  options: { readonly body?: string; readonly refuse?: (call: string) => number },
) {
  const calls: string[] = []
  const server = createServer((incoming, outgoing) => {
    if (incoming.method === 'GET') {
      outgoing.end(
        options.body ?? `<root><device><serviceList>${service(WANIP1, '/control')}</serviceList></device></root>`,
      )
      return
    }
    let body = ''
    incoming.on('data', chunk => (body += String(chunk)))
    incoming.on('end', () => {
      const action = /#(\w+)"/.exec(String(incoming.headers['soapaction']))?.[1] ?? ''
      calls.push(`${action} ${textOf(body, 'NewExternalPort') ?? ''} ${textOf(body, 'NewLeaseDuration') ?? ''}`.trim())
      const error = options.refuse?.(calls.at(-1) ?? '') ?? 0
      if (error !== 0) outgoing.writeHead(500)
      const address = '<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>'
      outgoing.end(
        error === 0 ? `<s:Body>${address}</s:Body>` : `<UPnPError><errorCode>${error}</errorCode></UPnPError>`,
      )
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const search = await openUdp({ address: '127.0.0.1' })
  search.onMessage((bytes, from) => {
    if (!new TextDecoder().decode(bytes).includes(IGD1)) return
    const answer = `HTTP/1.1 200 OK\r\nST: ${IGD1}\r\nLOCATION: http://127.0.0.1:${port}/desc.xml\r\n\r\n`
    search.send(new TextEncoder().encode(answer), from)
  })
  t.after(async () => {
    await search.close()
    server.close()
  })
  const deps = { clock: stretchedClock, random: seededRandom(1), openUdp }
  return { calls, way: new UpnpProtocol(deps, { localAddress: '127.0.0.1', search: search.local }) }
}

const OPTIONS = { leaseSeconds: 3_600, signal: new AbortController().signal }
const REQUEST = { protocol: 'udp', internalPort: 4000 } as const

test('a gateway of version 1 maps, and takes back the very mapping', async t => {
  const { way, calls } = await oldGateway(t, {})
  const mapping = await way.map(REQUEST, OPTIONS)
  assert.deepEqual(mapping, {
    ...REQUEST,
    via: 'upnp',
    externalAddress: '203.0.113.9',
    externalPort: 4000,
    leaseSeconds: 3_600,
    isPublic: true,
  })
  await way.unmap(mapping, OPTIONS)
  assert.deepEqual(calls, ['GetExternalIPAddress', 'AddPortMapping 4000 3600', 'DeletePortMapping 4000'])
})

test('a port that belongs to somebody else is left to him; a gateway without leases gets none', async t => {
  const refuse = (call: string): number => {
    if (call.startsWith('AddPortMapping 4000 ')) return 718
    return call.endsWith(' 3600') ? 725 : 0
  }
  const { way } = await oldGateway(t, { refuse })
  const mapping = await way.map(REQUEST, OPTIONS)
  assert.notEqual(mapping.externalPort, 4000)
  assert.equal(mapping.leaseSeconds, 0)
})

test('a gateway that refuses for ever is given up', async t => {
  const { way, calls } = await oldGateway(t, { refuse: call => (call.startsWith('Add') ? 718 : 0) })
  await assert.rejects(way.map(REQUEST, OPTIONS), /AddPortMapping: error 718/)
  assert.equal(calls.filter(call => call.startsWith('Add')).length, 4)
})

test('a description without end is not read to its end', async t => {
  const { way } = await oldGateway(t, { body: 'x'.repeat(UPNP_BODY_BYTES_MAX + 1) })
  await assert.rejects(way.map(REQUEST, OPTIONS), /the answer is too long/)
})

test('where nobody answers there is no gateway', async t => {
  const silent = await openUdp({ address: '127.0.0.1' })
  t.after(() => silent.close())
  const clock = { ...systemClock, after: (_: number, action: () => void) => systemClock.after(0, action) }
  const way = new UpnpProtocol(
    { clock, random: seededRandom(1), openUdp },
    { localAddress: '127.0.0.1', search: silent.local },
  )
  await assert.rejects(way.map(REQUEST, OPTIONS), /no gateway answers/)
})

const FROM: Endpoint = { address: '192.168.1.1', port: 1900 }
const answer = (location: string, type = IGD1): Uint8Array =>
  new TextEncoder().encode(`HTTP/1.1 200 OK\r\nST: ${type}\r\nLocation: ${location}\r\n\r\n`)

test('an answer to a search counts only for the machine that sent it', () => {
  assert.equal(decodeSearchAnswer(answer('http://192.168.1.1:5000/d.xml'), FROM)?.port, '5000')
  for (const bytes of [
    answer('http://192.168.1.2:5000/d.xml'),
    answer('http://example.com/d.xml'),
    answer('https://192.168.1.1/d.xml'),
    answer('file:///etc/passwd'),
    answer('http://user@192.168.1.1/d.xml'),
    answer(''),
    answer('http://192.168.1.1/d.xml', 'upnp:rootdevice'),
    new Uint8Array(4_000),
    new Uint8Array(),
  ]) {
    assert.equal(decodeSearchAnswer(bytes, FROM), undefined)
  }
  assert.equal(decodeSearchAnswer(answer('http://8.8.8.8/d.xml'), { address: '8.8.8.8', port: 1900 }), undefined)
})

test('a description names services of its own machine only, and the best one is taken', () => {
  const location = new URL('http://192.168.1.1:5000/d.xml')
  const version2 = WANIP1.replace(':1', ':2')
  const both = service(WANIP1, '/one') + service(version2, 'http://192.168.1.1:5000/two')
  assert.equal(controlOf(both, location)?.url.pathname, '/two')
  assert.equal(controlOf(service(WANIP1, 'http://10.0.0.1/'), location), undefined)
  assert.equal(controlOf(`<URLBase>http://10.0.0.1/</URLBase>${service(WANIP1, '/one')}`, location), undefined)
  assert.equal(controlOf(service('urn:other', '/one'), location), undefined)
  assert.equal(controlOf('', location), undefined)
})

test('XML: name spaces, attributes, entities, and damage', () => {
  assert.equal(textOf('<a><u:b x="1"> 5 &lt;&amp;&gt; </u:b></a>', 'b'), '5 <&>')
  assert.deepEqual(elementsOf('<b>1</b><b/><c:b>2</c:b><b>3</b>', 'b', 2), ['1', '2'])
  assert.equal(textOf('<b>1', 'b'), undefined)
  assert.equal(textOf('<b', 'b'), undefined)
  assert.deepEqual(elementsOf('<b>'.repeat(40_000), 'b', 64), [])
})

const lan = { family: 'IPv4', internal: false, mac: '', cidr: null } as const

test('the routing table of Linux names the gateway', () => {
  const table =
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n' +
    'eth0\t00000000\t014DA8C0\t0003\t0\t0\t0\t00000000\n' +
    'eth0\t004DA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n' +
    'tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\nbroken\n'
  const interfaces = { eth0: [{ ...lan, address: '192.168.77.2', netmask: '255.255.255.0' }] }
  assert.deepEqual(gatewaysOf(table, interfaces), [{ address: '192.168.77.1', localAddress: '192.168.77.2' }])
  assert.deepEqual(gatewaysOf('', interfaces), [])
  assert.deepEqual(gatewaysOf(table, {}), [])
})

test('without one, the first address of each private network is guessed', () => {
  const interfaces = {
    eth0: [{ ...lan, address: '10.1.2.3', netmask: '255.255.0.0' }],
    eth1: [{ ...lan, address: '8.8.8.8', netmask: '255.255.255.0' }],
    eth2: [{ ...lan, address: '192.168.1.1', netmask: '255.255.255.0' }],
  }
  assert.deepEqual(guessGateways(interfaces), [{ address: '10.1.0.1', localAddress: '10.1.2.3' }])
})
