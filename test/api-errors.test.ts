/** Every error code of every module has a row in the table from codes to HTTP. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { HTTP_ERRORS, toHttpError } from '#api'
import { KoinonError } from '#base'
import { errorCodesIn } from '../tools/tidy.ts'

/** Codes in the modules that the surface stands on. The command line's own never come here. */
function codesInSource(): readonly string[] {
  const paths = globSync([
    'src/*/{,*-}errors.ts',
    'src/protocol/refusal.ts',
    'src/node/commands/errors.ts',
    'src/base/*.ts',
  ])
    .map(path => path.replaceAll('\\', '/'))
    .filter(path => !path.startsWith('src/cli/') && !path.endsWith('.test.ts'))
  return paths.flatMap(path => errorCodesIn({ path, text: readFileSync(path, 'utf8') }))
}

test('every code that a module can throw has a status', () => {
  const codes = codesInSource()
  assert.ok(codes.length > 60, `only ${codes.length} codes seen`)
  assert.deepEqual(
    codes.filter(code => !HTTP_ERRORS.has(code)),
    [],
  )
})

test('every code is told in OpenAI form, with a status that fits and a time to come back where it is busy', () => {
  for (const code of HTTP_ERRORS.keys()) {
    const { status, headers, body } = toHttpError(new KoinonError({ code }, 'A sentence with /root/secret.'))
    assert.ok(status >= 400 && status <= 504, code)
    assert.deepEqual(Object.keys(body.error).sort(), ['code', 'message', 'param', 'type'])
    assert.equal(headers['retry-after'] !== undefined, status === 429 || status === 503, code)
    assert.equal(body.error.type === 'server_error', status >= 500, code)
    if (/^(?:STORAGE|IDENTITY)_/.test(code)) assert.doesNotMatch(body.error.message, /secret/)
  }
})

test('an unknown code is a 500 that says nothing of the inside; the owner on the local socket is told all', () => {
  const error = new KoinonError({ code: 'SOMETHING_NEW' }, 'at /root/secret')
  assert.equal(toHttpError(error).status, 500)
  assert.doesNotMatch(JSON.stringify(toHttpError(error).body), /secret/)
  assert.deepEqual(toHttpError(error, { own: true }).body.error, {
    message: 'at /root/secret',
    type: 'server_error',
    param: null,
    code: 'SOMETHING_NEW',
  })
  assert.doesNotMatch(JSON.stringify(toHttpError(new TypeError('at /root/secret')).body), /secret/)
})

test("an error's own facts go before the table", () => {
  const busy = new KoinonError({ code: 'STAGE_BUSY', retryAfterMs: 2300 }, 'busy')
  assert.equal(toHttpError(busy).headers['retry-after'], '3')
  const context = new KoinonError({ code: 'NODE_CONTEXT_EXCEEDED' }, 'too long')
  assert.equal(toHttpError(context).status, 400)
  assert.equal(toHttpError(context).body.error.code, 'context_length_exceeded')
})
