/** One host has one name, however its address is written: what is held against it finds it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { Penalties, PenaltyRecords } from '#protocol'
import { Candidates, partyOf } from '../candidates.ts'
import { hostGroup, partyOfHost, plainHost } from './host-group.ts'

test('an address has one form', () => {
  assert.equal(plainHost('192.0.2.7'), '192.0.2.7')
  assert.equal(plainHost('::ffff:192.0.2.7'), '192.0.2.7')
  assert.equal(plainHost('::FFFF:c000:207'), '192.0.2.7')
  assert.equal(plainHost('2001:DB8:0:0:0:0:0:1'), '2001:db8::1')
  assert.equal(plainHost('fe80::1%eth0'), 'fe80::1')
  assert.equal(plainHost('example.org'), 'example.org')
  assert.equal(hostGroup('2001:db8::1'), '2001:db8:0:0::/64')
})

test('penalties take BitTorrent hosts as subjects, IPv6 too, and keep them over a restart', () => {
  const saved = new Map<string, { subject: string; score: number; at: number; bannedUntil: number; failures: number }>()
  const store = {
    load: () => [...saved.values()],
    save: (row: { subject: string; score: number; at: number; bannedUntil: number; failures: number }) =>
      void saved.set(row.subject, row),
    remove: (subject: string) => void saved.delete(subject),
  }
  const clock = new ManualClock(1_000_000)
  const audit = { record: () => undefined }
  const make = (): Penalties => new Penalties({ clock, records: new PenaltyRecords({ clock, store }), audit })
  const penalties = make()
  for (const host of ['2001:db8::1', '192.0.2.7']) {
    const subject = partyOf({ kind: 'bittorrent', host, port: 6_881 })
    while (penalties.add(subject, 'bad-response') !== 'ban');
  }
  const again = make()
  assert.ok(again.bannedForMs(partyOfHost('2001:db8::1')) > 0)
  // Whoever has one address of a network has all of them.
  assert.ok(again.bannedForMs(partyOf({ kind: 'bittorrent', host: '2001:db8::ffff:1', port: 1 })) > 0)
  assert.equal(again.bannedForMs(partyOfHost('2001:db8:0:1::1')), 0)
  assert.ok(again.bannedForMs(partyOf({ kind: 'bittorrent', host: '2001:0DB8::0:1', port: 1 })) > 0)
  assert.ok(again.bannedForMs(partyOf({ kind: 'bittorrent', host: '::ffff:192.0.2.7', port: 1 })) > 0)
  assert.equal(again.bannedForMs('bt:192.0.2.8'), 0)
})

test('hosts of one IPv6 network are told apart where they are dialled', () => {
  const candidates = new Candidates(seededRandom(1))
  for (const host of ['2001:db8::1', '2001:db8::2', '2001:DB8:0::2'])
    candidates.add({ kind: 'bittorrent', host, port: 1 })
  assert.equal(candidates.size, 2)
  candidates.forget(partyOfHost('2001:db8::3'))
  assert.equal(candidates.size, 0)
})
