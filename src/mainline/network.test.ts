/** Whole networks of nodes in memory: what one announces or puts, another finds. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fromHex, toHex } from '#base'
import { ed25519Signer } from '#crypto'
import type { Endpoint, MainlineNode, MainlineOptions } from '#mainline'
import { createMemoryNetwork, type MemoryNetwork } from '../../test/support/memory-network.ts'
import { fitsAddress } from './node-id.ts'

const SEED = 20_240_501
const text = (value: string): Uint8Array => new TextEncoder().encode(value)

type Grown = { readonly network: MemoryNetwork; readonly nodes: readonly MainlineNode[] }

/** Nodes that all begin with the first one, each on a public address of a prefix of its own. */
async function grow(count: number, options: MainlineOptions = {}): Promise<Grown> {
  const network = createMemoryNetwork(SEED)
  const nodes: MainlineNode[] = []
  for (let i = 0; i < count; i++) nodes.push(await network.node([addressOf(i)], options))
  for (const node of nodes.slice(1)) await network.settle(node.bootstrap([`${addressOf(0).host}:6881`]))
  return { network, nodes }
}

function addressOf(index: number): Endpoint {
  return { host: `20.${index}.${(index * 7) % 250}.9`, port: 6881 }
}

function at(nodes: readonly MainlineNode[], index: number): MainlineNode {
  const node = nodes[index]
  assert.ok(node !== undefined)
  return node
}

async function collect(network: MemoryNetwork, peers: AsyncIterable<Endpoint>): Promise<Endpoint[]> {
  const found: Endpoint[] = []
  const read = async (): Promise<void> => {
    for await (const peer of peers) found.push(peer)
  }
  await network.settle(read())
  return found
}

describe(`a network of 50 nodes (seed ${SEED})`, async () => {
  const { network, nodes } = await grow(50)

  it('knows itself: ids follow from addresses that others have seen', () => {
    const families = nodes.map(node => node.status().families[0])
    const moved = families.filter(family => family?.externalHost !== undefined)
    assert.ok(moved.length > 40, `only ${moved.length} know their address`)
    for (const family of moved) {
      assert.equal(family?.externalHost, family?.local.host)
      assert.ok(fitsAddress(fromHex(family?.nodeId ?? ''), family?.local.host ?? ''))
    }
  })

  it('finds what was announced, wherever it is asked', async () => {
    const infoHash = network.random.bytes(20)
    for (const index of [3, 17, 33]) {
      assert.equal(await network.settle(at(nodes, index).announce(infoHash, 4000 + index)), 8)
    }
    for (const index of [0, 20, 49]) {
      const found = await collect(network, at(nodes, index).getPeers(infoHash))
      const expected = [3, 17, 33].map(i => `${addressOf(i).host}:${4000 + i}`)
      assert.deepEqual(found.map(({ host, port }) => `${host}:${port}`).sort(), expected.sort())
    }
  })

  it('gives the newest value under a key and salt, and refuses an older one', async () => {
    const signer = ed25519Signer(network.random.bytes(32))
    const salt = text('here')
    const put = (index: number, seq: number, value: string): Promise<number> =>
      network.settle(at(nodes, index).putMutable({ signer, salt, seq, value: text(value) }))
    const get = (index: number) => network.settle(at(nodes, index).getMutable(signer.publicKey, salt))
    assert.equal(await put(5, 1, 'first'), 8)
    assert.equal((await get(40))?.seq, 1)
    assert.ok((await put(6, 7, 'second')) >= 8)
    const found = await get(44)
    assert.deepEqual([found?.seq, found?.value], [7, text('second')])
    await assert.rejects(put(9, 6, 'older'), { fault: { code: 'MAINLINE_ITEM_NEWER', seq: 7 } })
    await assert.rejects(put(9, 7, 'other'), { fault: { code: 'MAINLINE_ITEM_NEWER', seq: 7 } })
    assert.ok((await put(9, 7, 'second')) >= 8, 'the same again keeps it alive')
    assert.equal(await network.settle(at(nodes, 1).getMutable(signer.publicKey, text('there'))), undefined)
  })

  it('swaps only what is as the putter believes', async () => {
    const signer = ed25519Signer(network.random.bytes(32))
    const put = (seq: number, cas?: number): Promise<number> => {
      const item = { signer, seq, value: [seq] }
      return network.settle(at(nodes, 8).putMutable(cas === undefined ? item : { ...item, cas }))
    }
    await put(3)
    await assert.rejects(put(4, 2), { code: 'MAINLINE_ITEM_NEWER' })
    assert.ok((await put(4, 3)) >= 8)
  })

  it('gives a value by its hash', async () => {
    const value = { list: [1, -2, text('three')], nested: { deep: {} } }
    const { target, stored } = await network.settle(at(nodes, 30).putImmutable(value))
    assert.equal(stored, 8)
    assert.deepEqual(await network.settle(at(nodes, 2).getImmutable(target)), value)
    assert.equal(await network.settle(at(nodes, 2).getImmutable(network.random.bytes(20))), undefined)
  })

  it('forgets peers after half an hour, values after two hours', async () => {
    const infoHash = network.random.bytes(20)
    await network.settle(at(nodes, 3).announce(infoHash, 1))
    const { target } = await network.settle(at(nodes, 3).putImmutable(text('for two hours')))
    network.clock.advance(31 * 60_000)
    assert.deepEqual(await collect(network, at(nodes, 20).getPeers(infoHash)), [])
    assert.ok((await network.settle(at(nodes, 20).getImmutable(target))) !== undefined)
    network.clock.advance(90 * 60_000)
    assert.equal(await network.settle(at(nodes, 20).getImmutable(target)), undefined)
  })

  it('goes on when a third of it is gone', async () => {
    const infoHash = network.random.bytes(20)
    await network.settle(at(nodes, 4).announce(infoHash, 777))
    for (const node of nodes.slice(34)) await network.settle(node.stop())
    assert.equal((await collect(network, at(nodes, 10).getPeers(infoHash))).length, 1)
    const before = at(nodes, 10).status().queriesInFlight
    assert.ok(before < 10)
  })

  it('stops with every lookup that is under way', async () => {
    const pending = at(nodes, 0).announce(network.random.bytes(20), 5)
    const outcome = assert.rejects(pending, { code: 'MAINLINE_STOPPED' })
    for (const node of nodes) await node.stop()
    await outcome
    await assert.rejects(at(nodes, 0).announce(network.random.bytes(20), 5), { code: 'MAINLINE_STOPPED' })
    assert.equal(at(nodes, 0).status().isRunning, false)
  })
})

describe('one node and another', () => {
  it('a read-only node asks, answers nothing, and enters no table', async () => {
    const { network, nodes } = await grow(6)
    const reader = await network.node([{ host: '30.1.1.1', port: 9 }], { isReadOnly: true })
    await network.settle(reader.bootstrap([`${addressOf(0).host}:6881`]))
    const infoHash = network.random.bytes(20)
    assert.ok((await network.settle(reader.announce(infoHash, 55))) >= 5)
    await network.quiet()
    assert.deepEqual(reader.status().asked, {})
    for (const node of nodes) assert.ok(!node.contacts().some(({ host }) => host === '30.1.1.1'))
    assert.equal((await collect(network, at(nodes, 1).getPeers(infoHash)))[0]?.host, '30.1.1.1')
  })

  it('ids that do not fit their address are left out where that is wanted', async () => {
    const network = createMemoryNetwork(SEED)
    const strict = await network.node([{ host: '50.1.1.1', port: 1 }], { isNodeIdEnforced: true })
    await network.node([{ host: '51.1.1.1', port: 1 }], { nodeId: new Uint8Array(20) })
    await network.node([{ host: '10.1.1.1', port: 1 }], { nodeId: new Uint8Array(20).fill(9) })
    assert.equal(await network.settle(strict.bootstrap(['51.1.1.1:1', '10.1.1.1:1'])), 1)
    assert.equal(strict.contacts()[0]?.host, '10.1.1.1')
  })

  it('whoever has one block of addresses gets three places', async () => {
    const network = createMemoryNetwork(SEED)
    const victim = await network.node([{ host: '60.1.1.1', port: 1 }])
    for (let i = 1; i < 100; i++) {
      const sybil = await network.node([{ host: `66.6.6.${i}`, port: 1 }])
      await network.settle(sybil.bootstrap(['60.1.1.1:1']))
    }
    await network.quiet()
    assert.equal(victim.status().families[0]?.contacts, 3)
  })

  it('contacts of an earlier run are asked, and come back when they answer', async () => {
    const { network, nodes } = await grow(6)
    const kept = at(nodes, 2).contacts()
    const later = await network.node([{ host: '70.1.1.1', port: 1 }])
    later.addContacts([...kept, { id: new Uint8Array(20), host: 'nonsense', port: 0 }])
    await network.quiet()
    const hosts = later.contacts().map(({ host }) => host)
    assert.ok(kept.length >= 4 && kept.every(({ host }) => hosts.includes(host)))
  })

  it('IPv4 and IPv6 are two networks of one node, and each tells of the other when asked', async () => {
    const network = createMemoryNetwork(SEED)
    const locals = (i: number): Endpoint[] => [
      { host: `80.${i}.1.1`, port: 1 },
      { host: `2001:db8:${i}::1`, port: 1 },
    ]
    const nodes: MainlineNode[] = []
    for (let i = 1; i <= 5; i++) nodes.push(await network.node(locals(i)))
    for (const node of nodes.slice(1)) await network.settle(node.bootstrap(['80.1.1.1:1', '[2001:db8:1::1]:1']))
    await network.quiet()
    const infoHash = network.random.bytes(20)
    assert.equal(await network.settle(at(nodes, 1).announce(infoHash, 5)), 8)
    const found = await collect(network, at(nodes, 4).getPeers(infoHash))
    assert.deepEqual(found.map(({ host }) => host).sort(), ['2001:db8:2::1', '80.2.1.1'])
  })

  it('a network that was down for a while comes back, without anybody to begin with', async () => {
    const { network, nodes } = await grow(6)
    const later = await network.node([{ host: '70.1.1.1', port: 1 }])
    later.addContacts(at(nodes, 2).contacts())
    await network.quiet()
    network.isDown = true
    for (let i = 0; i < 3; i++) await network.settle(later.announce(network.random.bytes(20), 1))
    assert.equal(await network.settle(later.announce(network.random.bytes(20), 1)), 0)
    assert.deepEqual(later.contacts(), [])
    network.isDown = false
    network.clock.advance(60_000)
    await network.quiet()
    assert.ok((await network.settle(later.announce(network.random.bytes(20), 1))) >= 5)
  })

  it('who is silent does not hold up a lookup for as long as his answer is waited for', async () => {
    const { network, nodes } = await grow(8, { lookupParallelMax: 1 })
    for (const node of nodes.slice(0, 4)) await node.stop()
    const before = network.clock.now()
    await network.settle(at(nodes, 7).announce(network.random.bytes(20), 1))
    const tookMs = network.clock.now() - before
    assert.ok(tookMs < 4 * 1_500, `${tookMs} ms for four silent ones of 2000 ms each`)
  })

  it('buckets that nothing changed in are refreshed', async () => {
    const { network, nodes } = await grow(6)
    const before = at(nodes, 1).status().sent['find_node'] ?? 0
    for (let i = 0; i < 20; i++) {
      network.clock.advance(60_000)
      await network.quiet()
    }
    assert.ok((at(nodes, 1).status().sent['find_node'] ?? 0) > before)
    assert.equal(at(nodes, 1).status().families[0]?.goodContacts, 5)
  })

  it('leaving the loop ends a lookup; a signal ends it with its reason', async () => {
    const { network, nodes } = await grow(12)
    const infoHash = network.random.bytes(20)
    await network.settle(at(nodes, 3).announce(infoHash, 1))
    const first = async (): Promise<Endpoint | undefined> => {
      for await (const peer of at(nodes, 9).getPeers(infoHash)) return peer
      return undefined
    }
    assert.equal((await network.settle(first()))?.port, 1)
    assert.equal(at(nodes, 9).status().lookups, 0)
    const aborted = new AbortController()
    const pending = at(nodes, 9).getMutable(new Uint8Array(32), undefined, { signal: aborted.signal })
    aborted.abort(new Error('enough'))
    await assert.rejects(pending, /enough/)
  })

  it('says what it was asked wrongly for', async () => {
    const network = createMemoryNetwork(SEED)
    const node = await network.node([{ host: '80.1.1.1', port: 1 }])
    const signer = ed25519Signer(new Uint8Array(32))
    const value = (size: number): Uint8Array => new Uint8Array(size)
    await assert.rejects(node.bootstrap(['nowhere']), { code: 'MAINLINE_ADDRESS_INVALID' })
    await assert.rejects(node.bootstrap(['1.2.3.4:70000']), { code: 'MAINLINE_ADDRESS_INVALID' })
    await assert.rejects(node.announce(value(19), 1), { code: 'MAINLINE_KEY_INVALID' })
    await assert.rejects(node.announce(value(20), 0), { code: 'MAINLINE_ADDRESS_INVALID' })
    await assert.rejects(node.putImmutable(value(996)), { code: 'MAINLINE_VALUE_INVALID' })
    await assert.rejects(node.putImmutable(1.5), { code: 'MAINLINE_VALUE_INVALID' })
    await assert.rejects(node.putMutable({ signer, seq: -1, value: 1 }), { code: 'MAINLINE_VALUE_INVALID' })
    await assert.rejects(node.putMutable({ signer, seq: 1, salt: value(65), value: 1 }), {
      code: 'MAINLINE_VALUE_INVALID',
    })
    assert.equal((await node.putImmutable(value(995))).stored, 0)
    assert.equal(toHex((await node.putImmutable(1)).target).length, 40)
    const many = Array.from({ length: 17 }, () => node.announce(value(20), 1))
    assert.ok((await Promise.allSettled(many)).some(({ status }) => status === 'rejected'))
  })
})
