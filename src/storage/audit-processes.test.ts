/** The audit log across processes: one that is killed while it writes, and readers beside it. */
import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { seededRandom, systemClock } from '#base'
import { ed25519Signer } from '#crypto'
import { readAuditLog } from './audit-reader.ts'
import { openDataDir } from './data-dir.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-audit-processes-'))
after(() => rm(root, { recursive: true, force: true }))

/**
 * Records as fast as it can, each entry of another kind so that buckets of tokens hold nothing back, and signs.
 *
 * @param entries after 301 of them it waits for a word; without a number it never does, nor ends
 */
function startWriter(path: string, entries = Infinity): ChildProcessByStdio<Writable, Readable, null> {
  const program = `
    import { once } from 'node:events'
    import { seededRandom, systemClock } from '#base'
    import { ed25519Signer } from '#crypto'
    import { openDataDir } from '#storage'
    const { audit, close } = await openDataDir(${JSON.stringify(path)}, { clock: systemClock, random: seededRandom(1) })
    audit.setSigner(ed25519Signer(seededRandom(1).bytes(32)))
    for (let i = 0; i < ${entries}; i++) {
      audit.record('kind-' + i, { peer: 'p' + i, i })
      if (i % 20 === 0) await new Promise(resolve => setImmediate(resolve))
      if (i !== 300) continue
      process.stdout.write('300')
      if (${entries} !== Infinity) await once(process.stdin, 'data')
    }
    await close()
    process.stdin.destroy()`
  return spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
}

test('a log whose writer was killed holds together, and the next node goes on with it', async () => {
  for (let round = 0; round < 3; round++) {
    const path = join(root, `killed-${round}`)
    const writer = startWriter(path)
    await once(writer.stdout, 'data')
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    const reader = readAuditLog(path)
    const verdict = reader.verify()
    reader.close()
    assert.deepEqual([verdict.ok, verdict.firstBad], [true, undefined])
    assert.ok(verdict.entries >= 300 && verdict.checkpoints >= 1, JSON.stringify(verdict))
    assert.ok(verdict.unsigned < 200, `${verdict.unsigned} entries not signed`)
    const data = await openDataDir(path, { clock: systemClock, random: seededRandom(1) })
    data.audit.setSigner(ed25519Signer(seededRandom(1).bytes(32)))
    data.audit.record('node-started', {})
    await data.close()
    const again = readAuditLog(path)
    assert.deepEqual(
      [again.verify().ok, again.verify().entries, again.verify().unsigned],
      [true, verdict.entries + 1, 0],
    )
    again.close()
  }
})

test('two readers see a whole log at every moment while a node writes', async () => {
  const path = join(root, 'read')
  const writer = startWriter(path, 3000)
  const exited = once(writer, 'exit')
  await once(writer.stdout, 'data')
  const readers = [readAuditLog(path), readAuditLog(path)]
  for (let isFirst = true; writer.exitCode === null; isFirst = false) {
    for (const reader of readers) {
      const { ok, entries, firstBad } = reader.verify()
      assert.deepEqual([ok, firstBad], [true, undefined])
      assert.equal(reader.entries({ limit: 5 }).length, 5)
      if (isFirst) assert.equal(entries, 301)
    }
    if (isFirst) writer.stdin.write('go on')
    await new Promise(resolve => setImmediate(resolve))
  }
  await exited
  assert.equal(writer.exitCode, 0)
  for (const reader of readers) {
    assert.deepEqual([reader.verify().entries, reader.verify().unsigned], [3000, 0])
    reader.close()
  }
})

test('reading leaves nothing behind that others could read', { skip: process.platform === 'win32' }, async () => {
  const path = join(root, 'modes')
  await (await openDataDir(path, { clock: systemClock, random: seededRandom(1) })).close()
  const reader = readAuditLog(path)
  assert.equal(reader.verify().ok, true)
  for (const end of ['', '-wal', '-shm']) {
    const file = await stat(join(path, `node.db${end}`)).catch(() => undefined)
    if (file !== undefined) assert.equal(file.mode & 0o777, 0o600)
  }
  reader.close()
})
