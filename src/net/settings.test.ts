import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { withSettings } from '../../tools/limits-page.ts'
import { checkSettings, DEFAULT_SETTINGS, SETTINGS } from './settings.ts'

const isInvalid = { code: 'NET_SETTINGS_INVALID' }

describe('net / settings', () => {
  it('completes what is given by the defaults, which are within their own bounds', () => {
    assert.deepEqual(checkSettings(DEFAULT_SETTINGS), DEFAULT_SETTINGS)
    assert.equal(checkSettings({ dialPrefer: 'quic' }).dialPrefer, 'quic')
    assert.equal(checkSettings({ dialPrefer: 'quic' }).dialTimeoutMs, DEFAULT_SETTINGS.dialTimeoutMs)
  })

  it('takes every bound and nothing beyond it', () => {
    for (const [name, spec] of Object.entries(SETTINGS)) {
      if (!('min' in spec)) continue
      for (const value of [spec.min - 1, spec.max + 1, spec.min + 0.5, Number.NaN, `${spec.min}`, null]) {
        assert.throws(() => checkSettings({ [name]: value }), { ...isInvalid, message: new RegExp(`"${name}"`) })
      }
    }
    assert.equal(checkSettings({ dialGraceMs: 0 }).dialGraceMs, 0)
    assert.equal(checkSettings({ streamsMax: 4096 }).streamsMax, 4096)
  })

  it('refuses unknown names, wrong kinds, and values that do not go together', () => {
    for (const given of [null, 7, [], { nothing: 1 }, { __proto__x: 1 }, { tcpNoDelay: 1 }, { dialPrefer: 'sctp' }]) {
      assert.throws(() => checkSettings(given), isInvalid)
    }
    assert.throws(() => checkSettings({ quicKeepAliveMs: 10_000 }), /at most half of "quicIdleMs"/)
    assert.throws(() => checkSettings({ pingIntervalMs: 60_000 }), /"tcpIdleMs" is more than twice/)
    assert.throws(() => checkSettings({ streamWindowBytes: 2 ** 24, quicConnectionBytes: 2 ** 20 }), /at least/)
    assert.equal(checkSettings({ pingIntervalMs: 60_000, tcpIdleMs: 150_000 }).pingIntervalMs, 60_000)
  })

  it('are all in the reference, with defaults, bounds and reasons', () => {
    const page = readFileSync('docs/reference/transports.md', 'utf8')
    assert.ok(page.includes('| `dialTimeoutMs` |'))
    assert.equal(page, withSettings(page), 'run: npm run docs')
  })
})
