/** The table of attacks in `docs/security.md` names tests: each must exist, and every attack test must be in the table. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

function textOf(path: string): string {
  return readFileSync(`${ROOT}${path}`, 'utf8')
}

const rows = [
  ...textOf('docs/security.md').matchAll(/^\| .* \| `((?:src|test)\/[a-z/-]+\.test\.ts)` \| (.+) \|$/gm),
].map(([, file = '', name = '']) => ({ file, name }))

/** Names of tests, as they stand in the file; what a template makes is left out. */
function namesIn(file: string): string[] {
  const literal = /(?:^|[\s(])(?:it|test)\(\s*(['`])(.+?)\1[,)]/g
  return [...textOf(file).matchAll(literal)].map(([, , name = '']) => name.replace(/\$\{.*$/, ''))
}

test('each attack of the table has the test that it names', () => {
  assert.ok(rows.length > 50, `${rows.length} rows`)
  for (const { file, name } of rows) {
    const text = textOf(file)
    assert.ok(
      ["'", '`'].some(quote => text.includes(`${quote}${name}`)),
      `${file} has no test "${name}"`,
    )
  }
})

test('each attack test is in the table', () => {
  const controls = ['with nothing changed', 'the audit log shows what happened']
  for (const file of globSync('test/attack-*.test.ts', { cwd: ROOT }).filter(path => !path.includes('attack-table'))) {
    const path = file.replaceAll('\\', '/')
    for (const name of namesIn(path)) {
      const isThere = [...rows.filter(row => row.file === path).map(row => row.name), ...controls]
      assert.ok(
        isThere.some(start => name.startsWith(start) || start.startsWith(name.trim())),
        `${path}: "${name}" is not in docs/security.md`,
      )
    }
  }
})
