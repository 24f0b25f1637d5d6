/** Each kind of NAT does what its name says: measured with sockets on both sides, for UDP and TCP. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createLab, type Lab, labUnavailable, NAT_KINDS, type NatKind } from './lab.ts'
import { type Behaviour, measureTcp, measureUdp, seenFrom, seenTcp, type Strangers, untilFence } from './measure.ts'
import { ARRIVAL_MS, Probe } from './probe-client.ts'
import { type Party, punchUdp } from './punch.ts'

const skip = labUnavailable() ?? false

const EXPECTED: Readonly<Record<NatKind, Behaviour>> = {
  none: { mapping: 'independent', filtering: 'independent', preserves: true, sequential: false },
  'full-cone': { mapping: 'independent', filtering: 'independent', preserves: true, sequential: false },
  restricted: { mapping: 'independent', filtering: 'address', preserves: true, sequential: false },
  'port-restricted': { mapping: 'independent', filtering: 'address-port', preserves: true, sequential: false },
  'symmetric-sequential': {
    mapping: 'address-port',
    filtering: 'address-port',
    preserves: false,
    sequential: true,
  },
  symmetric: { mapping: 'address-port', filtering: 'address-port', preserves: false, sequential: false },
}

async function strangersOf(lab: Lab): Promise<Strangers> {
  return {
    first: new Probe(lab, await lab.publicHost('first')),
    second: new Probe(lab, await lab.publicHost('second')),
  }
}

describe('a NAT in the lab', { skip }, () => {
  for (const kind of NAT_KINDS) {
    it(`of the kind ${kind} maps and filters as its name says`, async t => {
      const lab = await createLab(t)
      const strangers = await strangersOf(lab)
      const host = new Probe(lab, await lab.natHost('host', { kind }))
      const expected = EXPECTED[kind]
      assert.deepEqual(await measureUdp(host, strangers, expected), expected, 'UDP')
      assert.deepEqual(await measureTcp(host, strangers, { ...expected, localPort: 20_001 }), expected, 'TCP')
    })
  }

  for (const kind of ['full-cone', 'restricted', 'port-restricted'] as const) {
    it(`of the kind ${kind} can give other ports than the inside has, and behaves the same`, async t => {
      const lab = await createLab(t)
      const strangers = await strangersOf(lab)
      const host = new Probe(lab, await lab.natHost('host', { kind, ports: 'assign' }))
      const expected = { ...EXPECTED[kind], preserves: false }
      assert.deepEqual(await measureUdp(host, strangers, expected), expected, 'UDP')
      assert.deepEqual(await measureTcp(host, strangers, { ...expected, localPort: 20_001 }), expected, 'TCP')
    })
  }

  it('keeps two hosts apart that use the same port', async t => {
    const lab = await createLab(t)
    const { first, second } = await strangersOf(lab)
    const site = await lab.site('home', { kind: 'full-cone', hosts: ['a', 'b'] })
    const [a, b] = site.hosts.map(host => new Probe(lab, host))
    assert(a !== undefined && b !== undefined)
    const [atFirst, atSecond] = [await first.udpOpen(), await second.udpOpen()]
    const [fromA, fromB] = [await a.udpOpen({ port: 4_000 }), await b.udpOpen({ port: 4_000 })]
    const outsideA = await seenFrom([a, fromA], [first, atFirst])
    const outsideB = await seenFrom([b, fromB], [first, atFirst])
    assert.equal(outsideA.port, 4_000)
    assert.notEqual(outsideB.port, 4_000)
    assert.deepEqual(await seenFrom([b, fromB], [second, atSecond]), outsideB)
    await second.udpSend(atSecond, outsideA, 'for a')
    await second.udpSend(atSecond, outsideB, 'for b')
    assert.equal((await a.udpNext(fromA))?.text, 'for a')
    assert.equal((await b.udpNext(fromB))?.text, 'for b')
  })

  for (const kind of ['restricted', 'port-restricted'] as const) {
    it(`of the kind ${kind} keeps its mapping towards somebody whose packet came too early`, async t => {
      const lab = await createLab(t)
      const { first, second } = await strangersOf(lab)
      const host = new Probe(lab, await lab.natHost('host', { kind }))
      const [socket, atFirst, atSecond] = [await host.udpOpen(), await first.udpOpen(), await second.udpOpen()]
      const outside = await seenFrom([host, socket], [first, atFirst])
      await second.udpSend(atSecond, outside, 'early')
      assert.deepEqual(await seenFrom([host, socket], [second, atSecond]), outside)
      await second.udpSend(atSecond, outside, 'fence')
      assert.deepEqual(await untilFence(host, socket), [])
    })
  }

  it('ends a mapping that nobody uses', async t => {
    const lab = await createLab(t)
    const { first } = await strangersOf(lab)
    const inside = await lab.natHost('host', { kind: 'full-cone', mappingSeconds: 1 })
    const host = new Probe(lab, inside)
    const [socket, other, stranger] = [await host.udpOpen(), await host.udpOpen(), await first.udpOpen()]
    // The fence comes in at a port that is open for good: a mapping may be gone before the fence is there.
    const [insideAddress = '', outsidePort] = [inside.ipv4, 5_000]
    await lab.forward(inside.site, { protocol: 'udp', outsidePort, insideAddress, insidePort: other.port })
    const isTracked = async (): Promise<boolean> =>
      /udp/.test((await lab.exec(inside.site.router, ['cat', '/proc/net/nf_conntrack'])).stdout)
    let outside = await seenFrom([host, socket], [first, stranger])
    // A machine that stands still for a second loses this one before the look at it: then it is made again.
    for (let tries = 1; !(await isTracked()); tries += 1) {
      assert(tries < 10, 'a mapping is seen')
      outside = await seenFrom([host, socket], [first, stranger])
    }
    while (await isTracked()) await new Promise(resolve => setImmediate(resolve))
    await first.udpSend(stranger, outside, 'too late')
    await first.udpSend(stranger, { address: inside.site.publicIpv4(), port: outsidePort }, 'fence')
    await untilFence(host, other)
    assert.equal(await host.udpNext(socket, 0), undefined)
  })

  it('does not mind another one with the same private addresses', async t => {
    const lab = await createLab(t)
    const { first } = await strangersOf(lab)
    const parties: Party[] = []
    for (const name of ['a', 'b']) {
      const host = await lab.natHost(name, { kind: 'port-restricted', network: '192.168.1' })
      assert.equal(host.ipv4, '192.168.1.10')
      parties.push({ kind: 'port-restricted', host, probe: new Probe(lab, host) })
    }
    const [a, b] = parties
    assert(a !== undefined && b !== undefined)
    assert.equal(await punchUdp(a, b, first), 'seen')
  })

  it('passes a forwarded port on, whoever calls', async t => {
    const lab = await createLab(t)
    const { first } = await strangersOf(lab)
    const inside = await lab.natHost('host', { kind: 'symmetric' })
    const host = new Probe(lab, inside)
    const [udp, tcp] = [await host.udpOpen(), await host.tcpListen('host')]
    const insideAddress = inside.ipv4 ?? ''
    await lab.forward(inside.site, { protocol: 'udp', outsidePort: 5_000, insideAddress, insidePort: udp.port })
    await lab.forward(inside.site, { protocol: 'tcp', outsidePort: 5_001, insideAddress, insidePort: tcp.port })
    const address = inside.site.publicIpv4()
    const stranger = await first.udpOpen()
    await first.udpSend(stranger, { address, port: 5_000 }, 'hello')
    const message = await host.udpNext(udp)
    assert.equal(message?.text, 'hello')
    assert.deepEqual(await seenFrom([host, udp], [first, stranger]), { address, port: 5_000 })
    const called = await first.tcpConnect({ address, port: 5_001 }, { token: 'first', timeoutMs: ARRIVAL_MS })
    assert.equal(called.peer, 'host')
  })
})

describe('a hairpin', { skip }, () => {
  for (const kind of ['full-cone', 'restricted', 'port-restricted'] as const) {
    for (const hairpin of [true, false]) {
      it(`at a ${kind} NAT ${hairpin ? 'works with its filter, from the outside address' : 'does not exist unless asked for'}`, async t => {
        const lab = await createLab(t)
        const { first } = await strangersOf(lab)
        const site = await lab.site('home', { kind, hairpin, hosts: ['a', 'b'] })
        const [a, b] = site.hosts.map(host => new Probe(lab, host))
        assert(a !== undefined && b !== undefined)
        const server = await first.udpOpen()
        const [fromA, fromB] = [await a.udpOpen(), await b.udpOpen()]
        const outsideA = await seenFrom([a, fromA], [first, server])
        const outsideB = await seenFrom([b, fromB], [first, server])
        await a.udpSend(fromA, outsideB, 'unasked')
        await first.udpSend(server, outsideB, 'fence')
        const isOpen = hairpin && kind === 'full-cone'
        const unasked = await untilFence(b, fromB, isOpen ? ['unasked'] : [])
        assert.deepEqual(unasked, isOpen ? [{ text: 'unasked', from: outsideA }] : [])
        await b.udpSend(fromB, outsideA, 'answer')
        await first.udpSend(server, outsideA, 'fence')
        const answer = await untilFence(a, fromA, hairpin ? ['answer'] : [])
        assert.deepEqual(answer, hairpin ? [{ text: 'answer', from: outsideB }] : [])
        await a.udpSend(fromA, outsideB, 'asked')
        await first.udpSend(server, outsideB, 'fence')
        const asked = await untilFence(b, fromB, hairpin ? ['asked'] : [])
        assert.deepEqual(asked, hairpin ? [{ text: 'asked', from: outsideA }] : [])
        if (isOpen) await hairpinTcp([a, b], first, site.publicIpv4())
      })
    }
  }
})

/** One listens where it spoke from; the other calls its outside port, and is seen with the outside address. */
async function hairpinTcp([a, b]: readonly [Probe, Probe], server: Probe, address: string): Promise<void> {
  const outside = await seenTcp(b, server, 20_001)
  const listener = await b.tcpListen('b', 20_001)
  const called = await a.tcpConnect(outside, { token: 'a', timeoutMs: ARRIVAL_MS, again: true })
  assert.equal(called.peer, 'b')
  const accepted = await b.tcpAccepted(listener)
  assert.equal(accepted.peer, 'a')
  assert.equal(accepted.remote?.address, `::ffff:${address}`)
}
