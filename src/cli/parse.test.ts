import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resolve } from 'node:path'
import {
  integerIn,
  numberIn,
  parseApiAddress,
  parseLayerRange,
  parseLayers,
  parseMultiaddr,
  parsePlanePort,
  parsePullPeer,
  parseRate,
  parseSize,
  parseSource,
  parseStun,
  parseSwitch,
} from './parse.ts'

test('an API address is a host and a port, a port alone, or none', () => {
  assert.deepEqual(parseApiAddress('127.0.0.1:11435'), { host: '127.0.0.1', port: 11435 })
  assert.deepEqual(parseApiAddress('0'), { host: '127.0.0.1', port: 0 })
  assert.deepEqual(parseApiAddress('[::1]:80'), { host: '::1', port: 80 })
  assert.deepEqual(parseApiAddress('my-host:8080'), { host: 'my-host', port: 8080 })
  assert.equal(parseApiAddress('none'), 'none')
  for (const text of ['', 'host', 'host:', ':80', '1.2.3.4:65536', '::1:80', 'a/b:80', 'http://x:80']) {
    assert.throws(() => parseApiAddress(text), /HOST:PORT/, text)
  }
})

test('layers are [A, B), auto or none', () => {
  assert.deepEqual(parseLayers('0-3'), { kind: 'range', layers: { first: 0, last: 3 } })
  assert.deepEqual(parseLayers('auto'), { kind: 'auto', nodes: 1 })
  assert.deepEqual(parseLayers('none'), { kind: 'none' })
  for (const text of ['', '3', '3-3', '4-3', '-1-3', '0-3,5-7', 'all'])
    assert.throws(() => parseLayers(text), /A < B/, text)
})

test('sizes are decimal unless they say otherwise', () => {
  assert.equal(parseSize('500M'), 500_000_000)
  assert.equal(parseSize('1.5GB'), 1_500_000_000)
  assert.equal(parseSize('2 GiB'), 2 * 2 ** 30)
  assert.equal(parseSize('1048576'), 1_048_576)
  for (const text of ['', '0', '-1', 'GB', '1XB', '1e9', '9999999TB'])
    assert.throws(() => parseSize(text), /size/, text)
})

test('rates are sizes a second', () => {
  assert.equal(parseRate('20MiB'), 20 * 2 ** 20)
  assert.equal(parseRate('20MiB/s'), 20 * 2 ** 20)
  assert.equal(parseRate('500kB/s'), 500_000)
  for (const text of ['', '/s', '0', '5Mbit', '5Mbit/s', '5MB/min', '5MB/s/s', '-1MB/s'])
    assert.throws(() => parseRate(text), /bytes a second/, text)
})

test('a range of layers has two ends', () => {
  assert.deepEqual(parseLayerRange('8-16'), { first: 8, last: 16 })
  for (const text of ['', '8', '16-8', '8-8', 'auto', 'none', '1-2-3'])
    assert.throws(() => parseLayerRange(text), /A < B/, text)
})

test('whom to ask beside others is a node or a BitTorrent client', () => {
  for (const text of [
    '/ip4/10.0.0.1/tcp/4001',
    'bt:10.0.0.1:6881',
    'bt:seed.example.org:51413',
    'bt:[2001:db8::1]:6881',
  ])
    assert.equal(parsePullPeer(text), text)
  for (const text of ['', '10.0.0.1:6881', 'bt:10.0.0.1', 'bt:10.0.0.1:0', 'bt:10.0.0.1:65536', 'bt::6881', 'bt:a b:1'])
    assert.throws(() => parsePullPeer(text), /multiaddr/, text)
})

test('a source is a name, a URL or a path, which becomes absolute', () => {
  for (const text of ['mirror', 'my.mirror_2', 'https://example.org/m.gguf', 'rsync+ssh://host/dir', '/mnt/models'])
    assert.equal(parseSource(text), text)
  assert.equal(parseSource('./models'), resolve('models'))
  assert.equal(parseSource('../a b/c'), resolve('../a b/c'))
  for (const text of ['', '-x', 'https://', 'a b', '--rsh=x', 'https:///etc'])
    assert.throws(() => parseSource(text), /name of a source/, text)
})

test('numbers outside their range are refused', () => {
  assert.equal(integerIn(1, 8)('8'), 8)
  for (const text of ['0', '9', '1.5', '', ' ', '1e1', '0x1'])
    assert.throws(() => integerIn(1, 8)(text), /from 1 to 8/, text)
  assert.equal(numberIn(0, 2)('0.7'), 0.7)
  for (const text of ['-0.1', '2.1', 'NaN', '', 'warm']) assert.throws(() => numberIn(0, 2)(text), /from 0 to 2/, text)
})

test('a peer must look like a multiaddr', () => {
  assert.equal(parseMultiaddr('/ip4/10.0.0.1/tcp/4001'), '/ip4/10.0.0.1/tcp/4001')
  for (const text of ['10.0.0.1:4001', '', '/', '/ip4/ 1']) assert.throws(() => parseMultiaddr(text), /multiaddr/, text)
})

test('a port of the data plane is a port, or off', () => {
  for (const [text, port] of [
    ['0', 0],
    ['4002', 4002],
    ['65535', 65_535],
    ['off', 'off'],
  ] as const) {
    assert.equal(parsePlanePort(text), port)
  }
  for (const text of ['65536', '-1', '1.5', '', 'on', '0x10', ' 1'])
    assert.throws(() => parsePlanePort(text), /0 to 65535/)
})

test('STUN servers have a host and perhaps a port; switches are on or off', () => {
  assert.deepEqual(parseStun('stun.example.org:19302'), { host: 'stun.example.org', port: 19_302 })
  assert.deepEqual(parseStun('62.0.0.1'), { host: '62.0.0.1', port: 3_478 })
  for (const bad of ['', ':3478', 'a:b', 'a:0', 'a:65536', 'stun:a:1', '-a', '[::1]:1']) {
    assert.throws(() => parseStun(bad), /HOST:PORT/)
  }
  assert.deepEqual([parseSwitch('on'), parseSwitch('off')], [true, false])
  assert.throws(() => parseSwitch('yes'), /on or off/)
})
