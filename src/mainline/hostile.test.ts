/** Whatever arrives: nothing throws, nothing changes that should not, and memory stays bounded. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { concatBytes, type Random, seededRandom, toHex } from '#base'
import { ed25519Signer } from '#crypto'
import type { DatagramSocket, Endpoint, MainlineNode } from '#mainline'
import { createMemoryNetwork, type MemoryNetwork } from '../../test/support/memory-network.ts'
import { compactContacts, compactEndpoint } from './address.ts'
import { type BencodeValue, decodeBencode, encodeBencode, isDict } from '#formats'
import { mutableTarget, signedBytes } from './items.ts'
import { decodeMessage } from './krpc.ts'

const SEED = 7_654_321
const MUTATIONS = 10_000
const VICTIM: Endpoint = { host: '40.1.1.1', port: 6881 }
const ATTACKER: Endpoint = { host: '90.1.1.1', port: 1234 }

type Dict = { readonly [key: string]: BencodeValue }

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const bytes = (size: number, fill = 7): Uint8Array => new Uint8Array(size).fill(fill)

function encode(value: BencodeValue): Uint8Array {
  const encoded = encodeBencode(value)
  assert.ok(encoded !== undefined)
  return encoded
}

/** One of each type of bencode, none of them of the size of anything. */
const OTHERS: readonly BencodeValue[] = [
  -1,
  2 ** 40,
  new Uint8Array(),
  text('x'),
  bytes(300),
  [],
  [[]],
  {},
  [bytes(6), 1],
  { id: bytes(20) },
]

type Attack = {
  readonly network: MemoryNetwork
  readonly victim: MainlineNode
  readonly socket: DatagramSocket
  /** What the victim has sent to the attacker since the last call. */
  readonly received: () => Uint8Array[]
}

async function attack(): Promise<Attack> {
  const network = createMemoryNetwork(SEED)
  const rate = { tokensMax: 1e6, perSecond: 1e6 }
  const victim = await network.node([VICTIM], { addressRate: rate, totalRate: rate })
  const socket = network.socket(ATTACKER)
  let received: Uint8Array[] = []
  socket.onMessage(message => void received.push(message))
  return {
    network,
    victim,
    socket,
    received: () => {
      const messages = received
      received = []
      return messages
    },
  }
}

/** Everything about a node that a datagram could change, counts aside of what was refused. */
function stateOf(node: MainlineNode): unknown {
  const { families, storedPeers, storedItems, queriesInFlight, sent } = node.status()
  return { families, storedPeers, storedItems, queriesInFlight, sent, contacts: node.contacts() }
}

/** Each query with arguments that are right, but for the token. */
function queries(token: Uint8Array): Dict[] {
  const signer = ed25519Signer(bytes(32))
  const [id, target, value, salt] = [bytes(20, 3), bytes(20, 4), text('value'), text('salt')]
  const valueBytes = encode(value)
  const sig = signer.sign(signedBytes({ salt, seq: 1, valueBytes }))
  const args: Readonly<Record<string, Dict>> = {
    ping: { id },
    find_node: { id, target, want: [text('n4'), text('n6')] },
    get_peers: { id, info_hash: target, want: [text('n4')] },
    announce_peer: { id, info_hash: target, port: 99, token, implied_port: 0 },
    get: { id, target, seq: 1, want: [text('n6')] },
    put: { id, token, v: value, k: signer.publicKey, sig, seq: 1, salt, cas: 0 },
  }
  return Object.entries(args).map(([q, a]) => ({ a, q: text(q), t: text('aa'), y: text('q'), ro: 0 }))
}

function responses(t: Uint8Array): Dict[] {
  const [id, contact] = [bytes(20, 3), concatBytes([bytes(20, 5), Uint8Array.of(91, 1, 1, 1, 0, 9)])]
  const peer = Uint8Array.of(92, 1, 1, 1, 0, 9)
  const item = { k: bytes(32), sig: bytes(64), seq: 1, v: text('value') }
  const r = { id, nodes: contact, nodes6: new Uint8Array(38), values: [peer], token: text('token'), ...item }
  return [{ r, t, y: text('r'), ip: Uint8Array.of(40, 1, 1, 1, 0, 9) }]
}

/** Every copy of a message in which one field is of another type, is another, or is not there. */
function* wrongFields(message: Dict, inside: 'a' | 'r'): Generator<{ name: string; message: Dict }> {
  const inner = message[inside]
  assert.ok(isDict(inner))
  for (const other of OTHERS) {
    for (const name of Object.keys(message)) yield { name, message: { ...message, [name]: other } }
    for (const name of Object.keys(inner)) {
      yield { name: `${inside}.${name}`, message: { ...message, [inside]: { ...inner, [name]: other } } }
    }
  }
  for (const name of Object.keys(message)) yield { name, message: without(message, name) }
  for (const name of Object.keys(inner)) {
    yield { name: `${inside}.${name}`, message: { ...message, [inside]: without(inner, name) } }
  }
}

function without(dict: Dict, name: string): Dict {
  return Object.fromEntries(Object.entries(dict).filter(([key]) => key !== name))
}

function mutate(original: Uint8Array, random: Random): Uint8Array {
  const copy = original.slice()
  const at = (): number => random.uint32() % copy.byteLength
  switch (random.uint32() % 5) {
    case 0:
      for (let i = random.uint32() % 4; i >= 0; i--) copy[at()] = random.uint32() & 0xff
      return copy
    case 1:
      return copy.subarray(0, at())
    case 2:
      return concatBytes([copy.subarray(0, at()), copy.subarray(at())])
    case 3: {
      const signs = text('0123456789-:deil')
      for (let i = random.uint32() % 3; i >= 0; i--) copy[at()] = signs[random.uint32() % signs.byteLength] ?? 0
      return copy
    }
    default:
      return concatBytes([copy.subarray(0, at()), random.bytes(random.uint32() % 40), copy.subarray(at())])
  }
}

describe('hostile datagrams', () => {
  it('what breaks the library reaches it never', () => {
    const packets = ['l-3:e', 'd-5:ai1ee', 'i1.5e', 'i-0e', 'i01e', 'ie', '01:a', '9:abc', '99999999999999999999:a']
    const more = [
      'd9:__proto__dee',
      'd1:ai1e1:ai2ee',
      'd1:\u00ff1:ae',
      'i9007199254740993e',
      'l',
      'd',
      'd1:a',
      'i1ex',
      '',
    ]
    for (const packet of [...packets, ...more, 'l'.repeat(700) + 'e'.repeat(700)]) {
      const raw = Uint8Array.from(packet, char => char.charCodeAt(0))
      assert.equal(decodeBencode(raw), undefined, packet.slice(0, 40))
    }
  })

  it('a wrong field in a query gives error 203 at most, and changes nothing', async () => {
    const { network, victim, socket, received } = await attack()
    const before = stateOf(victim)
    let count = 0
    for (const query of queries(bytes(8))) {
      for (const { name, message } of wrongFields(query, 'a')) {
        socket.send(encode(message), VICTIM)
        network.clock.advance(20)
        network.clock.advance(20)
        for (const reply of received()) {
          const decoded = decodeMessage(reply)
          // What is left out or is as good as right is answered, or asked back; else 203, or 204 for another method.
          if (decoded.kind === 'error')
            assert.ok([203, 204, 205, 207].includes(decoded.code), `${name} ${decoded.code}`)
        }
        count++
      }
      assert.equal(victim.status().storedPeers + victim.status().storedItems, 0)
    }
    assert.ok(count > 300)
    assert.deepEqual(
      { ...(stateOf(victim) as object), sent: 0, queriesInFlight: 0 },
      { ...(before as object), sent: 0 },
    )
  })

  it('each field of each query has a type, and 203 is the answer to another', async () => {
    const { network, victim, socket, received } = await attack()
    const right: Readonly<Record<string, (value: BencodeValue) => boolean>> = {
      t: value => value instanceof Uint8Array && value.byteLength === 1,
      ro: value => value === 0,
      q: value => value instanceof Uint8Array && value.byteLength === 1, // Unknown, which is 204.
      'a.v': () => true,
      'a.token': value => value instanceof Uint8Array && value.byteLength < 128,
      'a.salt': value => value instanceof Uint8Array,
      'a.seq': value => value === 2 ** 40,
      'a.cas': value => value === 2 ** 40,
      'a.implied_port': value => value === 2 ** 40,
      'a.want': value => Array.isArray(value) && value.length === 0,
    }
    for (const query of queries(bytes(8))) {
      for (const other of OTHERS) {
        const inner = query['a'] as Dict
        const cases: Array<[string, Dict]> = [
          ...['q', 'ro', 'a'].map((name): [string, Dict] => [name, { ...query, [name]: other }]),
          ...Object.keys(inner).map((name): [string, Dict] => [
            `a.${name}`,
            { ...query, a: { ...inner, [name]: other } },
          ]),
        ]
        for (const [name, message] of cases) {
          if (right[name]?.(other) === true) continue
          const isIdOnly = name === 'a' && isDict(other) && query['q'] !== undefined && 'id' in other
          if (isIdOnly) continue // A ping needs no more; the others are refused below.
          const sentBefore = victim.status().sent
          socket.send(encode(message), VICTIM)
          network.clock.advance(20)
          network.clock.advance(20)
          const replies = received().map(decodeMessage)
          assert.equal(replies.length, 1, `${name} ${JSON.stringify(other)}`)
          const [reply] = replies
          assert.equal(reply?.kind === 'error' ? reply.code : reply?.kind, 203, `${name} ${JSON.stringify(other)}`)
          assert.deepEqual(victim.status().sent, sentBefore, 'nobody is pinged for it')
        }
      }
    }
  })

  it('a wrong field in an answer makes it none', async () => {
    const { network, victim, socket } = await attack()
    let wrong: (t: Uint8Array) => Dict = () => ({})
    socket.onMessage(message => {
      const query = decodeBencode(message)
      if (isDict(query) && query['t'] instanceof Uint8Array) socket.send(encode(wrong(query['t'])), VICTIM)
    })
    const optional = new Set(['r', 'ip', 'r.nodes', 'r.nodes6', 'r.values', 'r.token', 'r.k', 'r.sig', 'r.seq', 'r.v'])
    const [sample] = responses(text('aaaa'))
    assert.ok(sample !== undefined)
    const names = [...wrongFields(sample, 'r')].map(({ name }) => name)
    for (let index = 0; index < names.length; index++) {
      const name = names[index] ?? ''
      let value: BencodeValue | undefined
      wrong = t => {
        const [message] = responses(t)
        const chosen = [...wrongFields(message ?? {}, 'r')][index]?.message ?? {}
        const inner = chosen['r']
        value = name.startsWith('r.') ? (isDict(inner) ? inner[name.slice(2)] : undefined) : chosen[name]
        return chosen
      }
      const found = await network.settle(victim.bootstrap([`${ATTACKER.host}:${ATTACKER.port}`]))
      if (found === 0) continue
      // It was taken: then what was changed is optional and left out, or of the right type all the same.
      const isBytes = value instanceof Uint8Array
      const isRight =
        value === undefined ||
        name === 'r.v' ||
        (name === 'r' && isDict(value)) ||
        isBytes ||
        (name === 'r.seq' && value === 2 ** 40)
      assert.ok(optional.has(name) && (isRight || (Array.isArray(value) && value.length === 0)), `${name} was taken`)
      await network.settle(victim.stop())
      await network.settle(victim.start())
    }
  })

  it(`${MUTATIONS} mutated datagrams (seed ${SEED}): no exception, no state`, async () => {
    const { network, victim, socket, received } = await attack()
    const random = seededRandom(SEED)
    const originals = [
      ...queries(bytes(8)),
      ...responses(text('aa')),
      { e: [201, text('no')], t: text('aa'), y: text('e') },
    ]
    const encoded = originals.map(encode)
    for (let i = 0; i < MUTATIONS; i++) {
      const original = encoded[random.uint32() % encoded.length] ?? new Uint8Array()
      const packet = mutate(original, random)
      assert.doesNotThrow(() => decodeMessage(packet), toHex(packet))
      socket.send(packet, VICTIM)
      if (i % 50 === 0) network.clock.advance(20)
    }
    await network.quiet()
    network.clock.advance(3_000)
    const { storedPeers, storedItems, families, dropped, asked } = victim.status()
    assert.deepEqual([storedPeers, storedItems, families[0]?.contacts], [0, 0, 0])
    assert.ok(dropped > MUTATIONS / 4, `${dropped} dropped`)
    assert.ok(Object.keys(asked).length > 0, 'some are as good as right')
    assert.ok(received().length > 0)
  })

  it('answers that nobody asked for change nothing', async () => {
    const { network, victim, socket } = await attack()
    const before = stateOf(victim)
    for (let i = 0; i < 300; i++) for (const message of responses(bytes(4, i))) socket.send(encode(message), VICTIM)
    await network.quiet()
    assert.deepEqual(stateOf(victim), before)
  })

  it('an answer from another address is none, even under the right number', async () => {
    const { network, victim, socket } = await attack()
    const other = network.socket({ host: '90.1.1.1', port: 4321 })
    socket.onMessage(message => {
      const query = decodeBencode(message)
      if (isDict(query) && query['t'] instanceof Uint8Array) other.send(encode(responses(query['t'])[0] ?? {}), VICTIM)
    })
    assert.equal(await network.settle(victim.bootstrap(['90.1.1.1:1234'])), 0)
    assert.ok(victim.status().dropped > 0)
  })

  it('an answer under another id than was asked is none, and makes the contact another one', async () => {
    const { network, victim, socket } = await attack()
    let id = bytes(20, 3)
    socket.onMessage(message => {
      const query = decodeBencode(message)
      if (!isDict(query) || !(query['t'] instanceof Uint8Array)) return
      socket.send(encode({ r: { id, token: text('token') }, t: query['t'], y: text('r') }), VICTIM)
    })
    assert.equal(await network.settle(victim.bootstrap(['90.1.1.1:1234'])), 1)
    assert.equal(await network.settle(victim.announce(bytes(20), 1)), 1)
    id = bytes(20, 9)
    assert.equal(await network.settle(victim.announce(bytes(20), 1)), 0)
    assert.deepEqual(victim.contacts(), [{ id, ...ATTACKER }])
  })

  it('nobody sends us to our own network, to everybody, or out of the family', async () => {
    const { network, victim, socket } = await attack()
    const traps = ['10.0.0.5', '192.168.1.1', '127.0.0.1', '169.254.1.1', '224.0.0.1', '0.0.0.0', '2001:db8::5']
    const fallen: string[] = []
    for (const host of traps) network.socket({ host, port: 7 }).onMessage(() => void fallen.push(host))
    const reachable = network.socket({ host: '91.1.1.1', port: 7 })
    reachable.onMessage(() => void fallen.push('91.1.1.1'))
    const contacts = [...traps, '91.1.1.1'].map((host, i) => ({ id: bytes(20, i + 1), host, port: 7 }))
    const [nodes6, nodes] = [
      contacts.filter(({ host }) => host.includes(':')),
      contacts.filter(({ host }) => !host.includes(':')),
    ]
    socket.onMessage(message => {
      const query = decodeBencode(message)
      if (!isDict(query) || !(query['t'] instanceof Uint8Array)) return
      const values = nodes.map(compactEndpoint)
      const r = { id: bytes(20, 99), nodes: compactContacts(nodes), nodes6: compactContacts(nodes6), values }
      socket.send(encode({ r, t: query['t'], y: text('r') }), VICTIM)
    })
    await network.settle(victim.bootstrap(['90.1.1.1:1234']))
    const peers: Endpoint[] = []
    const read = async (): Promise<void> => {
      for await (const peer of victim.getPeers(bytes(20))) peers.push(peer)
    }
    await network.settle(read())
    assert.deepEqual([...new Set(fallen)], ['91.1.1.1'])
    assert.deepEqual(peers, [{ host: '91.1.1.1', port: 7 }])
  })

  it('forged values are not taken: another key, another salt, another number, another value', async () => {
    const { network, victim, socket } = await attack()
    const signer = ed25519Signer(bytes(32))
    const salt = text('salt')
    const valueBytes = encode(text('value'))
    const sig = signer.sign(signedBytes({ salt, seq: 3, valueBytes }))
    const good = { v: text('value'), seq: 3, sig, k: signer.publicKey }
    let answer: Dict = good
    socket.onMessage(message => {
      const query = decodeBencode(message)
      if (!isDict(query) || !(query['t'] instanceof Uint8Array)) return
      socket.send(encode({ r: { id: bytes(20, 3), ...answer }, t: query['t'], y: text('r') }), VICTIM)
    })
    await network.settle(victim.bootstrap(['90.1.1.1:1234']))
    const get = (asked: Uint8Array) => network.settle(victim.getMutable(signer.publicKey, asked))
    assert.equal((await get(salt))?.seq, 3)
    assert.equal(await get(text('other')), undefined)
    for (const change of [{ seq: 4 }, { v: text('other') }, { k: bytes(32) }, { sig: bytes(64) }]) {
      answer = { ...good, ...change }
      assert.equal(await get(salt), undefined)
    }
    assert.equal(await network.settle(victim.getImmutable(mutableTarget(signer.publicKey, salt))), undefined)
  })

  it('what nobody understands is limited too', async () => {
    const network = createMemoryNetwork(SEED)
    const victim = await network.node([VICTIM])
    const loud = network.socket(ATTACKER)
    for (let i = 0; i < 500; i++) loud.send(text('noise'), VICTIM)
    await network.quiet()
    const { limited, dropped } = victim.status()
    assert.deepEqual([limited + dropped, dropped < 45], [500, true])
  })

  it('whoever asks too much is not heard, and others are', async () => {
    const network = createMemoryNetwork(SEED)
    const victim = await network.node([VICTIM])
    const loud = network.socket(ATTACKER)
    const quiet = network.socket({ host: '91.1.1.1', port: 1 })
    let [toLoud, toQuiet] = [0, 0]
    const isReply = (message: Uint8Array): boolean => decodeMessage(message).kind === 'response'
    loud.onMessage(message => void (toLoud += isReply(message) ? 1 : 0))
    quiet.onMessage(message => void (toQuiet += isReply(message) ? 1 : 0))
    const ping = encode(queries(bytes(8))[0] ?? {})
    for (let i = 0; i < 500; i++) loud.send(ping, VICTIM)
    quiet.send(ping, VICTIM)
    await network.quiet()
    assert.ok(toLoud >= 40 && toLoud < 45, `${toLoud}`)
    assert.equal(toQuiet, 1)
    assert.ok(victim.status().limited >= 455)
  })
})
