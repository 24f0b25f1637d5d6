import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { ManualClock, seededRandom } from '#base'
import { Lookup } from './lookup.ts'
import { prefixOf } from './address.ts'
import { CONTACT_GOOD_MS, LOOKUP_CANDIDATES_MAX, LOOKUP_QUERIES_MAX } from './limits.ts'
import { compareDistance, idSharing, sharedBits } from './node-id.ts'
import { RoutingTable } from './routing-table.ts'
import type { Contact } from './types.ts'

const SEED = 11
const random = seededRandom(SEED)
const OWN = random.bytes(20)

/** Contacts at so many shared bits, each of a prefix of its own. */
function contact(index: number, bits = 0): Contact {
  return { id: idSharing(OWN, bits, random), host: `${20 + (index >> 8)}.${index & 255}.0.1`, port: 1 }
}

describe('the routing table', () => {
  it('keeps eight a bucket, old ones first, and newer ones for when those are gone', () => {
    const clock = new ManualClock()
    const table = new RoutingTable({ clock }, OWN)
    const contacts = Array.from({ length: 12 }, (_, i) => contact(i))
    for (const each of contacts) assert.equal(table.answered(each), undefined)
    assert.deepEqual([table.size, table.replacements, table.goodContacts], [8, 4, 8])
    const [first, second] = contacts
    assert.ok(first !== undefined && second !== undefined)
    table.failed(first)
    assert.ok(table.closest(first.id).includes(first), 'one failure is none')
    table.failed(first)
    assert.ok(!table.closest(first.id).includes(first))
    assert.deepEqual([table.size, table.replacements], [8, 3])
    clock.advance(CONTACT_GOOD_MS)
    assert.equal(table.goodContacts, 0)
    const asked = table.answered(contact(50))
    assert.equal(asked, second, 'the one that was silent longest is asked whether it is there')
    assert.ok(table.heard(second))
    assert.equal(table.goodContacts, 1)
  })

  it('gives the place of a bad contact to the next one that comes', () => {
    const table = new RoutingTable({ clock: new ManualClock() }, OWN)
    const contacts = Array.from({ length: 8 }, (_, i) => contact(i))
    for (const each of contacts) table.answered(each)
    const [bad, next] = [contacts[3] ?? contact(3), contact(20)]
    assert.ok(!table.wants(next))
    table.failed(bad)
    table.failed(bad)
    assert.deepEqual([table.bad(), table.size, table.wants(next)], [[bad], 8, true])
    assert.equal(table.answered(next), undefined)
    assert.deepEqual([table.bad(), table.size, table.replacements], [[], 8, 0])
    assert.ok(table.contacts().includes(next))
  })

  it('takes two of a prefix in a bucket and three in all', () => {
    const table = new RoutingTable({ clock: new ManualClock() }, OWN)
    for (let i = 0; i < 6; i++) {
      for (const bits of [0, 1, 2])
        table.answered({ id: idSharing(OWN, bits, random), host: `1.2.3.${9 * i + bits}`, port: 1 })
    }
    assert.deepEqual([table.size, table.replacements], [3, 0])
    const other = new RoutingTable({ clock: new ManualClock() }, OWN)
    for (let i = 0; i < 6; i++) other.answered({ id: idSharing(OWN, 1, random), host: `1.2.3.${i}`, port: 1 })
    assert.equal(other.size, 2)
    const exempt = new RoutingTable({ clock: new ManualClock() }, OWN, { isLoopbackExempt: true })
    for (let port = 1; port <= 8; port++) exempt.answered({ id: idSharing(OWN, 0, random), host: '127.0.0.1', port })
    assert.equal(exempt.size, 8)
  })

  it('has one id for an endpoint, and one endpoint for an id', () => {
    const clock = new ManualClock()
    const table = new RoutingTable({ clock }, OWN)
    const first = contact(1)
    table.answered(first)
    table.answered({ ...first, host: '99.9.9.9' })
    assert.deepEqual(table.contacts(), [first])
    const renamed = { ...first, id: idSharing(OWN, 3, random) }
    table.answered(renamed)
    assert.deepEqual(table.contacts(), [renamed])
    table.answered({ ...first, id: OWN })
    assert.equal(table.size, 1, 'never ourselves')
  })

  it('refreshes what nothing changed in, down to the deepest bucket in use', () => {
    const clock = new ManualClock()
    const table = new RoutingTable({ clock }, OWN)
    table.answered(contact(1, 0))
    const deepest = contact(2, 4)
    table.answered(deepest)
    clock.advance(CONTACT_GOOD_MS)
    assert.deepEqual(
      [...table.refreshTargets(random)].map(target => sharedBits(OWN, target)),
      [0, 1, 2, 3, 4],
    )
    assert.deepEqual([...table.refreshTargets(random)], [])
    clock.advance(CONTACT_GOOD_MS)
    const bits: number[] = []
    for (const target of table.refreshTargets(random)) {
      bits.push(sharedBits(OWN, target))
      // The look-up of the first one hears from the deepest bucket too.
      table.answered(deepest)
    }
    assert.deepEqual(bits, [0, 1, 2, 3])
  })

  it('tells the nearest contacts in the order of their distance, whatever the target', () => {
    const table = new RoutingTable({ clock: new ManualClock() }, OWN)
    const contacts = Array.from({ length: 60 }, (_, i) => contact(i, i % 9))
    for (const each of contacts) table.answered(each)
    for (const each of contacts.slice(0, 20)) for (const _ of [1, 2]) table.failed(each)
    const rest = table.contacts()
    const targets = [OWN, ...Array.from({ length: 40 }, (_, i) => idSharing(OWN, i % 12, random))]
    for (const target of targets) {
      const sorted = rest.toSorted((a, b) => compareDistance(target, a.id, b.id))
      for (const count of [1, 4, 8, 100]) assert.deepEqual(table.closest(target, count), sorted.slice(0, count))
    }
  })

  it('stays within its bounds whatever happens to it', () => {
    const step = fc.record({
      index: fc.nat(40),
      bits: fc.nat(3),
      host: fc.nat(30),
      what: fc.constantFrom('answered', 'failed', 'heard', 'later'),
    })
    const ids = Array.from({ length: 41 * 4 }, (_, i) => idSharing(OWN, i % 4, random))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), steps => {
        const clock = new ManualClock()
        const table = new RoutingTable({ clock }, OWN)
        for (const { index, bits, host, what } of steps) {
          const each = { id: ids[4 * index + bits] ?? OWN, host: `1.1.${host >> 2}.${host & 3}`, port: 1 }
          if (what === 'later') clock.advance(CONTACT_GOOD_MS / 3)
          else table[what](each)
        }
        const all = table.contacts()
        const prefixes = Map.groupBy(all, ({ host }) => prefixOf(host))
        for (const group of prefixes.values()) assert.ok(group.length <= 3)
        for (const bits of [0, 1, 2, 3]) assert.ok(all.filter(({ id }) => sharedBits(OWN, id) === bits).length <= 8)
        assert.ok(table.size >= all.length && table.size <= 32 && table.replacements <= 32)
      }),
      { seed: SEED },
    )
  })
})

describe('a lookup', () => {
  const target = random.bytes(20)
  const many = (count: number, from = 0): Contact[] =>
    Array.from({ length: count }, (_, i) => ({ ...contact(from + i), id: random.bytes(20) }))

  it('asks the nearest first, three at once, and ends when the eight nearest have answered', () => {
    const lookup = new Lookup(target)
    const contacts = many(30)
    lookup.add(contacts)
    const order = contacts.toSorted((a, b) => compareDistance(target, a.id, b.id))
    const asked: Contact[] = []
    for (let i = 0; i < 3; i++) asked.push(lookup.next() ?? contact(999))
    assert.equal(lookup.next(), undefined)
    assert.deepEqual(asked, order.slice(0, 3))
    assert.ok(!lookup.isDone)
    while (asked.length > 0) {
      const each = asked.shift()
      if (each !== undefined) lookup.answered(each)
      const next = lookup.next()
      if (next !== undefined) asked.push(next)
    }
    assert.ok(lookup.isDone)
    assert.deepEqual(lookup.closest(), order.slice(0, 8))
  })

  it('asks somebody else beside those who are slow, and still waits for them where they are near', () => {
    const lookup = new Lookup(target, { parallelMax: 1 })
    lookup.add(many(9))
    const slow = lookup.next()
    assert.ok(slow !== undefined && lookup.next() === undefined)
    lookup.slow(slow)
    for (let each = lookup.next(); each !== undefined; each = lookup.next()) lookup.answered(each)
    assert.ok(!lookup.isDone)
    lookup.answered(slow)
    assert.ok(lookup.isDone)
    assert.equal(lookup.closest()[0], slow)
  })

  it('goes on to others when some fail, and asks nobody twice', () => {
    const lookup = new Lookup(target)
    const contacts = many(10)
    lookup.add(contacts)
    let count = 0
    for (let each = lookup.next(); each !== undefined; each = lookup.next()) {
      count++
      lookup.failed(each)
      lookup.add(contacts)
    }
    assert.equal(count, 10)
    assert.ok(lookup.isDone)
    assert.deepEqual(lookup.closest(), [])
  })

  it('ends in spite of nodes that make up nearer ones without end', () => {
    const lookup = new Lookup(target)
    lookup.add(many(8))
    let count = 0
    for (let each = lookup.next(); each !== undefined; each = lookup.next()) {
      count++
      lookup.add(
        Array.from({ length: 8 }, (_, i) => ({
          ...contact(8 * count + i),
          id: idSharing(target, Math.min(count, 159), random),
        })),
      )
      lookup.answered(each)
    }
    assert.ok(count <= LOOKUP_QUERIES_MAX)
    assert.ok(lookup.isDone)
  })

  it('keeps few candidates, and three of a prefix', () => {
    const lookup = new Lookup(target)
    lookup.add(many(3 * LOOKUP_CANDIDATES_MAX))
    let asked = 0
    for (let each = lookup.next(); each !== undefined; each = lookup.next()) {
      asked++
      lookup.failed(each)
    }
    assert.equal(asked, LOOKUP_CANDIDATES_MAX)
    const crowd = new Lookup(target, { parallelMax: 100 })
    crowd.add(Array.from({ length: 50 }, (_, i) => ({ id: random.bytes(20), host: `1.2.3.${i}`, port: 1 })))
    let count = 0
    for (let each = crowd.next(); each !== undefined; each = crowd.next()) count++
    assert.equal(count, 3)
  })
})
