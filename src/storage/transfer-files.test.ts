import assert from 'node:assert/strict'
import { chmod, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import * as fc from 'fast-check'
import { type Clock, ManualClock, silentLogger, systemClock } from '#base'
import { sha256 } from '#crypto'
import { readAll, type TransferContent, type TransferSink } from '#protocol'
import {
  createTransferPair,
  impatientClock,
  NO_STORE,
  RECEIVER,
  SENDER,
  testBytes,
} from '../../test/support/transfer-pair.ts'
import { attachmentOfFile } from './file-attachment.ts'
import { openFileSource } from './file-source.ts'
import { TRANSFER_KEPT_MS_MAX, TRANSFER_NOTE_BYTES } from './limits.ts'
import { PartialFile } from './partial-file.ts'
import { openTransferFiles, type TransferFiles } from './transfer-files.ts'
import { decodeNote, encodeNote } from './transfer-note.ts'

const isWindows = process.platform === 'win32'
const root = await mkdtemp(join(tmpdir(), 'koinon-transfers-'))
const opened: TransferFiles[] = []
after(async () => {
  await Promise.all(opened.map(files => files.close()))
  await rm(root, { recursive: true, force: true })
})

const CHUNK = 252 * 1024
const MIB = 1024 * 1024
const { signal } = new AbortController()
let count = 0
const freshPath = (): string => join(root, `transfers-${count++}`)

async function openFiles(
  path: string,
  options: { readonly clock?: Clock; readonly quotaBytes?: number } = {},
): Promise<TransferFiles> {
  const { clock = systemClock, quotaBytes = 200 * MIB } = options
  const files = await openTransferFiles(path, { clock, log: silentLogger }, { quotaBytes })
  opened.push(files)
  return files
}

const contentOf = (bytes: Uint8Array, peer = 'a-peer'): TransferContent => ({
  peer,
  sizeBytes: bytes.byteLength,
  sha256: sha256(bytes),
})

/** Appends everything behind what the sink has. */
async function fill(sink: TransferSink, bytes: Uint8Array, end = bytes.byteLength): Promise<void> {
  for (let at = sink.keptBytes; at < end; at += CHUNK) {
    assert.equal(await sink.append(bytes.slice(at, Math.min(end, at + CHUNK)), undefined), true)
  }
}

test('what arrives is in a private file until it is released, and can be read from anywhere', async () => {
  const path = freshPath()
  const files = await openFiles(path)
  const bytes = testBytes(3 * CHUNK + 7)
  const sink = await files.open(contentOf(bytes))
  await fill(sink, bytes)
  const attachment = await sink.finish()
  assert.ok(attachment !== undefined)
  assert.equal(files.takenBytes, bytes.byteLength)
  for (const from of [0, 1, CHUNK, 2 * CHUNK + 5, bytes.byteLength]) {
    const parts: Uint8Array[] = []
    for await (const part of attachment.read({ from, signal })) parts.push(part)
    assert.deepEqual(Buffer.concat(parts), Buffer.from(bytes.subarray(from)))
  }
  const names = await readdir(path)
  assert.equal(names.length, 1)
  if (!isWindows) {
    assert.equal((await stat(path)).mode & 0o777, 0o700)
    assert.equal((await stat(join(path, names[0] ?? ''))).mode & 0o777, 0o600)
  }
  await attachment.release()
  await attachment.release()
  assert.deepEqual([await readdir(path), files.takenBytes], [[], 0])
})

test('an attachment with another digest than was announced leaves nothing behind', async () => {
  const path = freshPath()
  const files = await openFiles(path)
  const bytes = testBytes(2 * CHUNK)
  const sink = await files.open({ ...contentOf(bytes), sha256: sha256(Uint8Array.of(1)) })
  await fill(sink, bytes)
  assert.equal(await sink.finish(), undefined)
  assert.deepEqual([await readdir(path), files.takenBytes], [[], 0])
})

test('a chunk with a wrong check is noticed at the chunk, and no further one is taken', async () => {
  const files = await openFiles(freshPath())
  const bytes = testBytes(2 * CHUNK)
  const sink = await files.open(contentOf(bytes))
  const check = sha256(bytes.subarray(0, CHUNK)).subarray(0, 8)
  assert.equal(await sink.append(bytes.slice(0, CHUNK), check), true)
  assert.equal(await sink.append(bytes.slice(CHUNK), check), false)
  assert.equal(await sink.append(bytes.slice(CHUNK), undefined), false)
  assert.equal(sink.keptBytes, CHUNK)
  await sink.discard()
  await sink.suspend()
  assert.equal(files.takenBytes, 0)
})

test('an unfinished attachment goes on where it ended, after a restart too, and only for its own peer', async () => {
  const path = freshPath()
  const bytes = testBytes(6 * CHUNK + 1)
  const first = await openFiles(path)
  const begun = await first.open(contentOf(bytes))
  await fill(begun, bytes, 2 * CHUNK)
  await begun.suspend()
  assert.equal(first.takenBytes, 2 * CHUNK)
  const again = await first.open(contentOf(bytes))
  assert.equal(again.keptBytes, 2 * CHUNK)
  await fill(again, bytes, 4 * CHUNK)
  await again.suspend()
  await first.close()

  const second = await openFiles(path)
  assert.equal(second.takenBytes, 4 * CHUNK)
  const other = await second.open(contentOf(bytes, 'another-peer'))
  assert.equal(other.keptBytes, 0)
  const sink = await second.open(contentOf(bytes))
  assert.equal(sink.keptBytes, 4 * CHUNK)
  await fill(sink, bytes)
  const attachment = await sink.finish()
  assert.ok(attachment !== undefined)
  assert.deepEqual(await readAll(attachment, { maxBytes: bytes.byteLength, signal }), bytes)
  await attachment.release()
})

test('a killed node goes on from the last note, and not from what the disk has lost', async () => {
  const path = freshPath()
  const bytes = testBytes(TRANSFER_NOTE_BYTES + 9 * CHUNK)
  const killed = await openFiles(path)
  const begun = await killed.open(contentOf(bytes))
  await fill(begun, bytes, TRANSFER_NOTE_BYTES + 3 * CHUNK)
  // No suspend: the process is gone.
  await killed.close()
  const second = await openFiles(path)
  const sink = await second.open(contentOf(bytes))
  assert.ok(sink.keptBytes >= TRANSFER_NOTE_BYTES && sink.keptBytes < TRANSFER_NOTE_BYTES + CHUNK)
  await sink.suspend()
  await second.close()
  const [part] = (await readdir(path)).filter(name => name.endsWith('.part'))
  assert.ok(part !== undefined)
  await truncate(join(path, part), 5 * CHUNK)
  const third = await openFiles(path)
  const short = await third.open(contentOf(bytes))
  assert.equal(short.keptBytes, 0, 'the file became shorter')
  await fill(short, bytes, 4 * CHUNK)
  await short.suspend()
  const handle = await open(join(path, part), 'r+')
  await handle.write(Uint8Array.of(1, 2, 3), 0, 3, 1000)
  await handle.close()
  const damaged = await third.open(contentOf(bytes))
  assert.equal(damaged.keptBytes, 0, 'the file has other bytes')
  await fill(damaged, bytes)
  await (await damaged.finish())?.release()
  assert.equal(third.takenBytes, 0)
})

test('what nobody can go on with is removed at the start', async () => {
  const path = freshPath()
  const first = await openFiles(path)
  const bytes = testBytes(4 * CHUNK)
  const done = await first.open(contentOf(bytes))
  await fill(done, bytes)
  const forgotten = await done.finish()
  const kept = await first.open(contentOf(testBytes(4 * CHUNK, 2)))
  await fill(kept, testBytes(4 * CHUNK, 2), CHUNK)
  await kept.suspend()
  await first.close()
  // A node that is killed has released nothing; here only the handle is given back.
  await forgotten?.release()
  const note = (await readdir(path)).find(name => name.endsWith('.json')) ?? ''
  await writeFile(join(path, 'stray'), 'x')
  await writeFile(join(path, `${'0'.repeat(32)}.part`), 'x')
  await writeFile(join(path, `${'1'.repeat(32)}.json`), await readFile(join(path, note)))
  await writeFile(join(path, `${'2'.repeat(32)}.part`), 'x')
  await writeFile(join(path, `${'2'.repeat(32)}.json`), '{"version": 1')
  await writeFile(join(path, `${note}.new`), 'x')
  const second = await openFiles(path)
  assert.deepEqual((await readdir(path)).sort(), [note, note.replace('.json', '.part')].sort())
  assert.equal(second.takenBytes, CHUNK)
})

test('the quota counts whole attachments, and the oldest unfinished ones make room', async () => {
  const clock = new ManualClock(1_000_000)
  const path = freshPath()
  const files = await openFiles(path, { clock, quotaBytes: 10 * CHUNK })
  const suspend = async (seed: number): Promise<TransferContent> => {
    const bytes = testBytes(4 * CHUNK, seed)
    const sink = await files.open(contentOf(bytes))
    await fill(sink, bytes, 3 * CHUNK)
    await sink.suspend()
    clock.advance(1)
    return contentOf(bytes)
  }
  const [oldest, newest] = [await suspend(1), await suspend(2)]
  const active = await files.open(contentOf(testBytes(7 * CHUNK, 3)))
  assert.equal(files.takenBytes, 10 * CHUNK, 'the oldest made room')
  await assert.rejects(files.open(contentOf(testBytes(4 * CHUNK, 4))), { code: 'TRANSFER_QUOTA' })
  assert.equal(files.takenBytes, 7 * CHUNK, 'what was unfinished has gone before')
  await active.discard()
  for (const content of [oldest, newest]) {
    const sink = await files.open(content)
    assert.equal(sink.keptBytes, 0)
    await sink.discard()
  }
  await assert.rejects(files.open({ ...oldest, sizeBytes: 10 * CHUNK + 1 }), { code: 'TRANSFER_QUOTA' })
  assert.deepEqual([await readdir(path), files.takenBytes], [[], 0])
})

test('an unfinished attachment is forgotten after a day', async () => {
  const clock = new ManualClock(1_000_000)
  const files = await openFiles(freshPath(), { clock })
  const bytes = testBytes(4 * CHUNK)
  const sink = await files.open(contentOf(bytes))
  await fill(sink, bytes, CHUNK)
  await sink.suspend()
  clock.advance(TRANSFER_KEPT_MS_MAX + 1)
  const other = await files.open(contentOf(testBytes(CHUNK, 5)))
  assert.equal(files.takenBytes, CHUNK)
  await other.discard()
})

test('an attachment that no disk has room for is refused before anything is sent', async () => {
  const files = await openFiles(freshPath(), { quotaBytes: Number.MAX_SAFE_INTEGER })
  const content = { ...contentOf(Uint8Array.of(1)), sizeBytes: 2 ** 52 }
  await assert.rejects(files.open(content), { code: 'TRANSFER_DISK_FULL' })
  assert.equal(files.takenBytes, 0)
})

test('a disk that becomes full loses nothing of what is written, and goes on when there is space', async () => {
  const path = freshPath()
  const bytes = testBytes(4 * CHUNK)
  let room = 2 * CHUNK + 1000
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
  const handles: number[] = []
  const disk = {
    write: (handle: number, part: Uint8Array): number => {
      handles.push(handle)
      if (room === 0) throw full
      const done = Math.min(room, part.byteLength)
      room -= done
      return done
    },
  }
  const options = { path, notePath: `${path}.json`, content: contentOf(bytes), note: undefined }
  const file = new PartialFile(options, disk)
  const chunkAt = (index: number): Uint8Array => bytes.subarray(index * CHUNK, (index + 1) * CHUNK)
  assert.deepEqual([file.append(chunkAt(0), undefined, 1), file.append(chunkAt(1), undefined, 1)], ['kept', 'kept'])
  assert.equal(file.append(chunkAt(2), undefined, 1), 'full')
  assert.equal(file.append(chunkAt(2), undefined, 1), 'full')
  assert.equal(file.suspend(2), 2 * CHUNK)
  // The calls above only counted: put on the disk what they would have written.
  await writeFile(path, bytes.subarray(0, 2 * CHUNK))
  const note = decodeNote(await readFile(`${path}.json`, 'utf8'))
  const again = new PartialFile({ ...options, note })
  assert.equal(again.keptBytes, 2 * CHUNK)
  assert.deepEqual([again.append(chunkAt(2), undefined, 3), again.append(chunkAt(3), undefined, 3)], ['kept', 'kept'])
  assert.deepEqual(again.finish(), sha256(bytes))
  assert.deepEqual(new Uint8Array(await readFile(path)), bytes)
})

test('a directory that cannot be written is a clear error', {
  skip: isWindows || process.getuid?.() === 0,
}, async () => {
  const path = freshPath()
  const files = await openFiles(path)
  await chmod(path, 0o500)
  await assert.rejects(files.open(contentOf(testBytes(CHUNK))), { code: 'TRANSFER_STORE' })
})

test('a directory that is a file is a clear error', async () => {
  const path = freshPath()
  await writeFile(path, '')
  await assert.rejects(openFiles(path), { code: 'TRANSFER_STORE' })
})

test('the same content can be fetched twice at once', async () => {
  const path = freshPath()
  const files = await openFiles(path)
  const bytes = testBytes(2 * CHUNK)
  const sinks = await Promise.all([files.open(contentOf(bytes)), files.open(contentOf(bytes))])
  for (const sink of sinks) await fill(sink, bytes)
  const [one, two] = await Promise.all(sinks.map(sink => sink.finish()))
  assert.ok(one !== undefined && two !== undefined)
  await one.release()
  assert.deepEqual(await readAll(two, { maxBytes: bytes.byteLength, signal }), bytes)
  await two.release()
  assert.deepEqual(await readdir(path), [])
})

test('a thread that dies fails what it was doing, and the next attachment gets another', async () => {
  const files = await openFiles(freshPath())
  const bytes = testBytes(2 * CHUNK)
  const sink = await files.open(contentOf(bytes))
  await fill(sink, bytes, CHUNK)
  await files.close()
  await assert.rejects(sink.append(bytes.slice(CHUNK), undefined), { code: 'TRANSFER_STORE' })
  await sink.suspend()
  const again = await files.open(contentOf(bytes))
  assert.equal(again.keptBytes, 0)
  await fill(again, bytes)
  await (await again.finish())?.release()
  assert.equal(files.takenBytes, 0)
})

test('the thread ends when nothing was written for a minute', async () => {
  const clock = new ManualClock()
  const files = await openFiles(freshPath(), { clock })
  const bytes = testBytes(CHUNK)
  for (let i = 0; i < 2; i++) {
    const sink = await files.open(contentOf(bytes))
    await sink.discard()
    clock.advance(60_000)
    await new Promise(setImmediate)
  }
})

test('a note that is damaged, of another version or absurd is no note', () => {
  const note = { ...contentOf(testBytes(100)), keptBytes: 50, keptSha256: sha256(testBytes(50)), at: 5 }
  const text = encodeNote(note)
  assert.deepEqual(decodeNote(text), note)
  for (const wrong of ['', '{', '[]', text.replace('"version":1', '"version":2'), text.replace(':50', ':101')]) {
    assert.equal(decodeNote(wrong), undefined)
  }
})

test('a part of a file is an attachment, and its source stays open unless it is told otherwise', async () => {
  const path = freshPath()
  const bytes = testBytes(3 * CHUNK)
  await writeFile(path, bytes)
  const source = await openFileSource(path)
  const part = attachmentOfFile(source, { offset: 1000, sizeBytes: 2 * CHUNK })
  assert.deepEqual(await readAll(part, { maxBytes: 2 * CHUNK, signal }), bytes.slice(1000, 1000 + 2 * CHUNK))
  await part.release()
  const whole = attachmentOfFile(source, { onRelease: () => source.close() })
  const caller = new AbortController()
  caller.abort(new Error('enough'))
  const read = async (): Promise<void> => {
    for await (const piece of whole.read({ from: 0, signal: caller.signal })) assert.fail(`${piece.byteLength} bytes`)
  }
  await assert.rejects(read(), /enough/)
  await truncate(path, CHUNK)
  await assert.rejects(readAll(whole, { maxBytes: 3 * CHUNK, signal }), { code: 'TRANSFER_SOURCE' })
  await whole.release()
  await assert.rejects(readAll(whole, { maxBytes: 3 * CHUNK, signal }), { code: 'STORAGE_READ' })
})

test('transfers between nodes survive lost streams and restarts of the receiver at any place', async () => {
  const sourcePath = freshPath()
  const bytes = testBytes(5 * MIB)
  await writeFile(sourcePath, bytes)
  const source = await openFileSource(sourcePath)
  after(() => source.close())
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: MIB + 1, max: 5 * MIB }),
      fc.array(fc.integer({ min: 1, max: 4 * MIB }), { maxLength: 3 }),
      fc.integer({ min: 1, max: 4 * MIB }),
      async (sizeBytes, breaks, stopAfter) => {
        const path = freshPath()
        const left = [...breaks]
        const clock = impatientClock
        const first = createTransferPair({ clock, store: NO_STORE })
        const header = await first.sender.offer(RECEIVER, attachmentOfFile(source, { sizeBytes }))
        assert.ok('transfer' in header)
        // The receiver is stopped once so much has arrived, and started again with the same directory.
        const store = await openFiles(path, { clock })
        let arrived = 0
        const stopping: TransferFiles = Object.create(store, {
          open: {
            value: async (content: TransferContent): Promise<TransferSink> => {
              const sink = await store.open(content)
              return Object.create(sink, {
                append: {
                  value: (chunk: Uint8Array<ArrayBuffer>, check: Uint8Array | undefined) => {
                    arrived += chunk.byteLength
                    if (arrived > stopAfter) void one.receiver.stop()
                    return sink.append(chunk, check)
                  },
                },
              }) as TransferSink
            },
          },
        }) as TransferFiles
        const one = createTransferPair({ clock, store: stopping, breakAfter: () => left.shift(), sender: first.sender })
        const outcome = await one.receiver
          .receive(SENDER, header, { maxBytes: 5 * MIB })
          .catch((error: unknown) => error)
        await one.receiver.stop()
        await store.close()
        const two = createTransferPair({ clock, store: await openFiles(path, { clock }), sender: first.sender })
        const wasStopped = outcome instanceof Error
        const attachment = wasStopped
          ? await two.receiver.receive(SENDER, header, { maxBytes: 5 * MIB })
          : (outcome as Awaited<ReturnType<typeof two.receiver.receive>>)
        assert.deepEqual(await readAll(attachment, { maxBytes: sizeBytes, signal }), bytes.slice(0, sizeBytes))
        await attachment.release()
        await two.receiver.stop()
      },
    ),
    { numRuns: 12 },
  )
})

test('64 MiB from file to file arrive whole', async () => {
  const sourcePath = freshPath()
  const bytes = testBytes(64 * MIB)
  await writeFile(sourcePath, bytes)
  const digest = sha256(bytes)
  const source = await openFileSource(sourcePath)
  const { sender, receiver } = createTransferPair({ store: await openFiles(freshPath()) })
  const header = await sender.offer(RECEIVER, attachmentOfFile(source, { onRelease: () => source.close() }))
  assert.ok('transfer' in header)
  assert.deepEqual(header.sha256, digest)
  const attachment = await receiver.receive(SENDER, header, { maxBytes: 64 * MIB })
  const last: Uint8Array[] = []
  for await (const part of attachment.read({ from: 63 * MIB, signal })) last.push(part)
  assert.deepEqual(Buffer.concat(last), Buffer.from(bytes.subarray(63 * MIB)))
  await attachment.release()
  await receiver.stop()
  await sender.stop()
})
