import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as fc from 'fast-check'
import { createStreamPair, KoinonError, ManualClock } from '#base'
import { sha256 } from '#crypto'
import type { AttachmentHeader } from '#wire'
import {
  createTransferPair,
  NO_STORE,
  RECEIVER,
  SENDER,
  testBytes,
  watchedAttachment,
} from '../../../test/support/transfer-pair.ts'
import {
  TRANSFER_BYTES_MAX,
  TRANSFER_CHUNK_BYTES,
  TRANSFER_CHUNKS_PENDING_MAX,
  TRANSFER_OFFER_MS_MAX,
  TRANSFER_WINDOW_BYTES,
  TRANSFERS_OFFERED_PER_PEER_MAX,
} from '../limits.ts'
import { isPeerToBlame } from '../transfer-errors.ts'
import { attachmentOfBytes, readAll } from './attachments.ts'
import { createMemorySink } from './memory-sink.ts'
import { encodeFailed } from './messages.ts'
import type { OfferOutcome } from './offers.ts'
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

test('who does not want an attachment says so before a byte is fetched, and its sender lets it go', async () => {
  const settled = Promise.withResolvers<OfferOutcome>()
  const { sender, receiver } = createTransferPair({ store: NO_STORE })
  const attachment = watchedAttachment(testBytes(4_000_000))
  const header = await sender.offer(RECEIVER, attachment, { onSettled: settled.resolve })
  receiver.decline(SENDER, header)
  assert.equal(await settled.promise, 'refused')
  assert.equal(attachment.releases(), 1)
  // What travels in the header is nobody's to keep.
  receiver.decline(SENDER, await sender.offer(RECEIVER, watchedAttachment(testBytes(10))))
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

test('readAll takes no more than it was told, and nothing of a wrong size', async () => {
  const attachment = attachmentOfBytes(testBytes(100))
  assert.equal((await readAll(attachment, { maxBytes: 100, signal })).byteLength, 100)
  await assert.rejects(readAll(attachment, { maxBytes: 99, signal }), coded('TRANSFER_TOO_LARGE', false))
  await attachment.release()
  await assert.rejects(readAll(attachment, { maxBytes: 100, signal }), coded('TRANSFER_SOURCE', false), 'released')
  await assert.rejects(NO_STORE.open({ peer: '', sizeBytes: 1, sha256: new Uint8Array(32) }))
})

const collectGarbage = ((): (() => void) => {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
})()

/** Bytes of the buffers that somebody still holds. The second look waits for what the first one has left to other threads. */
function buffersKept(): number {
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

test('the memory of a transfer does not grow with its size', async () => {
  const mib = 1024 * 1024
  const sizeBytes = 512 * mib
  const piece = testBytes(CHUNK)
  let [inHand, mostInHand, appended, mostKept] = [0, 0, 0, 0]
  const endless = {
    ...attachmentOfBytes(new Uint8Array(0)),
    sizeBytes,
    sha256: sha256(piece),
    async *read({ from }: { readonly from: number }) {
      for (let at = from; at < sizeBytes; at += CHUNK) {
        const chunk = piece.subarray(0, Math.min(CHUNK, sizeBytes - at))
        inHand += chunk.byteLength
        mostInHand = Math.max(mostInHand, inHand)
        yield chunk
      }
    },
  }
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
          inHand -= chunk.byteLength
          appended++
          if (appended % 256 === 0) mostKept = Math.max(mostKept, buffersKept())
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
  const before = buffersKept()
  await receiver.receive(SENDER, header, anySize)
  const bound = TRANSFER_WINDOW_BYTES + TRANSFER_CHUNKS_PENDING_MAX * CHUNK
  assert.ok(mostInHand <= bound, `${mostInHand} bytes were read and not appended`)
  // What is on its way exists once or twice, in the memory between the two ends.
  assert.ok(mostKept - before < 2 * bound, `${Math.round((mostKept - before) / mib)} MiB more`)
  await receiver.stop()
  await sender.stop()
})
