import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { openDataDir } from '#storage'
import { renderAuditLog } from './audit.ts'
import { runCli } from './program.ts'
import { createPaint, TextOutput } from './terminal.ts'
import { widthOf } from './text-width.ts'
import type { CliDeps } from './types.ts'

const NOW = Date.UTC(2026, 10, 21, 10, 0, 0)
const key = ed25519Signer(seededRandom(1).bytes(32))
const self = peerOfPublicKey(key.publicKey)
const stranger = peerOfPublicKey(ed25519Signer(seededRandom(2).bytes(32)).publicKey)

type Ran = { readonly code: number; readonly stdout: string; readonly stderr: string }
type Bench = {
  readonly dataDir: string
  readonly run: (...args: string[]) => Promise<Ran>
  readonly edit: (sql: string) => void
}

/** A log of three hours: an entry an hour, and the clock an hour after the last. */
async function bench(t: TestContext, isTty = false): Promise<Bench> {
  const dataDir = mkdtempSync(join(tmpdir(), 'koinon-audit-cli-'))
  t.after(() => rmSync(dataDir, { recursive: true, force: true }))
  const clock = new ManualClock(NOW)
  const data = await openDataDir(dataDir, { clock, random: seededRandom(1) })
  data.audit.setSigner(key)
  data.audit.record('node-started', { version: '0.2.0' })
  clock.advance(3_600_000)
  data.audit.record('authentication-failed', {
    peer: stranger,
    reason: 'a signature\u001b[31m that does not hold\nat all',
  })
  clock.advance(3_600_000)
  data.audit.record('banned', { peer: stranger, minutes: 10 })
  clock.advance(3_600_000)
  await data.close()
  const unused = (): never => assert.fail('not for this command')
  const run = async (...args: string[]): Promise<Ran> => {
    const [stdout, stderr] = [new TextOutput({ isTty }), new TextOutput()]
    const deps: CliDeps = {
      stdout,
      stderr,
      stdin: Readable.from([]),
      lineEditor: undefined,
      env: { NO_COLOR: '1' },
      pid: 7,
      version: '1.2.3',
      clock,
      random: seededRandom(1),
      signals: { outputClosed: unused, listen: unused },
      exit: unused,
      createLog: unused,
      defaultDataDir: () => dataDir,
      findSocket: unused,
      builtInModel: '/nowhere.gguf',
      serve: unused,
      planFile: unused,
      surveyNetwork: () => assert.fail('not looked at here'),
      describeEngine: unused,
      proveSandbox: unused,
    }
    const code = await runCli(deps, ['audit', 'log', ...args])
    return { code, stdout: stdout.text, stderr: stderr.text }
  }
  const edit = (sql: string): void => {
    const database = new DatabaseSync(join(dataDir, 'node.db'))
    database.exec(sql)
    database.close()
  }
  return { dataDir, run, edit }
}

test('the log is a table: a line an entry where it is piped, safe to print', async t => {
  const { run } = await bench(t)
  const { code, stdout } = await run()
  assert.equal(code, 0)
  const end = stranger.slice(-8)
  assert.deepEqual(stdout.split('\n'), [
    'SEQ  TIME (UTC)           KIND                   PEER       FACTS',
    '  1  2026-11-21 10:00:00  node-started           -          version=0.2.0',
    `  2  2026-11-21 11:00:00  authentication-failed  …${end}  reason="a signature\\u001b[31m that does not hold\\nat all"`,
    `  3  2026-11-21 12:00:00  banned                 …${end}  minutes=10`,
    '',
  ])
})

test('on a terminal no line is too wide, and no fact is cut', async t => {
  const { run } = await bench(t, true)
  const { stdout } = await run()
  for (const line of stdout.split('\n')) assert.ok(widthOf(line) <= 80, line)
  assert.match(stdout, /^ {5}reason="a signature/m)
  assert.match(stdout, /at all"$/m)
})

test('entries are chosen by kind, peer, time and number', async t => {
  const { run } = await bench(t)
  const seqs = async (...args: string[]): Promise<number[]> => {
    const { code, stdout, stderr } = await run('--json', ...args)
    assert.equal(code, 0, stderr)
    return (JSON.parse(stdout) as { seq: number }[]).map(entry => entry.seq)
  }
  assert.deepEqual(await seqs(), [1, 2, 3])
  assert.deepEqual(await seqs('--limit', '1'), [3])
  assert.deepEqual(await seqs('--kind', 'banned'), [3])
  assert.deepEqual(await seqs('--peer', stranger), [2, 3])
  assert.deepEqual(await seqs('--peer', `…${stranger.slice(-8)}`), [2, 3])
  assert.deepEqual(await seqs('--since', '90m'), [3])
  assert.deepEqual(await seqs('--since', '2h'), [2, 3])
  assert.deepEqual(await seqs('--since', '2026-11-21T11:00:00Z'), [2, 3])
  assert.deepEqual(await seqs('--since', '2026-11-22'), [])
  assert.equal((await run('--kind', 'replay')).stdout, 'No entries.\n')
})

test('--json prints whole entries', async t => {
  const { run } = await bench(t)
  const { stdout } = await run('--json', '--kind', 'banned')
  const [entry] = JSON.parse(stdout) as Record<string, unknown>[]
  assert.match(String(entry?.['hash']), /^[0-9a-f]{64}$/)
  delete entry?.['hash']
  const facts = { minutes: 10 }
  assert.deepEqual(entry, { time: '2026-11-21T12:00:00.000Z', seq: 3, kind: 'banned', peer: stranger, facts })
})

test('--verify says that the log holds together, by whose key, and what to keep', async t => {
  const { run } = await bench(t)
  const { code, stdout } = await run('--verify')
  assert.equal(code, 0)
  assert.match(stdout, /^The audit log holds together: 3 entries\.\nSigned up to entry 3, 2026-11-21 13:00:00 UTC, by /)
  assert.ok(stdout.includes(`by ${self}.`))
  assert.match(stdout, /entry 3 is [0-9a-f]{64}\n$/)
  const { stdout: json } = await run('--verify', '--json')
  assert.equal((JSON.parse(json) as { ok: boolean }).ok, true)
})

test('--verify exits with 1 where the log was changed, and names the entry', async t => {
  const { run, edit } = await bench(t)
  edit(`UPDATE audit SET facts = '{"minutes":1}' WHERE seq = 3`)
  const { code, stdout } = await run('--verify')
  assert.equal(code, 1)
  assert.equal(
    stdout,
    'The audit log is NOT as it was written. Entry 3: the entry was changed.\n2 entries before it hold together.\n',
  )
  assert.match((await run()).stdout, /banned +…\S+ +DAMAGED minutes=1/)
  const json = await run('--verify', '--json')
  assert.equal(json.code, 1)
  assert.equal((JSON.parse(json.stdout) as { firstBad: { seq: number } }).firstBad.seq, 3)
})

test('--signer checks with the key that a person knows', async t => {
  const { run } = await bench(t)
  assert.equal((await run('--signer', self)).code, 0)
  const other = await run('--signer', stranger)
  assert.equal(other.code, 1)
  assert.match(other.stdout, /by another key than the node's/)
})

test('a log that nobody has signed says so', async t => {
  const { run, edit } = await bench(t)
  edit('DELETE FROM audit_checkpoints')
  assert.match((await run('--verify')).stdout, /None is signed by 12D3KooW/)
  edit('UPDATE audit_state SET signer = NULL')
  assert.match((await run('--verify')).stdout, /None is signed\.\n$/)
})

test('what cannot be understood is wrong usage; a directory without a node is an error', async t => {
  const { run, dataDir } = await bench(t)
  for (const args of [
    ['--since', 'yesterday'],
    ['--since', '2026-13-99'],
    ['--signer', 'abc'],
    ['--kind', 'no-such'],
    ['--peer', '…'],
    ['--limit', '0'],
  ]) {
    const { code, stderr } = await run(...args)
    assert.equal(code, 2, args.join(' '))
    assert.match(stderr, /is invalid/)
  }
  const { code, stderr } = await run('--data-dir', join(dataDir, 'nowhere'))
  assert.equal(code, 1)
  assert.match(stderr, /no node has run in .* \[STORAGE_FILE\]/)
})

test('a damaged entry cannot disturb the terminal', () => {
  const entry = { seq: 1, at: 0, kind: 'a\u001b[2J\nb', peer: 'x\r\u009by', facts: { 'n\nn': 'v' }, hash: '' }
  const text = renderAuditLog([entry], 80, createPaint(false))
  for (const control of ['\u001b', '\u009b', '\r']) assert.ok(!text.includes(control))
  assert.equal(text.split('\n').length, 4)
})
