/** Each query and each error, as somebody on the wire sees them. */
import assert from 'node:assert/strict'
import { beforeEach, describe, it } from 'node:test'
import { fromHex, toHex } from '#base'
import { ed25519Signer } from '#crypto'
import type { DatagramSocket, Endpoint, MainlineNode } from '#mainline'
import { createMemoryNetwork, type MemoryNetwork } from '../../test/support/memory-network.ts'
import { type BencodeValue, decodeBencode, encodeBencode, isDict } from '#formats'
import { immutableTarget, mutableTarget, signedBytes } from './items.ts'

const SEED = 99
const NODE: Endpoint = { host: '40.1.1.1', port: 6881 }
const ASKER: Endpoint = { host: '90.1.1.1', port: 1234 }
const ID = new Uint8Array(20).fill(3)
const HASH = new Uint8Array(20).fill(4)

type Dict = { readonly [key: string]: BencodeValue }

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const dictOf = (value: BencodeValue | undefined): Dict => (isDict(value) ? value : assert.fail('no dictionary'))
const bytesOf = (value: BencodeValue | undefined): Uint8Array =>
  value instanceof Uint8Array ? value : assert.fail('no bytes')

let network: MemoryNetwork
let node: MainlineNode
let socket: DatagramSocket
let received: Dict[]

beforeEach(async () => {
  network = createMemoryNetwork(SEED)
  node = await network.node([NODE, { host: '2001:db8:1::1', port: 6881 }])
  socket = listenAt(ASKER)
})

function listenAt(local: Endpoint): DatagramSocket {
  received = []
  const made = network.socket(local)
  made.onMessage(message => void received.push(dictOf(decodeBencode(message))))
  return made
}

/** The answer to a query; undefined: none. What the node asks on its own account is left out. */
function ask(q: string, a: Dict, more: Dict = {}): Dict | undefined {
  received.length = 0
  const bytes = encodeBencode({ a: { id: ID, ...a }, q: text(q), t: text('tt'), y: text('q'), ...more })
  socket.send(bytes ?? new Uint8Array(), socket.local.host.includes(':') ? { ...NODE, host: '2001:db8:1::1' } : NODE)
  network.clock.advance(40)
  return received.find(({ y }) => toHex(bytesOf(y)) !== toHex(text('q')))
}

function resultOf(answer: Dict | undefined): Dict {
  return dictOf(answer?.['r'])
}

function codeOf(answer: Dict | undefined): unknown {
  return Array.isArray(answer?.['e']) ? answer['e'][0] : undefined
}

function tokenFor(target: Uint8Array): Uint8Array {
  return bytesOf(resultOf(ask('get', { target }))['token'])
}

const signer = ed25519Signer(new Uint8Array(32).fill(1))

function signedArgs(seq: number, value: BencodeValue, salt: Uint8Array = new Uint8Array()): Dict {
  const valueBytes = encodeBencode(value) ?? new Uint8Array()
  const sig = signer.sign(signedBytes({ salt, seq, valueBytes }))
  return { k: signer.publicKey, seq, sig, v: value, ...(salt.byteLength > 0 ? { salt } : {}) }
}

describe('BEP 5, 32, 42, 43', () => {
  it('ping: our id, and the asker as we see him', () => {
    const answer = ask('ping', {})
    assert.equal(toHex(bytesOf(resultOf(answer)['id'])), node.status().families[0]?.nodeId)
    assert.equal(toHex(bytesOf(answer?.['ip'])), '5a01010104d2')
    assert.deepEqual(answer?.['t'], text('tt'))
  })

  it('find_node: contacts of the family that is asked by, or of those that are wanted', async () => {
    const other = await network.node([{ host: '50.1.1.1', port: 7 }])
    await network.settle(other.bootstrap([`${NODE.host}:${NODE.port}`]))
    await network.quiet()
    const plain = resultOf(ask('find_node', { target: HASH }))
    assert.equal(toHex(bytesOf(plain['nodes'])), `${other.status().families[0]?.nodeId}320101010007`)
    assert.equal(plain['nodes6'], undefined)
    const both = resultOf(ask('find_node', { target: HASH, want: [text('n4'), text('n6'), text('n9')] }))
    assert.deepEqual([bytesOf(both['nodes']).byteLength, bytesOf(both['nodes6']).byteLength], [26, 0])
  })

  it('announce_peer: with the token of get_peers, a port or the port that it came from', () => {
    const token = bytesOf(resultOf(ask('get_peers', { info_hash: HASH }))['token'])
    const announce = (more: Dict): Dict | undefined =>
      ask('announce_peer', { info_hash: HASH, token, port: 9, ...more })
    assert.equal(codeOf(announce({ token: text('wrong') })), 203)
    assert.equal(codeOf(announce({ port: 0 })), 203)
    assert.equal(codeOf(announce({ port: 65_536 })), 203)
    assert.equal(node.status().storedPeers, 0)
    assert.deepEqual(Object.keys(resultOf(announce({}))), ['id'])
    resultOf(announce({ implied_port: 1, port: 0 }))
    const { values } = resultOf(ask('get_peers', { info_hash: HASH }))
    assert.ok(Array.isArray(values))
    assert.deepEqual(values.map(value => toHex(bytesOf(value as Uint8Array))).sort(), ['5a0101010009', '5a01010104d2'])
  })

  it('a token holds for its address alone, from any port', () => {
    const token = tokenFor(HASH)
    socket = listenAt({ host: '90.1.1.1', port: 999 })
    resultOf(ask('announce_peer', { info_hash: HASH, token, port: 9 }))
    socket = listenAt({ host: '90.1.1.2', port: 999 })
    assert.equal(codeOf(ask('announce_peer', { info_hash: HASH, token, port: 9 })), 203)
  })

  it('IPv6: peers of 18 bytes, the address of 18 bytes', () => {
    socket = listenAt({ host: '2001:db8:2::9', port: 5 })
    const answer = ask('get_peers', { info_hash: HASH })
    assert.equal(toHex(bytesOf(answer?.['ip'])), '20010db80002000000000000000000090005')
    ask('announce_peer', { info_hash: HASH, token: bytesOf(resultOf(answer)['token']), port: 258 })
    const { values } = resultOf(ask('get_peers', { info_hash: HASH }))
    assert.deepEqual(values, [fromHex('20010db80002000000000000000000090102')])
  })

  it('another query is unknown; what has no transaction is not answered', () => {
    assert.equal(codeOf(ask('vote', {})), 204)
    assert.equal(ask('ping', {}, { t: 7 }), undefined)
    assert.equal(ask('ping', {}, { y: text('x') }), undefined)
    assert.equal(ask('ping', {}, { t: new Uint8Array(33) }), undefined)
  })

  it('whoever asks is pinged, unless he is read-only', () => {
    const isPing = ({ q }: Dict): boolean => q instanceof Uint8Array && toHex(q) === toHex(text('ping'))
    ask('ping', {}, { ro: 1 })
    assert.ok(!received.some(isPing))
    ask('ping', {})
    assert.ok(received.some(isPing))
  })
})

describe('BEP 44', () => {
  it('an immutable value lies under its hash', () => {
    const value = [text('a'), { b: 2 }]
    const target = immutableTarget(encodeBencode(value) ?? new Uint8Array())
    assert.equal(codeOf(ask('put', { v: value, token: text('wrong') })), 203)
    assert.deepEqual(Object.keys(resultOf(ask('put', { v: value, token: tokenFor(target) }))), ['id'])
    const found = resultOf(ask('get', { target }))
    assert.deepEqual(found['v'], value)
    assert.ok(found['token'] !== undefined && found['nodes'] !== undefined)
  })

  it('a signed value lies under its key and salt; its number alone is told to who has it', () => {
    const salt = text('salt')
    const target = mutableTarget(signer.publicKey, salt)
    const token = tokenFor(target)
    resultOf(ask('put', { ...signedArgs(4, text('four'), salt), token }))
    const found = resultOf(ask('get', { target }))
    assert.deepEqual([found['v'], found['seq'], found['k']], [text('four'), 4, signer.publicKey])
    assert.deepEqual(found['sig'], signedArgs(4, text('four'), salt)['sig'])
    assert.equal(resultOf(ask('get', { target, seq: 3 }))['seq'], 4)
    const known = resultOf(ask('get', { target, seq: 4 }))
    assert.deepEqual([known['v'], known['seq']], [undefined, 4])
  })

  it('every error of a put', () => {
    const target = mutableTarget(signer.publicKey, new Uint8Array())
    const token = tokenFor(target)
    const put = (args: Dict): unknown => codeOf(ask('put', { ...args, token }))
    assert.equal(put({ v: new Uint8Array(995) }), undefined, '999 bytes bencoded')
    assert.equal(put({ v: new Uint8Array(996) }), 205)
    assert.equal(put(signedArgs(1, 'x'.repeat(9).split('').map(text), new Uint8Array(64).fill(1))), undefined)
    assert.equal(put(signedArgs(1, 1, new Uint8Array(65).fill(1))), 207)
    assert.equal(put({ ...signedArgs(1, 1), seq: 2 }), 206)
    assert.equal(put(signedArgs(5, 5)), undefined)
    assert.equal(put({ ...signedArgs(6, 6), cas: 4 }), 301)
    assert.equal(put(signedArgs(4, 4)), 302)
    assert.equal(put(signedArgs(5, 6)), 302)
    assert.equal(put({ ...signedArgs(6, 6), cas: 5 }), undefined)
    assert.equal(put({ v: 1, seq: 1 }), 203, 'a number without a key')
    assert.equal(resultOf(ask('get', { target }))['seq'], 6)
  })

  it('the largest value and as many contacts as fit stay within one datagram', async () => {
    for (let i = 0; i < 12; i++) {
      const other = await network.node([{ host: `6${i}.1.1.1`, port: 7 }])
      await network.settle(other.bootstrap([`${NODE.host}:${NODE.port}`]))
    }
    const salt = new Uint8Array(64).fill(9)
    const target = mutableTarget(signer.publicKey, salt)
    resultOf(ask('put', { ...signedArgs(1, new Uint8Array(995), salt), token: tokenFor(target) }))
    const answer = ask('get', { target, want: [text('n4'), text('n6')] })
    assert.equal(bytesOf(resultOf(answer)['v']).byteLength, 995)
    assert.equal(bytesOf(resultOf(answer)['nodes']).byteLength, 4 * 26)
    assert.ok((encodeBencode(answer ?? {})?.byteLength ?? 9999) <= 1500)
  })
})
