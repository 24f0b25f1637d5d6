import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ByteStream, createStreamPair, KoinonError, ManualClock, seededRandom, silentLogger } from '#base'
import { sha256 } from '#crypto'
import {
  createTransferPair,
  impatientClock,
  RECEIVER,
  SENDER,
  testBytes,
  watchedAttachment,
} from '../../../test/support/transfer-pair.ts'
import {
  TRANSFER_BYTES_MAX,
  TRANSFER_CHUNK_BYTES,
  TRANSFER_IDLE_MS_MAX,
  TRANSFER_MS_MAX,
  TRANSFER_START_MS_MAX,
  TRANSFERS_FETCHED_PER_PEER_MAX,
  TRANSFERS_SENT_PER_PEER_MAX,
} from '../limits.ts'
import { isPeerToBlame } from '../transfer-errors.ts'
import { readAll } from './attachments.ts'
import { createMemorySink } from './memory-sink.ts'
import { chunkMessage, encodeAck, encodeFailed, encodeGet, type TransferMessage, TransferReader } from './messages.ts'
import type { OfferOutcome } from './offers.ts'
import { Transfers } from './transfers.ts'
import type { TransferStore } from './types.ts'

const CHUNK = TRANSFER_CHUNK_BYTES
const { signal } = new AbortController()
const anySize = { maxBytes: TRANSFER_BYTES_MAX }

/** Memory stands in for the disk: what is large arrives the same way. */
const store: TransferStore = { open: content => Promise.resolve(createMemorySink(content, () => undefined)) }

const coded = (code: string, blame: boolean) => (error: unknown) => {
  assert.ok(error instanceof KoinonError, String(error))
  assert.equal(error.code, code, error.message)
  assert.equal(isPeerToBlame(error), blame)
  return true
}

/** A stream to the sender, and what it answers, message by message. */
function ask(open: () => ByteStream): {
  readonly stream: ByteStream
  readonly next: () => Promise<TransferMessage | undefined>
} {
  const stream = open()
  async function* messages(): AsyncGenerator<TransferMessage, void, undefined> {
    const reader = new TransferReader({ takesChunks: true })
    for await (const piece of stream.received) yield* reader.push(piece)
  }
  const answers = messages()
  return { stream, next: async () => (await answers.next()).value ?? undefined }
}

test('a receiver that breaks the rules is told so, blamed and cut, and the offer stays', async () => {
  const { sender, receiver, open, blamed } = createTransferPair({ store })
  const bytes = testBytes(300_000)
  const header = await sender.offer(RECEIVER, watchedAttachment(bytes))
  assert.ok('transfer' in header)
  const get = encodeGet(header.transfer, 0)
  const wrongs: readonly (readonly Uint8Array[])[] = [
    [encodeGet(header.transfer, 1)],
    [encodeGet(header.transfer, 2 ** 40)],
    [encodeAck(5)],
    [get, get],
    [get, encodeAck(300_001)],
    [chunkMessage(0, 1, undefined).bytes],
    [Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1)],
  ]
  for (const messages of wrongs) {
    const { stream, next } = ask(open)
    for (const message of messages) stream.send(message)
    let last: TransferMessage | undefined
    for (let message = await next(); message !== undefined; message = await next()) last = message
    assert.deepEqual(last, { kind: 'failed', reason: 'protocol' })
  }
  assert.equal(blamed.length, wrongs.length)
  assert.ok(blamed.every(line => line.startsWith(RECEIVER)))
  const received = await receiver.receive(SENDER, header, anySize)
  assert.deepEqual(await readAll(received, { maxBytes: 300_000, signal }), bytes)
})

test('a stream that asks for nothing, and a reader that takes nothing, are cut', async () => {
  const clock = new ManualClock()
  const { sender, open } = createTransferPair({ store, clock })
  const silent = ask(open)
  clock.advance(TRANSFER_START_MS_MAX)
  await assert.rejects(silent.next(), { code: 'STREAM_RESET' })
  const header = await sender.offer(RECEIVER, watchedAttachment(testBytes(30_000_000)))
  assert.ok('transfer' in header)
  const slow = ask(open)
  slow.stream.send(encodeGet(header.transfer, 0))
  let chunks = 0
  const drain = async (): Promise<void> => {
    while ((await slow.next())?.kind === 'chunk') chunks++
  }
  const cut = assert.rejects(drain(), { code: 'STREAM_RESET' })
  while (chunks < 64) await new Promise(setImmediate)
  clock.advance(TRANSFER_IDLE_MS_MAX - 1)
  await new Promise(setImmediate)
  assert.equal(chunks, 64, 'no more than the window without an acknowledgement')
  clock.advance(1)
  await cut
})

test('one peer gets only so many streams, and another stream for the same offer replaces the first', async () => {
  const { sender, open } = createTransferPair({ store })
  const header = await sender.offer(RECEIVER, watchedAttachment(testBytes(30_000_000)))
  assert.ok('transfer' in header)
  const first = ask(open)
  first.stream.send(encodeGet(header.transfer, 0))
  assert.equal((await first.next())?.kind, 'chunk')
  const second = ask(open)
  second.stream.send(encodeGet(header.transfer, 116 * CHUNK))
  const ended = async (): Promise<void> => {
    for (let i = 0; i < 100; i++) await first.next()
  }
  await assert.rejects(ended(), { code: 'STREAM_RESET' })
  const chunk = await second.next()
  assert.ok(chunk?.kind === 'chunk')
  assert.deepEqual([chunk.offset, chunk.bytes.byteLength], [116 * CHUNK, 30_000_000 - 116 * CHUNK])
  const more = Array.from({ length: TRANSFERS_SENT_PER_PEER_MAX }, () => ask(open))
  assert.deepEqual(await more.at(-1)?.next(), { kind: 'failed', reason: 'busy' })
  await sender.stop()
})

/** A receiver whose peer says what the test wants. */
function withHostileSender(say: (stream: ByteStream, get: TransferMessage & { kind: 'get' }) => void): {
  readonly receiver: Transfers
  readonly blamed: string[]
  readonly heard: TransferMessage[]
} {
  const heard: TransferMessage[] = []
  const blamed: string[] = []
  const openStream = (): Promise<ByteStream> => {
    const [near, far] = createStreamPair('/koinon/bulk/1', { a: RECEIVER, b: SENDER })
    const listen = async (): Promise<void> => {
      const reader = new TransferReader({ takesChunks: true })
      for await (const piece of far.received) {
        for (const message of reader.push(piece)) {
          heard.push(message)
          if (message.kind === 'get') say(far, message)
        }
      }
      await far.close()
    }
    listen().catch(() => undefined)
    return Promise.resolve(near)
  }
  const receiver = new Transfers({
    clock: impatientClock,
    random: seededRandom(1),
    log: silentLogger,
    store,
    openStream,
    blame: (_peer, what) => void blamed.push(what),
  })
  return { receiver, blamed, heard }
}

test('a sender that breaks the rules, or lies about the bytes, is blamed and told', async () => {
  const bytes = testBytes(2 * CHUNK)
  const header = { transfer: new Uint8Array(16), sizeBytes: 2 * CHUNK, sha256: sha256(bytes) }
  const chunkAt = (offset: number, size: number, check?: Uint8Array): Uint8Array => {
    const message = chunkMessage(offset, size, check)
    message.room.set(bytes.subarray(0, size))
    return message.bytes
  }
  const good = chunkAt(0, CHUNK, sha256(bytes.subarray(0, CHUNK)).subarray(0, 8))
  const oversized = chunkAt(0, CHUNK).slice()
  new DataView(oversized.buffer).setUint32(0, CHUNK + 21)
  const cases: ReadonlyArray<readonly [code: string, ...messages: Uint8Array[]]> = [
    ['TRANSFER_PROTOCOL', chunkAt(CHUNK, CHUNK)],
    ['TRANSFER_PROTOCOL', good, good],
    ['TRANSFER_PROTOCOL', chunkAt(0, 5)],
    ['TRANSFER_PROTOCOL', oversized],
    ['TRANSFER_PROTOCOL', encodeAck(1)],
    ['TRANSFER_PROTOCOL', encodeFailed('not-wanted')],
    ['TRANSFER_CORRUPT', chunkAt(0, CHUNK, new Uint8Array(8).fill(1))],
    // The first half twice: each chunk is as the sender says, the whole is not what it announced.
    ['TRANSFER_CORRUPT', good, chunkAt(CHUNK, CHUNK)],
  ]
  for (const [code, ...messages] of cases) {
    const { receiver, heard } = withHostileSender(stream => {
      for (const message of messages) stream.send(message)
    })
    await assert.rejects(receiver.receive(SENDER, header, anySize), coded(code, true))
    await receiver.stop()
    assert.deepEqual(heard.at(-1), { kind: 'failed', reason: 'protocol' }, code)
  }
})

test('bytes behind the last chunk are blamed, though the attachment is whole', async () => {
  const bytes = testBytes(CHUNK)
  const message = chunkMessage(0, CHUNK, undefined)
  message.room.set(bytes)
  const { receiver, blamed, heard } = withHostileSender(stream => {
    stream.send(message.bytes)
    stream.send(message.bytes)
  })
  const header = { transfer: new Uint8Array(16), sizeBytes: CHUNK, sha256: sha256(bytes) }
  const received = await receiver.receive(SENDER, header, anySize)
  assert.deepEqual(await readAll(received, { maxBytes: CHUNK, signal }), bytes)
  await receiver.stop()
  assert.deepEqual(blamed, ['more bytes than were announced'])
  assert.deepEqual(heard.at(-1)?.kind, 'delivered')
})

test('a sender that is busy is asked again, and a silent one is given up at the deadline', async () => {
  const bytes = testBytes(CHUNK)
  const header = { transfer: new Uint8Array(16), sizeBytes: CHUNK, sha256: sha256(bytes) }
  let asked = 0
  const busy = withHostileSender(stream => {
    const message = chunkMessage(0, CHUNK, undefined)
    message.room.set(bytes)
    stream.send(++asked < 4 ? encodeFailed('busy') : message.bytes)
  })
  const received = await busy.receiver.receive(SENDER, header, anySize)
  assert.equal(received.sizeBytes, CHUNK)
  assert.equal(asked, 4)
  const silent = withHostileSender(() => undefined)
  await assert.rejects(
    silent.receiver.receive(SENDER, header, { ...anySize, deadlineMs: 100 }),
    coded('TIMEOUT', false),
  )
  await silent.receiver.stop()
})

test('so many attachments are fetched from one peer at once, and places come back', async () => {
  const { receiver } = withHostileSender(() => undefined)
  const header = { transfer: new Uint8Array(16), sizeBytes: CHUNK, sha256: new Uint8Array(32) }
  const caller = new AbortController()
  const fetches = Array.from({ length: TRANSFERS_FETCHED_PER_PEER_MAX }, () =>
    receiver.receive(SENDER, header, { ...anySize, signal: caller.signal }),
  )
  await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_BUSY', false))
  caller.abort(new Error('enough'))
  for (const fetched of fetches) await assert.rejects(fetched, /enough/)
  await receiver.stop()
})

test('an offer ends after a day, even while it is being fetched', async () => {
  const clock = new ManualClock()
  const { sender, open } = createTransferPair({ store, clock })
  const settled = Promise.withResolvers<OfferOutcome>()
  const header = await sender.offer(RECEIVER, watchedAttachment(testBytes(65_537)), { onSettled: settled.resolve })
  assert.ok('transfer' in header)
  const { stream, next } = ask(open)
  stream.send(encodeGet(header.transfer, 0))
  assert.equal((await next())?.kind, 'chunk')
  clock.advance(TRANSFER_MS_MAX)
  assert.equal(await settled.promise, 'expired')
})
