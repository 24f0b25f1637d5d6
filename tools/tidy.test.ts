import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { limitsPage } from './limits-page.ts'
import { documentedNames, errorCodesIn, type SourceFile, tidy } from './tidy.ts'

const faults = (...files: Array<[string, string]>): string[] =>
  tidy(files.map(([path, text]) => ({ path, text })))
    .filter(finding => !finding.message.startsWith('dead file'))
    .map(finding => `${finding.path}:${finding.line} ${finding.message}`)

const readAll = (pattern: string): SourceFile[] =>
  globSync(pattern).map(path => ({ path: path.replaceAll('\\', '/'), text: readFileSync(path, 'utf8') }))

test('an upward import is refused', () => {
  assert.deepEqual(faults(['src/wire/frame.ts', "import { dial } from '#net'"]), [
    'src/wire/frame.ts:1 wire (layer 2) may not import net (layer 4)',
  ])
})

test('a sibling of the same layer is refused', () => {
  assert.deepEqual(faults(['src/wire/frame.ts', "\nimport type { Keys } from '#identity'"]), [
    'src/wire/frame.ts:2 wire (layer 2) may not import identity (layer 2)',
  ])
})

test("reaching past a module's face is refused", () => {
  assert.deepEqual(faults(['src/net/host.ts', "import { x } from '../wire/frame.ts'"]), [
    'src/net/host.ts:1 import wire through #wire, not its inside (../wire/frame.ts)',
  ])
})

test('a node: import in a portable module is refused', () => {
  assert.equal(faults(['src/wire/frame.ts', "import fs from 'node:fs'"]).length, 1)
})

test('cryptography is imported in one module only', () => {
  assert.deepEqual(faults(['src/net/host.ts', "import { createHash } from 'node:crypto'"]), [
    'src/net/host.ts:1 only crypto imports node:crypto',
  ])
  assert.equal(faults(['src/crypto/hash.ts', "import { createHash } from 'node:crypto'"]).length, 0)
})

test('hidden clocks, timers and dice are refused outside base', () => {
  const text = 'const at = Date.now()\nconst roll = Math.random()\nsetTimeout(go, 5)'
  assert.equal(faults(['src/net/host.ts', text]).length, 3)
  assert.equal(faults(['src/base/clock.ts', text]).length, 0)
})

test('a multi-line import is seen', () => {
  assert.equal(faults(['src/wire/frame.ts', 'import {\n  a,\n  b,\n} from "#net"']).length, 1)
})

test('a file that only its own test imports is dead', () => {
  const files: SourceFile[] = [
    { path: 'src/wire/frame.ts', text: '' },
    { path: 'src/wire/frame.test.ts', text: "import { x } from './frame.ts'" },
  ]
  assert.deepEqual(
    tidy(files).map(finding => finding.path),
    ['src/wire/frame.ts'],
  )
})

test('a file that is started as a process is alive', () => {
  const files: SourceFile[] = [
    { path: 'src/engine/child/main.ts', text: '' },
    { path: 'src/main.ts', text: "spawn(new URL('./engine/child/main.ts', import.meta.url))" },
  ]
  assert.deepEqual(tidy(files), [])
})

test('error codes are read from unions over several lines', () => {
  const text =
    "type F =\n  | { readonly code: 'A_ONE' | 'A_TWO' }\n  | { readonly code:\n 'A_THREE'; readonly peer: string }"
  assert.deepEqual(errorCodesIn({ path: 'src/a/errors.ts', text }), ['A_ONE', 'A_TWO', 'A_THREE'])
})

test('the code base is tidy', () => {
  const files = readAll('{src,tools,test,bench}/**/*.ts')
  // A check that saw nothing proves nothing: fail if the glob ever goes blind.
  assert.ok(files.length > 60, `only ${files.length} files seen`)
  assert.deepEqual(
    tidy(files).map(f => `${f.path}:${f.line} ${f.message}`),
    [],
  )
})

test('every error code is documented, and every documented code exists', () => {
  const sources = readAll('src/**/*.ts').filter(file => !file.path.endsWith('.test.ts'))
  const codes = new Set(sources.filter(f => /errors\.ts$|refusal\.ts$|^src\/base\//.test(f.path)).flatMap(errorCodesIn))
  assert.ok(codes.size > 40, `only ${codes.size} codes seen`)
  const documented = new Set(documentedNames(readFileSync('docs/reference/errors.md', 'utf8')))
  assert.deepEqual(
    [...codes].filter(code => !documented.has(code)),
    [],
    'codes without a row',
  )
  assert.deepEqual(
    [...documented].filter(code => !codes.has(code)),
    [],
    'rows without a code',
  )
})

test('the page of limits says what the code says', async () => {
  const page = await limitsPage()
  assert.ok(page.split('\n').length > 30, 'the generator saw almost nothing')
  assert.equal(readFileSync('docs/reference/limits.md', 'utf8'), page, 'run: npm run docs')
})

test('links between documents lead somewhere', () => {
  const pages = readAll('{*.md,docs/**/*.md,{models,examples,formal}/*.md}')
  assert.ok(pages.length > 8, `only ${pages.length} pages seen`)
  const known = new Set(
    globSync('{*,{docs,examples,models,formal,bench,src,tools,test,bin}/**}').map(path => path.replaceAll('\\', '/')),
  )
  const broken = pages.flatMap(page =>
    [...page.text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
      .map(match => new URL(match[1] ?? '', `file:///${page.path}`).pathname.slice(1).replace(/\/$/, ''))
      .filter(target => !known.has(target))
      .map(target => `${page.path} -> ${target}`),
  )
  assert.deepEqual(broken, [])
})
