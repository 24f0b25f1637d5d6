import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { KoinonError } from '#base'
import { type Caller, checkCaller, createHostRules } from './guard.ts'

function verdict(caller: Partial<Caller>, bound = '127.0.0.1', allowed: readonly string[] = []): string {
  try {
    checkCaller(
      { host: undefined, origin: undefined, localAddress: undefined, ...caller },
      createHostRules(bound, allowed),
    )
    return 'ok'
  } catch (error) {
    return error instanceof KoinonError ? error.code : String(error)
  }
}

test('whatever a Host header holds, it either names this machine or is refused', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.webAuthority({ withPort: true }), fc.domain()), host => {
      const isLocal = /^(?:(?:.*\.)?localhost|127(?:\.\d+){1,3}|\[::1\])\.?(?::\d*)?$/i.test(host.trim())
      assert.equal(verdict({ host }), isLocal ? 'ok' : 'API_HOST_REFUSED')
    }),
    { examples: [['localhost'], ['a.localhost:80'], ['127.0.0.1'], ['localhost.evil.example'], ['[::1]:1'], ['a@b']] },
  )
})

test('the address that a connection came in on may be named, also where every address is listened on', () => {
  assert.equal(verdict({ host: '192.168.1.5:80', localAddress: '192.168.1.5' }, '0.0.0.0'), 'ok')
  assert.equal(verdict({ host: '192.168.1.5:80', localAddress: '::ffff:192.168.1.5' }, '::'), 'ok')
  assert.equal(verdict({ host: '[fe80::1]:80', localAddress: 'fe80::1' }, '::'), 'ok')
  assert.equal(verdict({ host: '192.168.1.6', localAddress: '192.168.1.5' }, '0.0.0.0'), 'API_HOST_REFUSED')
  assert.equal(verdict({ host: '0.0.0.0', localAddress: '127.0.0.1' }, '0.0.0.0'), 'API_HOST_REFUSED')
})

test('a name that was listened on may be named', () => {
  assert.equal(verdict({ host: 'Box.lan:80' }, 'box.lan'), 'ok')
  assert.equal(verdict({ host: '[fd00::5]:80' }, 'fd00::5'), 'ok')
})

test('a page may come from this very address or from a listed name, and from nowhere else', () => {
  const host = 'localhost:11435'
  assert.equal(verdict({ host, origin: 'http://localhost:11435' }), 'ok')
  for (const origin of [
    'http://localhost',
    'http://localhost:11436',
    'http://127.0.0.1:11435',
    'null',
    '',
    'file://',
  ]) {
    assert.equal(verdict({ host, origin }), 'API_ORIGIN_REFUSED', origin)
  }
  assert.equal(verdict({ host, origin: 'https://chat.lan' }, '127.0.0.1', ['chat.lan']), 'ok')
  assert.equal(verdict({ host: 'anything', origin: 'https://evil.example' }, '127.0.0.1', ['*']), 'API_ORIGIN_REFUSED')
})
