import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { toHex } from '#base'
import { MAGNET_CHARS_MAX, MAGNET_NAME_CHARS_MAX, MAGNET_PEERS_MAX } from './limits.ts'
import { decodeMagnet, magnetOf, parseMagnet } from './magnet.ts'

const infoHash = Uint8Array.from({ length: 32 }, (_, i) => i)
const hash = toHex(infoHash)
const codeOf = (text: string): string => {
  const result = decodeMagnet(text)
  return 'code' in result ? result.code : 'magnet'
}

test('a link comes back as it was made, whatever the name', () => {
  const host = fc.oneof(fc.ipV4(), fc.constantFrom('::1', '2001:db8::7', 'seed.example.org'))
  const peer = fc.record({ host, port: fc.integer({ min: 1, max: 65_535 }) }, { noNullPrototype: true })
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), fc.array(peer, { maxLength: 5 }), (name, peers) => {
      const read = parseMagnet(magnetOf({ infoHash }, name, peers))
      assert.deepEqual(read.infoHash, infoHash)
      assert.deepEqual(read.peers, peers)
      assert.equal(read.name?.length, name.length)
    }),
  )
})

test('what others put into links is read or left: hybrid hashes, trackers, capitals, odd peers', () => {
  const link = `MAGNET:?xt=urn:btih:${'a'.repeat(40)}&xt=urn:btmh:1220${hash.toUpperCase()}&tr=udp%3A%2F%2Ft%3A1&dn=a+b%07`
  const read = parseMagnet(`${link}&x.pe=nobody&x.pe=%5B::1%5D:7&x.pe=h:0&x.pe=h:65536&x.pe=-x:1&x.pe=h:1`)
  assert.equal(toHex(read.infoHash), hash)
  assert.equal(read.name, 'a b\ufffd')
  assert.deepEqual(read.peers, [
    { host: '::1', port: 7 },
    { host: 'h', port: 1 },
  ])
  assert.equal(parseMagnet(`magnet:?xt=urn:btmh:1220${hash}`).name, undefined)
})

test('links are bounded: peers, name, length', () => {
  const peers = Array.from({ length: 100 }, (_, at) => `&x.pe=10.0.0.${at}:1`).join('')
  const read = parseMagnet(`magnet:?xt=urn:btmh:1220${hash}&dn=${'n'.repeat(1_000)}${peers}`)
  assert.equal(read.peers.length, MAGNET_PEERS_MAX)
  assert.equal(read.name?.length, MAGNET_NAME_CHARS_MAX + 1)
  assert.equal(codeOf(`magnet:?xt=urn:btmh:1220${hash}&dn=${'n'.repeat(MAGNET_CHARS_MAX)}`), 'FORMAT_MAGNET_MALFORMED')
})

test('a link without a v2 hash is refused, one of v1 in other words', () => {
  assert.equal(codeOf(`magnet:?xt=urn:btih:${'a'.repeat(40)}`), 'FORMAT_MAGNET_VERSION')
  assert.equal(codeOf(`magnet:?xt=urn:btmh:1114${'a'.repeat(40)}`), 'FORMAT_MAGNET_VERSION')
  for (const text of [
    '',
    'magnet:',
    'magnet:?',
    'https://x',
    'magnet:?xt=urn:sha1:abc',
    `magnet:?xt=urn:btmh:1220${hash}0`,
  ]) {
    assert.equal(codeOf(text), 'FORMAT_MAGNET_MALFORMED', text)
  }
  assert.equal(codeOf(`magnet:?xt=urn:btmh:1220${hash}&xt=urn:btmh:1220${'0'.repeat(64)}`), 'FORMAT_MAGNET_MALFORMED')
  fc.assert(fc.property(fc.string(), text => assert.match(codeOf(`magnet:?${text}`), /^FORMAT_MAGNET_/)))
})
