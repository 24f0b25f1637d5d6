import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { type Applicant, RelayBook, type Reservation } from './book.ts'
import {
  RELAY_CIRCUITS_PER_PEER_MAX,
  RELAY_GROUP_MAX,
  RELAY_KEEPALIVE_MS,
  RELAY_KEEPALIVES_MISSED_MAX,
  RELAY_RESERVATION_MS,
  RELAY_RESERVATIONS_MAX,
  RELAY_TRUSTED_GROUP_MAX,
} from './limits.ts'

const applicant = (index: number, group = `ip:10.0.0.${index}`, isTrusted = false): Applicant => ({
  peer: `peer-${index}`,
  group,
  isTrusted,
})

function given(reservation: ReturnType<RelayBook['reserve']>): Reservation {
  if (typeof reservation === 'string') throw new Error(`refused: ${reservation}`)
  return reservation
}

function makeBook(options: ConstructorParameters<typeof RelayBook>[1] = {}): { book: RelayBook; clock: ManualClock } {
  const clock = new ManualClock()
  return { clock, book: new RelayBook({ clock, random: seededRandom(1) }, options) }
}

describe('net / relay / book', () => {
  it('gives a newcomer a place at once where all were taken and one holder has gone', () => {
    const { book } = makeBook()
    const held = Array.from({ length: RELAY_RESERVATIONS_MAX }, (_, index) => given(book.reserve(applicant(index))))
    assert.equal(book.slotsFree, 0)
    assert.equal(book.reserve(applicant(999)), 'full')
    for (const reservation of held) book.release(reservation)
    assert.equal(given(book.reserve(applicant(999))).peer, 'peer-999')
    assert.equal(book.slotsFree, RELAY_RESERVATIONS_MAX - 1)
  })

  it('gives a peer one place, also where it begins anew while all are taken', () => {
    const { book } = makeBook({ reservationsMax: 1 })
    const first = given(book.reserve(applicant(1)))
    const second = given(book.reserve(applicant(1)))
    assert.notEqual(first.id, second.id)
    // The stream of the first one ends now: that takes nothing from the second.
    book.release(first)
    assert.equal(book.find({ session: second.session }), second)
    assert.deepEqual([book.heard(first), book.renew(first), book.lapsesInMs(first)], [false, false, 0])
  })

  it('bounds the places of one network address, for strangers more than for trusted peers', () => {
    for (const [isTrusted, max] of [
      [false, RELAY_GROUP_MAX],
      [true, RELAY_TRUSTED_GROUP_MAX],
    ] as const) {
      const { book } = makeBook()
      for (let index = 0; index < max; index++) given(book.reserve(applicant(index, 'ip:10.0.0.1', isTrusted)))
      assert.equal(book.reserve(applicant(500, 'ip:10.0.0.1', isTrusted)), 'per-group')
      given(book.reserve(applicant(501, 'ip:10.0.0.2', isTrusted)))
    }
  })

  it('lets a reservation lapse by silence, and by its end unless it is renewed', () => {
    const { book, clock } = makeBook()
    const reservation = given(book.reserve(applicant(1)))
    clock.advance(RELAY_KEEPALIVE_MS * RELAY_KEEPALIVES_MISSED_MAX)
    assert.ok(book.lapsesInMs(reservation) > 0)
    assert.equal(book.heard(reservation), true)
    clock.advance(RELAY_KEEPALIVE_MS * (RELAY_KEEPALIVES_MISSED_MAX + 1))
    assert.equal(book.lapsesInMs(reservation), 0)
    book.heard(reservation)
    clock.advance(RELAY_RESERVATION_MS)
    book.heard(reservation)
    assert.equal(book.lapsesInMs(reservation), 0)
    assert.equal(book.renew(reservation), true)
    assert.ok(book.lapsesInMs(reservation) > 0)
  })

  it('bounds circuits by peer at either end, by network address, and in all', () => {
    const { book } = makeBook({ circuitsMax: 40 })
    const [b, c] = [given(book.reserve(applicant(1))), given(book.reserve(applicant(2)))]
    assert.equal(book.open(applicant(1), b), 'loop')
    const circuits = Array.from({ length: RELAY_CIRCUITS_PER_PEER_MAX }, (_, index) =>
      book.open(applicant(100 + index), b),
    )
    assert.ok(circuits.every(circuit => typeof circuit === 'object'))
    // The target has as many as it may, whoever asks; and may ask for none itself.
    assert.equal(book.open(applicant(200), b), 'per-peer')
    assert.equal(book.open(applicant(1), c), 'per-peer')
    const [first] = circuits
    if (typeof first === 'object') book.closed(first)
    assert.equal(typeof book.open(applicant(200), b), 'object')
    for (let index = 0; index < RELAY_GROUP_MAX; index++) {
      assert.equal(typeof book.open(applicant(300 + index, 'ip:10.0.0.7'), c), 'object')
    }
    assert.equal(book.open(applicant(400, 'ip:10.0.0.7'), c), 'per-group')
    for (let index = 0; book.circuits.size < 40; index++) {
      const d = given(book.reserve(applicant(10 + index)))
      for (let n = 0; n < 8 && book.circuits.size < 40; n++) book.open(applicant(1000 + 10 * index + n), d)
    }
    assert.equal(book.open(applicant(5000), c), 'full')
  })
})
