import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { seededRandom, systemClock, toHex } from '#base'
import { blobSample } from '../../../test/support/blob-files.ts'
import { bootTag } from './boot.ts'
import { BlobFile } from './blob-file.ts'
import { openBlobStore } from './blob-store.ts'
import { maskOf, numbersIn } from './block-map.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-blob-kill-'))
after(() => rm(root, { recursive: true, force: true }))
const WRITER = fileURLToPath(new URL('../../../test/peers/blob-writer.ts', import.meta.url))
const BLOCK = 16 * 1024
const SEED = 20261122
/** Answers that a writer gives beyond the one it is killed at. */
const AHEAD_MAX = 64
const random = seededRandom(SEED)
const sample = await blobSample(16 * 64 * BLOCK + 5 * BLOCK + 9, random)
const file = join(root, 'file')
await writeFile(file, sample.bytes)

test(`a process that is killed while it writes loses nothing that it was told is kept (seed ${SEED})`, async () => {
  const directory = join(root, 'killed')
  const answered = new Map<number, bigint>()
  for (let kill = 0; kill < 10; kill++) {
    // Killed after so many answers, at whatever moment that is: lines wait in the pipe while the writer goes on, though not so
    // far that ten writers could fill the store.
    let left = random.uint32() % 120
    const writer = spawn(process.execPath, [WRITER, directory, file, `${kill}`, `${left + AHEAD_MAX}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    for await (const line of createInterface({ input: writer.stdout })) {
      const [piece, first, count] = line.split(' ').map(Number)
      if (piece !== undefined && first !== undefined && count !== undefined) {
        answered.set(piece, (answered.get(piece) ?? 0n) | maskOf(first, count))
      }
      if (left-- === 0) writer.kill('SIGKILL')
    }
    if (writer.exitCode === null && writer.signalCode === null) await once(writer, 'exit')
    assert.equal(writer.signalCode, 'SIGKILL', 'in the middle of its work')
    const blob = new BlobFile({
      directory: join(directory, toHex(sample.name.root)),
      name: sample.name,
      bootTag: bootTag(random),
    })
    // Elsewhere than on Linux it is hashed again, since nobody knows whether the machine was started anew.
    if (process.platform === 'linux') assert.equal(blob.state.rehashedBytes, 0)
    const here = new Map(blob.state.blocks)
    for (const [piece, mask] of answered)
      assert.equal(mask & ~(here.get(piece) ?? 0n), 0n, `kill ${kill}, piece ${piece}`)
    for (const [piece] of blob.state.blocks) {
      assert.notEqual(
        blob.check(piece, sample.hashed.tree.layer(piece, piece + 1)),
        undefined,
        `kill ${kill}, piece ${piece}`,
      )
    }
    blob.close()
  }
  const store = await openBlobStore({ clock: systemClock, random }, { directory })
  const blob = await store.open(sample.name)
  const held = store.list()[0]?.heldBytes ?? 0
  const least = [...answered].reduce((sum, [, mask]) => sum + numbersIn(mask).length, 0)
  assert.ok(held >= (least - 1) * BLOCK, `${held} bytes, ${least} blocks`)
  assert.deepEqual((await blob.verify({})).badPieces, [])
  await store.close()
})

const TINY_DISK = 'mount -t tmpfs -o size=6m,mode=700 tmpfs "$1" && exec "$2" "$3" "$1/store" "$4"'
const canMount =
  process.platform === 'linux' &&
  spawnSync('unshare', ['-Urm', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt'], { stdio: 'ignore' }).status === 0

test('a disk that is full is said to be so, and it goes on when space was made', {
  skip: canMount ? false : 'needs user namespaces (unshare) to mount a small disk',
}, async () => {
  const disk = await mkdtemp(join(root, 'disk-'))
  const script = ['-Urm', 'sh', '-c', TINY_DISK, 'sh', disk, process.execPath, WRITER, file]
  const { status, stdout, stderr } = spawnSync('unshare', script, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  const lines = stdout.trim().split('\n')
  assert.deepEqual(lines.slice(-2), ['full', 'after: kept 1'])
  const kept = lines.slice(1, -2)
  assert.ok(kept.length > 20 && kept.every(line => /^\d+ \d+ \d+$/.test(line)))
})
