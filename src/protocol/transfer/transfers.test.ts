import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type ByteStream, createStreamPair, KoinonError, ManualClock, seededRandom, silentLogger } from '#base'
import { sha256 } from '#crypto'
import type { AttachmentHeader } from '#wire'
import {
  createTransferPair,
  impatientClock,
  NO_STORE,
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
  TRANSFER_OFFER_MS_MAX,
  TRANSFER_START_MS_MAX,
  TRANSFERS_FETCHED_PER_PEER_MAX,
  TRANSFERS_OFFERED_PER_PEER_MAX,
  TRANSFERS_SENT_PER_PEER_MAX,
} from '../limits.ts'
import { isPeerToBlame } from '../transfer-errors.ts'
import { attachmentOfBytes, readAll } from './attachments.ts'
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

test('what is small travels in the header, and is released at once', async () => {
  const { sender, receiver } = createTransferPair({ store })
  const bytes = testBytes(65_536)
  const attachment = watchedAttachment(bytes)
  const header = await sender.offer(RECEIVER, attachment)
  assert.ok('bytes' in header)
  assert.equal(attachment.releases(), 1)
  const received = await receiver.receive(SENDER, header, anySize)
  assert.deepEqual(await readAll(received, { maxBytes: 65_536, signal }), bytes)
  await assert.rejects(receiver.receive(SENDER, header, { maxBytes: 65_535 }), coded('TRANSFER_TOO_LARGE', false))
})

test('what is larger is fetched, checked and confirmed, and then released by its owner', async () => {
  const { sender, receiver, blamed, streamCount } = createTransferPair({ store })
  for (const size of [65_537, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 2_000_000]) {
    const bytes = testBytes(size, size)
    const attachment = watchedAttachment(bytes)
    const settled = Promise.withResolvers<OfferOutcome>()
    const header = await sender.offer(RECEIVER, attachment, { onSettled: settled.resolve })
    assert.ok('transfer' in header)
    assert.deepEqual([header.sizeBytes, header.sha256], [size, sha256(bytes)])
    const received = await receiver.receive(SENDER, header, anySize)
    assert.deepEqual(await readAll(received, { maxBytes: size, signal }), bytes)
    assert.equal(await settled.promise, 'delivered')
    assert.equal(attachment.releases(), 1)
    await received.release()
    await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_UNKNOWN', false), 'fetched twice')
  }
  assert.deepEqual(blamed, [])
  assert.equal(streamCount(), 12)
})

test('a digest that the owner knows is taken as it is, and a wrong one is found by the receiver', async () => {
  const { sender, receiver } = createTransferPair({ store })
  const bytes = testBytes(400_000)
  const right = { ...watchedAttachment(bytes), sha256: sha256(bytes) }
  const received = await receiver.receive(SENDER, await sender.offer(RECEIVER, right), anySize)
  assert.deepEqual(await readAll(received, { maxBytes: 400_000, signal }), bytes)
  const wrong = { ...watchedAttachment(bytes), sha256: sha256(testBytes(3)) }
  const header = await sender.offer(RECEIVER, wrong)
  await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_CORRUPT', true))
})

test('streams that break anywhere do not matter: it goes on from the last chunk that was whole', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 65_537, max: 12 * CHUNK }),
      fc.array(fc.integer({ min: CHUNK + 100, max: 6 * CHUNK }), { maxLength: 8 }),
      async (size, breaks) => {
        const left = [...breaks]
        const pair = createTransferPair({ store, breakAfter: () => left.shift() })
        const bytes = testBytes(size, size)
        const header = await pair.sender.offer(RECEIVER, watchedAttachment(bytes))
        const received = await pair.receiver.receive(SENDER, header, anySize)
        assert.deepEqual(await readAll(received, { maxBytes: size, signal }), bytes)
        assert.ok(pair.streamCount() <= breaks.length + 1)
        assert.deepEqual(pair.blamed, [])
      },
    ),
    { numRuns: 60 },
  )
})

test('a connection that never brings anything is given up after ten attempts', async () => {
  const clock = new ManualClock()
  const pair = createTransferPair({ store, clock, breakAfter: () => 10 })
  const header = await pair.sender.offer(RECEIVER, watchedAttachment(testBytes(300_000)))
  const failed = assert.rejects(pair.receiver.receive(SENDER, header, anySize), coded('TRANSFER_LOST', false))
  for (let i = 1; i <= 10; i++) {
    while (pair.streamCount() < i) await new Promise(setImmediate)
    await new Promise(setImmediate)
    clock.advance(10_000)
  }
  await failed
  assert.equal(pair.streamCount(), 10)
})

test('what is too large, empty or of a stopped node is refused before a stream is opened', async () => {
  const { sender, receiver, streamCount } = createTransferPair({ store })
  const header = await sender.offer(RECEIVER, watchedAttachment(testBytes(300_000)))
  await assert.rejects(receiver.receive(SENDER, header, { maxBytes: 299_999 }), coded('TRANSFER_TOO_LARGE', false))
  const empty = { transfer: new Uint8Array(16), sizeBytes: 0, sha256: new Uint8Array(32) }
  await assert.rejects(receiver.receive(SENDER, empty, anySize), coded('TRANSFER_PROTOCOL', true))
  const huge = { ...watchedAttachment(new Uint8Array(0)), sizeBytes: TRANSFER_BYTES_MAX + 1 }
  await assert.rejects(sender.offer(RECEIVER, huge), coded('TRANSFER_TOO_LARGE', false))
  await receiver.stop()
  await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_STOPPED', false))
  assert.equal(streamCount(), 0)
})

test('a transfer is only for the peer that it was offered to', async () => {
  const { sender, receiver } = createTransferPair({ store })
  const header = await sender.offer('somebody-else', watchedAttachment(testBytes(300_000)))
  await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_UNKNOWN', false))
})

test('a source that fails or has another size than it says ends the transfer on both sides', async () => {
  const { sender, receiver } = createTransferPair({ store })
  const bytes = testBytes(300_000)
  for (const sizeBytes of [299_999, 300_001]) {
    const attachment = { ...watchedAttachment(bytes), sizeBytes }
    await assert.rejects(sender.offer(RECEIVER, attachment), coded('TRANSFER_SOURCE', false))
    assert.equal(attachment.releases(), 1)
    const asKnown = await sender.offer(RECEIVER, { ...attachment, sizeBytes: 300_001, sha256: sha256(bytes) })
    await assert.rejects(receiver.receive(SENDER, asKnown, anySize), coded('TRANSFER_SOURCE', false))
  }
  const broken = {
    ...watchedAttachment(bytes),
    sha256: sha256(bytes),
    read: () => {
      throw new Error('the disk is gone')
    },
  }
  const header = await sender.offer(RECEIVER, broken)
  await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_SOURCE', false))
})

test('who gives up tells the sender, which lets the attachment go', async () => {
  const settled = Promise.withResolvers<OfferOutcome>()
  const caller = new AbortController()
  // The stream hangs once the first chunk is through: the store takes nothing.
  const stuck: TransferStore = {
    open: content => {
      const sink = createMemorySink(content, () => undefined)
      const append: typeof sink.append = async (chunk, check) => {
        const isRight = await sink.append(chunk, check)
        caller.abort(new Error('not wanted any more'))
        return isRight
      }
      return Promise.resolve({ ...sink, append })
    },
  }
  const { sender, receiver } = createTransferPair({ store: stuck })
  const attachment = watchedAttachment(testBytes(4_000_000))
  const header = await sender.offer(RECEIVER, attachment, { onSettled: settled.resolve })
  await assert.rejects(receiver.receive(SENDER, header, { ...anySize, signal: caller.signal }), /not wanted any more/)
  assert.equal(await settled.promise, 'refused')
  assert.equal(attachment.releases(), 1)
})

test('what is withdrawn while it is fetched ends there, and is unknown from then on', async () => {
  const outcomes: OfferOutcome[] = []
  let withdraw: () => void = () => undefined
  const late: TransferStore = {
    open: content => {
      const sink = createMemorySink(content, () => undefined)
      const append: typeof sink.append = (chunk, check) => {
        withdraw()
        return sink.append(chunk, check)
      }
      return Promise.resolve({ ...sink, append })
    },
  }
  const { sender, receiver } = createTransferPair({ store: late })
  const header = await sender.offer(RECEIVER, watchedAttachment(testBytes(20_000_000)), {
    onSettled: outcome => outcomes.push(outcome),
  })
  withdraw = () => sender.withdraw(RECEIVER, header)
  await assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_UNKNOWN', false))
  assert.deepEqual(outcomes, ['withdrawn'])
})

test('offers are bounded in number and in time', async () => {
  const clock = new ManualClock()
  const { sender } = createTransferPair({ store, clock })
  const outcomes: OfferOutcome[] = []
  const bytes = testBytes(65_537)
  const offer = (): Promise<AttachmentHeader> =>
    sender.offer(RECEIVER, watchedAttachment(bytes), { onSettled: outcome => outcomes.push(outcome) })
  for (let i = 0; i < TRANSFERS_OFFERED_PER_PEER_MAX; i++) await offer()
  await assert.rejects(offer(), coded('TRANSFER_BUSY', false))
  await sender.offer('another', watchedAttachment(bytes))
  clock.advance(TRANSFER_OFFER_MS_MAX - 1)
  assert.equal(outcomes.length, 0)
  clock.advance(1)
  assert.deepEqual(
    outcomes,
    Array.from({ length: TRANSFERS_OFFERED_PER_PEER_MAX }, () => 'expired'),
  )
  await offer()
  sender.withdrawAll(RECEIVER)
  assert.equal(outcomes.at(-1), 'withdrawn')
})

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

test('stopping ends what is being sent and fetched, and releases what was offered', async () => {
  const attachment = watchedAttachment(testBytes(30_000_000))
  let begun: () => void = () => undefined
  const hasBegun = new Promise<void>(resolve => {
    begun = resolve
  })
  const { sender, receiver } = createTransferPair({
    store: {
      open: content => {
        const sink = createMemorySink(content, () => undefined)
        return Promise.resolve({
          ...sink,
          append: (chunk, check) => {
            begun()
            return sink.append(chunk, check)
          },
        })
      },
    },
  })
  const header = await sender.offer(RECEIVER, attachment)
  const failed = assert.rejects(receiver.receive(SENDER, header, anySize), coded('TRANSFER_STOPPED', false))
  await hasBegun
  await receiver.stop()
  await failed
  assert.equal(attachment.releases(), 0, 'the receiver may come back')
  await sender.stop()
  await sender.stop()
  assert.equal(attachment.releases(), 1)
  const [near, far] = createStreamPair('/koinon/bulk/1', { a: RECEIVER, b: SENDER })
  await sender.accept(far)
  const { value } = await near.received[Symbol.asyncIterator]().next()
  assert.deepEqual(value, encodeFailed('stopping'))
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

test('readAll takes no more than it was told, and nothing of a wrong size', async () => {
  const attachment = attachmentOfBytes(testBytes(100))
  assert.equal((await readAll(attachment, { maxBytes: 100, signal })).byteLength, 100)
  await assert.rejects(readAll(attachment, { maxBytes: 99, signal }), coded('TRANSFER_TOO_LARGE', false))
  await attachment.release()
  await assert.rejects(readAll(attachment, { maxBytes: 100, signal }), coded('TRANSFER_SOURCE', false), 'released')
  await assert.rejects(NO_STORE.open({ peer: '', sizeBytes: 1, sha256: new Uint8Array(32) }))
})

test('the memory of a transfer does not grow with its size', async () => {
  const mib = 1024 * 1024
  const sizeBytes = 512 * mib
  const piece = testBytes(CHUNK)
  const endless = {
    ...attachmentOfBytes(new Uint8Array(0)),
    sizeBytes,
    sha256: sha256(piece),
    async *read({ from }: { readonly from: number }) {
      for (let at = from; at < sizeBytes; at += CHUNK) yield piece.subarray(0, Math.min(CHUNK, sizeBytes - at))
    },
  }
  let most = 0
  const discarding: TransferStore = {
    open: () => {
      let keptBytes = 0
      const done = (): Promise<void> => Promise.resolve()
      return Promise.resolve({
        get keptBytes() {
          return keptBytes
        },
        append: chunk => {
          keptBytes += chunk.byteLength
          most = Math.max(most, process.memoryUsage.rss())
          return Promise.resolve(true)
        },
        finish: () => Promise.resolve(endless),
        suspend: done,
        discard: done,
      })
    },
  }
  const { sender, receiver } = createTransferPair({ store: discarding })
  const header = await sender.offer(RECEIVER, endless)
  const before = process.memoryUsage.rss()
  await receiver.receive(SENDER, header, anySize)
  // 16 MiB are on their way at once, in the memory between the two ends; the rest is garbage of a few more.
  assert.ok(most - before < 200 * mib, `${Math.round((most - before) / mib)} MiB more`)
  await receiver.stop()
  await sender.stop()
})
