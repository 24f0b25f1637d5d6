/** Parts of the two state machines alone: what is picked, what ends a channel, who gets a slot, and limits of the rate. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bitfield, seededRandom } from '#base'
import { BLOCK_BYTES } from '../types.ts'
import { createDownload } from './download.ts'
import { UPLOAD_FLOOD_REJECTS_MAX } from './limits.ts'
import { Pace } from './pace.ts'
import { Picker } from './picker.ts'
import { DOWNLOAD_DEFAULTS, TICK_MS, UPLOAD_DEFAULTS } from './settings.ts'
import type { DownloadOrder } from './types.ts'
import { createUploads } from './uploads.ts'

const SEED = Number(process.env['SEED'] ?? 1)
const PIECES = 40
const MIB = 2 ** 20

test('the picker gives the rarest of what would do, whatever came and went before', () => {
  for (let seed = SEED; seed < SEED + 50; seed++) {
    const random = seededRandom(seed)
    const picker = new Picker(PIECES, random)
    const availability = Array.from({ length: PIECES }, () => 0)
    const inside = new Set<number>()
    for (let step = 0; step < 400; step++) {
      const piece = random.uint32() % PIECES
      const change = random.uint32() % 4
      if (change === 0) {
        picker.add(piece)
        inside.add(piece)
      } else if (change === 1) {
        picker.remove(piece)
        inside.delete(piece)
      } else {
        const by = change === 2 || availability[piece] === 0 ? 1 : -1
        picker.count(piece, by)
        availability[piece] = (availability[piece] ?? 0) + by
      }
      const parity = random.uint32() % 2
      const fit = [...inside].filter(each => each % 2 === parity)
      const least = Math.min(...fit.map(each => availability[each] ?? 0))
      const picked = picker.rarest(each => each % 2 === parity)
      assert.equal(picker.size, inside.size, `seed ${seed}`)
      if (picked === undefined) assert.equal(fit.length, 0, `seed ${seed}`)
      else assert.ok(fit.includes(picked) && availability[picked] === least, `seed ${seed}`)
      const last = random.uint32() % PIECES
      const rarest = fit.filter(each => availability[each] === least).sort((one, two) => one - two)
      const nearest = rarest.find(each => each > last) ?? rarest[0]
      assert.equal(
        picker.rarestAfter(last, each => each % 2 === parity),
        nearest,
        `seed ${seed}`,
      )
    }
  }
})

test('a window never leaves its bounds, and a request never leaves the window', () => {
  for (let seed = SEED; seed < SEED + 50; seed++) {
    const random = seededRandom(seed)
    const pace = new Pace(DOWNLOAD_DEFAULTS, 0)
    let now = 0
    for (let step = 0; step < 500; step++) {
      now += random.uint32() % 300
      const sentAt = now - (random.uint32() % 2_000)
      if (random.uint32() % 20 === 0) pace.stalled(now)
      else pace.arrived(BLOCK_BYTES * (1 + (random.uint32() % 64)), sentAt, now)
      if (random.uint32() % 2 === 0) pace.wasFull()
      const [window, request] = [pace.windowBytes(now), pace.requestBytes(now)]
      assert.ok(window >= BLOCK_BYTES && window <= DOWNLOAD_DEFAULTS.inFlightBytesMax, `seed ${seed}: ${window}`)
      assert.ok(request >= BLOCK_BYTES && request <= Math.max(window, BLOCK_BYTES), `seed ${seed}: ${request}`)
      const timeout = pace.timeoutMs(request, now)
      assert.ok(timeout >= DOWNLOAD_DEFAULTS.timeoutMsMin && timeout <= DOWNLOAD_DEFAULTS.timeoutMsMax)
    }
  }
})

test('who goes on asking for what it may not have is closed, and not banned', () => {
  const uploads = createUploads({ random: seededRandom(SEED) })
  uploads.joined(1, { party: 'a', requestBytesMax: BLOCK_BYTES }, 0)
  for (let count = 0; count <= UPLOAD_FLOOD_REJECTS_MAX; count++)
    uploads.requested(1, { piece: 0, offset: 0, length: BLOCK_BYTES }, 1)
  const closes = uploads.orders(1).filter(order => order.kind === 'close')
  assert.deepEqual(closes, [{ kind: 'close', channel: 1, why: 'flood', isBan: false }])
})

test('beyond the channels that are wanted, those that were of no use for long are ended', () => {
  const wanted = Bitfield.full(PIECES)
  const settings = { channelsWanted: 2, uselessMs: 1_000 }
  const facts = { pieceCount: PIECES, pieceBytes: () => MIB, has: new Bitfield(PIECES), blocksOf: () => undefined }
  const download = createDownload({ random: seededRandom(SEED) }, { ...facts, wanted, settings })
  const peer = { kind: 'peer', requestBytesMax: MIB, requestsMax: 8, hasLeaves: true } as const
  for (let id = 1; id <= 5; id++) download.joined(id, { ...peer, party: `p${id}` }, 0)
  assert.deepEqual(download.orders(900), [])
  const closed = download.orders(2_000).filter((order: DownloadOrder) => order.kind === 'close')
  assert.equal(closed.length, 3)
  assert.ok(closed.every(order => order.why === 'useless' && !order.isBan))
})

/** A download of one piece, and one peer that has it and lets ask. `runs`: what the orders of one kind are about. */
function oneSource() {
  const facts = { pieceCount: 1, pieceBytes: () => MIB, has: new Bitfield(1), blocksOf: () => undefined }
  const settings = { timeoutMsStart: 2_000 }
  const download = createDownload({ random: seededRandom(SEED) }, { ...facts, wanted: Bitfield.full(1), settings })
  download.joined(1, { party: 'p1', kind: 'peer', requestBytesMax: MIB, requestsMax: 8, hasLeaves: true }, 0)
  download.hasPieces(1, 'all')
  download.choked(1, false, 0)
  const runs = (kind: 'request' | 'cancel', now: number) =>
    download.orders(now).flatMap(order => (order.kind === kind ? [order.run] : []))
  return { download, runs }
}

test('a reject of what was given up is not taken for one of the same that was asked for again', () => {
  const { download, runs } = oneSource()
  const first = runs('request', 0)
  assert.ok(first.length > 0)
  download.want(new Bitfield(1))
  assert.deepEqual(runs('cancel', 10), first)
  download.want(Bitfield.full(1))
  const again = runs('request', 20)
  assert.deepEqual(again, first)
  for (const run of first) download.rejected(1, run, 30)
  assert.deepEqual(runs('request', 40), [], 'all is under way already')
  for (const run of again) assert.equal(download.arrived(1, run, 50), true)
  const rest = runs('request', 60)
  assert.ok(rest.length > 0, 'the peer is asked for the rest at once')
  for (const run of rest) download.rejected(1, run, 70)
  assert.deepEqual(runs('request', 80), [], 'nothing of it was given up: it is not asked again so soon')
})

test('the time in which this side stood still counts against no peer', () => {
  const { runs } = oneSource()
  const asked = runs('request', 0)
  assert.ok(asked.length > 0)
  const awakeAt = 10_000
  for (let now = awakeAt; now < awakeAt + 1_500; now += TICK_MS) assert.deepEqual(runs('cancel', now), [], `at ${now}`)
  const cancelled = []
  for (let now = awakeAt + 1_500; now <= awakeAt + 2_500; now += TICK_MS) cancelled.push(...runs('cancel', now))
  assert.deepEqual(cancelled, asked, 'it is late by its own')
})

/** Peers that always have requests waiting, and lines that take everything at once. @returns bytes a second */
function served(options: {
  readonly peers: number
  readonly rate?: number
  readonly writable?: (id: number) => boolean
}) {
  const uploads = createUploads({ random: seededRandom(SEED) })
  const bytes = new Map<number, number>()
  const open = new Set<number>()
  for (let id = 1; id <= options.peers; id++) {
    uploads.joined(id, { party: `p${id}`, requestBytesMax: BLOCK_BYTES }, 0)
    uploads.interested(id, true, 0)
    uploads.writable(id, options.writable?.(id) ?? true)
  }
  uploads.setSeeding(true)
  const seconds = 60
  let debt = 0
  let asked = 0
  for (let now = 0; now < seconds * 1_000; now += TICK_MS) {
    if (options.rate !== undefined) {
      debt = Math.min(debt + (options.rate * TICK_MS) / 1_000, (options.rate * TICK_MS) / 1_000)
      uploads.allow(debt)
    }
    for (const id of open)
      for (let count = 0; count < 48; count++)
        uploads.requested(id, { piece: asked++ % 1_000, offset: 0, length: BLOCK_BYTES }, now)
    for (let orders = uploads.orders(now); orders.length > 0; orders = uploads.orders(now)) {
      for (const order of orders) {
        if (order.kind === 'choke' && order.isChoked) open.delete(order.channel)
        else if (order.kind === 'choke') open.add(order.channel)
        else if (order.kind === 'send') {
          debt -= order.length
          bytes.set(order.channel, (bytes.get(order.channel) ?? 0) + order.length)
          uploads.sent(order.channel, order.length, now)
        }
      }
      if (options.rate !== undefined) uploads.allow(debt)
    }
  }
  const all = [...bytes.values()].reduce((sum, each) => sum + each, 0)
  return { rate: all / seconds, bytes, open }
}

test('what is allowed is used and not passed, within 5 %', () => {
  for (const rate of [100_000, MIB, 3 * MIB]) {
    const { rate: measured } = served({ peers: 4, rate })
    assert.ok(Math.abs(measured / rate - 1) < 0.05, `${measured} of ${rate} bytes a second`)
  }
})

test('who cannot take more is given nothing, and holds up nobody', () => {
  const { bytes } = served({ peers: 3, rate: MIB, writable: id => id !== 2 })
  assert.deepEqual(new Set(bytes.keys()), new Set([1, 3]))
})

test('a fast line feeds more than the usual slots', () => {
  const { slots, slotsMax } = UPLOAD_DEFAULTS
  const slow = served({ peers: slots + 6, rate: 100_000 })
  assert.equal(slow.open.size, slots)
  const fast = served({ peers: slots + 6 })
  assert.ok(fast.open.size > slots && fast.open.size <= slotsMax, `${fast.open.size} slots`)
})
