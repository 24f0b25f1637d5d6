/** Tokens, announced peers, allowances, waiting queries and votes: each bounded, each forgetting in time. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { ExternalAddress } from './external-address.ts'
import {
  ANSWERED_PEERS_MAX,
  QUERIES_IN_FLIGHT_MAX,
  QUERY_MS_MAX,
  RATE_LIMITED_ADDRESSES_MAX,
  STORED_PEER_MS,
  STORED_PEERS_MAX,
  STORED_PEERS_PER_ADDRESS_MAX,
  STORED_PEERS_PER_HASH_MAX,
  TOKEN_SECRET_MS,
} from './limits.ts'
import { PeerStore } from './peer-store.ts'
import { RateLimits } from './rate-limits.ts'
import { Tokens } from './tokens.ts'
import { type Answer, Transactions } from './transactions.ts'

const SEED = 3
const deps = () => ({ clock: new ManualClock(), random: seededRandom(SEED) })
const hash = (fill: number): Uint8Array => new Uint8Array(20).fill(fill)

describe('tokens', () => {
  it('hold for the address alone, while their secret or the one after it is in use', () => {
    const { clock, random } = deps()
    const tokens = new Tokens({ clock, random })
    const token = tokens.make('1.2.3.4')
    assert.ok(tokens.isValid('1.2.3.4', token))
    assert.ok(!tokens.isValid('1.2.3.5', token))
    assert.ok(!tokens.isValid('1.2.3.4', token.subarray(1)))
    assert.ok(!tokens.isValid('1.2.3.4', new Uint8Array()))
    clock.advance(TOKEN_SECRET_MS)
    assert.ok(tokens.isValid('1.2.3.4', token))
    assert.notDeepEqual(tokens.make('1.2.3.4'), token)
    clock.advance(TOKEN_SECRET_MS)
    assert.ok(!tokens.isValid('1.2.3.4', token))
  })

  it('do not outlive a long silence', () => {
    const { clock, random } = deps()
    const tokens = new Tokens({ clock, random })
    const token = tokens.make('::1')
    clock.advance(10 * TOKEN_SECRET_MS)
    assert.ok(!tokens.isValid('::1', token))
  })
})

describe('announced peers', () => {
  it('are told to askers of their family for half an hour', () => {
    const { clock, random } = deps()
    const store = new PeerStore({ clock, random })
    store.add(hash(1), { host: '1.1.1.1', port: 1 })
    store.add(hash(1), { host: '2001:db8::1', port: 2 })
    clock.advance(STORED_PEER_MS - 1)
    store.add(hash(1), { host: '1.1.1.1', port: 1 })
    assert.deepEqual(store.find(hash(1), 6), [{ host: '2001:db8::1', port: 2 }])
    clock.advance(1)
    assert.deepEqual(store.find(hash(1), 6), [])
    assert.deepEqual(store.find(hash(1), 4), [{ host: '1.1.1.1', port: 1 }])
    assert.deepEqual(store.find(hash(2), 4), [])
    clock.advance(STORED_PEER_MS)
    store.expire()
    assert.equal(store.size, 0)
  })

  it('are bounded by address, by info hash and in total', () => {
    const store = new PeerStore(deps())
    store.add(hash(1), { host: '9.9.9.9', port: 1 })
    for (let port = 1; port <= 2 * STORED_PEERS_PER_ADDRESS_MAX; port++) store.add(hash(1), { host: '1.1.1.1', port })
    assert.equal(store.size, STORED_PEERS_PER_ADDRESS_MAX + 1)
    for (let i = 0; i < 2 * STORED_PEERS_PER_HASH_MAX; i++)
      store.add(hash(2), { host: `2.2.${i >> 8}.${i & 255}`, port: 1 })
    assert.equal(store.size, STORED_PEERS_PER_ADDRESS_MAX + 1 + STORED_PEERS_PER_HASH_MAX)
    assert.equal(store.find(hash(2), 4).length, ANSWERED_PEERS_MAX)
    assert.equal(new Set(store.find(hash(2), 4).map(({ host }) => host)).size, ANSWERED_PEERS_MAX)
    for (let i = 0; i < STORED_PEERS_MAX; i++) {
      store.add(hash(3 + (i % 200)), { host: `3.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, port: 1 })
    }
    assert.equal(store.size, STORED_PEERS_MAX)
  })
})

describe('allowances', () => {
  it('are for each address, and all share one', () => {
    const clock = new ManualClock()
    const rate = { tokensMax: 3, perSecond: 1 }
    const limits = new RateLimits({ clock }, { addressRate: rate, totalRate: { tokensMax: 5, perSecond: 1 } })
    const taken = (host: string): boolean[] => [1, 2, 3, 4].map(() => limits.take(host))
    assert.deepEqual(taken('1.1.1.1'), [true, true, true, false])
    assert.deepEqual(taken('2.2.2.2'), [true, true, false, false])
    clock.advance(1000)
    assert.deepEqual(taken('1.1.1.1'), [true, false, false, false])
    assert.deepEqual(taken('2001:db8:1::1'), [false, false, false, false])
  })

  it('cannot be had anew by filling the table', () => {
    const clock = new ManualClock()
    const rate = { tokensMax: 2, perSecond: 0.001 }
    const limits = new RateLimits({ clock }, { addressRate: rate, totalRate: { tokensMax: 1e9, perSecond: 1 } })
    limits.take('1.1.1.1')
    limits.take('1.1.1.1')
    for (let i = 0; i < 2 * RATE_LIMITED_ADDRESSES_MAX; i++) limits.take(`2.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
    assert.equal(limits.size, RATE_LIMITED_ADDRESSES_MAX)
    assert.ok(!limits.take('1.1.1.1'))
    clock.advance(10_000_000)
    assert.ok(limits.take('4.4.4.4'))
    assert.equal(limits.size, RATE_LIMITED_ADDRESSES_MAX)
  })
})

describe('queries that wait', () => {
  const to = { host: '1.1.1.1', port: 1 }

  it('end once, for whoever was asked, or when time is up', async () => {
    const { clock, random } = deps()
    const transactions = new Transactions({ clock, random })
    let transaction = new Uint8Array()
    const answer = transactions.begin(to, id => void (transaction = new Uint8Array(id)))
    assert.ok(transactions.isAsked(to))
    const error: Answer = { kind: 'error', code: 201 }
    assert.ok(!transactions.end({ host: '1.1.1.1', port: 2 }, transaction, error))
    assert.ok(!transactions.end(to, new Uint8Array(4), error))
    assert.ok(transactions.end(to, transaction, error))
    assert.ok(!transactions.end(to, transaction, error))
    assert.deepEqual(await answer, error)
    const late = transactions.begin(to, () => undefined)
    clock.advance(QUERY_MS_MAX)
    assert.deepEqual(await late, { kind: 'unanswered' })
    assert.deepEqual([transactions.size, transactions.isAsked(to)], [0, false])
  })

  it('are bounded, and end when the node stops', async () => {
    const transactions = new Transactions(deps())
    const waiting = Array.from({ length: QUERIES_IN_FLIGHT_MAX }, () => transactions.begin(to, () => undefined))
    assert.deepEqual(await transactions.begin(to, () => assert.fail('sent')), { kind: 'unsent' })
    transactions.close()
    for (const { kind } of await Promise.all(waiting)) assert.equal(kind, 'unanswered')
    assert.deepEqual(await transactions.begin(to, () => assert.fail('sent')), { kind: 'unsent' })
  })
})

describe('votes for our address', () => {
  it('count once a prefix, and only a clear and public answer is believed', () => {
    const external = new ExternalAddress()
    for (let i = 0; i < 50; i++) assert.ok(!external.vote('8.8.8.8', `6.6.6.${i}`))
    assert.equal(external.host, undefined)
    for (let i = 1; i <= 3; i++) external.vote('9.9.9.9', `7.7.${i}.1`)
    assert.ok(external.vote('9.9.9.9', '7.7.4.1'))
    assert.equal(external.host, '9.9.9.9')
    assert.ok(!external.vote('9.9.9.9', '7.7.5.1'), 'no news')
    for (let i = 0; i < 50; i++) external.vote('192.168.1.1', `5.5.${i}.1`)
    assert.equal(external.host, '9.9.9.9')
  })
})
