/** The sandbox against a real engine child: what it tries, and what it still can. As root and as another user. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { silentLogger, systemClock } from '#base'
import { createEdgeEngine } from '../edge-engine.ts'
import { EngineChild } from '../engine-child.ts'
import { createStageEngine } from '../stage-engine.ts'
import { describeSandbox, noSandbox, type SandboxFacts } from './facts.ts'
import { landlockVersion } from './landlock.ts'
import { proveSandbox, type SandboxProof } from './proof.ts'
import { filterOf, sealOf } from './seccomp.ts'

const FILE = fileURLToPath(new URL('../../../models/storyteller-2m-q8_0.gguf', import.meta.url))
const PROOF = fileURLToPath(new URL('./proof.ts', import.meta.url))
const BASE = import.meta.resolve('#base')
const deps = { clock: systemClock, log: silentLogger }
const options = { threads: 1, device: 'cpu' } as const
const skip = process.platform === 'linux' ? false : 'there is a sandbox on Linux only'

/** What went through, less what this machine says that it lacks. */
function expectHeld(t: TestContext, { missing, escapes, attempts, text }: SandboxProof): void {
  t.diagnostic(text)
  for (const lack of missing) t.diagnostic(`not on this machine: ${lack}`)
  const isExcused = (what: string): boolean =>
    missing.some(lack => (what === 'files' ? /file/.test(lack) : what !== 'memory' && /filter/.test(lack)))
  assert.deepEqual(
    escapes.filter(({ what }) => !isExcused(what)),
    [],
  )
  const tried = new Set<string>(attempts.map(({ what }) => what))
  assert.deepEqual(tried, new Set(['network', 'files', 'writing', 'programs', 'processes', 'memory']))
}

test('an engine child reaches no network, file, program, process or memory but its own', { skip }, async t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'koinon-secrets-'))
  t.after(() => rmSync(directory, { recursive: true }))
  expectHeld(t, await proveSandbox(deps, options, [directory]))
})

test('the same holds for a user without any rights', { skip }, t => {
  const [program, ...argv] =
    process.getuid?.() === 0
      ? ['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups', process.execPath]
      : [process.execPath]
  const script = `
    import { proveSandbox } from ${JSON.stringify(PROOF)}
    import { silentLogger, systemClock } from ${JSON.stringify(BASE)}
    const deps = { clock: systemClock, log: silentLogger }
    console.log(JSON.stringify(await proveSandbox(deps, { threads: 1, device: 'cpu' })))`
  const command = [...argv, '--no-warnings', '--input-type=module', '-e', script]
  const { stdout, stderr, status, error } = spawnSync(program ?? '', command, { encoding: 'utf8', env: {} })
  if (error !== undefined || /EACCES|Permission denied/.test(stderr)) {
    t.skip(`no other user can run this here: ${error?.message ?? stderr.slice(0, 200)}`)
    return
  }
  assert.equal(status, 0, stderr)
  expectHeld(t, JSON.parse(stdout) as SandboxProof)
})

test('a load says what holds, and another load may read another file', { skip }, async t => {
  const engine = createStageEngine(deps, options)
  t.after(() => engine.stop())
  const load = { layers: { first: 0, last: 8 }, slots: 1, contextMax: 256 }
  const first = await engine.load({ ...load, file: FILE })
  if (landlockVersion() > 0) {
    assert.match(first.sandbox, /^no network, no other programs, reads 1 file, writes none, [\d.]+ GB, 1 thread$/)
  }
  assert.equal(engine.status().sandbox, first.sandbox)
  const second = await engine.load({ ...load, file: FILE.replace('q8_0', 'f16') })
  assert.notEqual(second.pid, first.pid)
})

test('a model that is a link is read through it', { skip }, async t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'koinon-link-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const link = path.join(directory, 'model.gguf')
  symlinkSync(FILE, link)
  const engine = createEdgeEngine(deps, options)
  t.after(() => engine.stop())
  assert.equal((await engine.load({ file: link })).width, 128)
})

test('a child that is refused everything has the restrictions on every thread', { skip }, async t => {
  const child = new EngineChild(deps, { role: 'tool', options })
  t.after(() => child.end())
  await child.ready()
  const threads = readdirSync(`/proc/${child.pid}/task`)
  assert.ok(threads.length > 1)
  for (const thread of threads) {
    const status = readFileSync(`/proc/${child.pid}/task/${thread}/status`, 'utf8')
    assert.match(status, /^NoNewPrivs:\s+1$/m)
    assert.match(status, /^Seccomp:\s+2$/m)
    assert.match(status, /^CapEff:\s+000000000000000[04]$/m)
  }
})

test('filters are made for the processors whose calls are known', () => {
  for (const arch of ['x64', 'arm64']) {
    const filter = filterOf({ pid: 1, mayWrite: false }, arch)
    assert.ok(filter !== undefined && filter.byteLength % 8 === 0 && filter.byteLength / 8 <= 4096, arch)
    assert.ok(sealOf(arch) !== undefined)
  }
  assert.equal(filterOf({ pid: 1, mayWrite: false }, 'riscv64'), undefined)
})

test('what holds, and what does not, is said in words', () => {
  const facts: SandboxFacts = {
    network: true,
    files: true,
    processes: true,
    reads: 2,
    writes: 0,
    gpu: false,
    landlock: 7,
    missing: [],
  }
  const limits = { threads: 2, memoryBytes: 2.1e9 }
  assert.equal(
    describeSandbox(facts, limits),
    'no network, no other programs, reads 2 files, writes none, 2.1 GB, 2 threads',
  )
  const less = describeSandbox({ ...facts, files: false, missing: ['every file can be read'] }, limits)
  assert.equal(less, 'no network, no other programs, 2.1 GB, 2 threads; but every file can be read')
  assert.match(describeSandbox(noSandbox('darwin'), { threads: 1, memoryBytes: undefined }), /^1 thread; but .* darwin/)
})
