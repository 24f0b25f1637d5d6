import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock } from '#base'
import { AddressNews } from './address-news.ts'
import { NEWS_BURST_MAX, NEWS_REFILL_MS } from './limits.ts'

describe('net / address news', () => {
  it('tells of addresses once, of others again, and of a restless peer only so often', () => {
    const clock = new ManualClock()
    const news = new AddressNews({ clock })
    assert.equal(news.isNews('a', []), false)
    assert.equal(news.isNews('a', ['x']), true)
    assert.equal(news.isNews('a', ['x']), false)
    let told = 1
    for (let index = 0; index < 100; index++) if (news.isNews('a', [`y${index}`])) told++
    assert.equal(told, NEWS_BURST_MAX)
    // What was left out is told with the next that may be.
    clock.advance(NEWS_REFILL_MS)
    assert.equal(news.isNews('a', ['y99']), true)
    assert.equal(news.isNews('b', ['x']), true)
  })
})
