import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type Random, seededRandom } from '#base'
import { TRANSFER_ATTEMPTS_MAX, TRANSFER_CHUNK_BYTES, TRANSFER_WINDOW_BYTES } from '../limits.ts'
import { ReceiverState } from './receiver-state.ts'
import { SenderState } from './sender-state.ts'

const CHUNK = TRANSFER_CHUNK_BYTES
const sha256 = new Uint8Array(32).fill(7)

type Wire =
  | { readonly kind: 'get'; readonly from: number }
  | { readonly kind: 'chunk'; readonly offset: number; readonly size: number }
  | { readonly kind: 'ack'; readonly received: number }
  | { readonly kind: 'delivered' }

/** A transfer over streams that break at random, with a disk that is late at random and a receiver that restarts. */
class Simulation {
  readonly #random: Random
  readonly #sizeBytes: number
  sender = new SenderState()
  receiver: ReceiverState
  readonly toSender: Wire[] = []
  readonly toReceiver: Wire[] = []
  /** Chunks that the disk has not taken. */
  readonly writing: number[] = []
  keptBytes = 0
  streams = 0
  isDelivered = false
  now = 0
  #hasConfirmed = false

  constructor(random: Random, sizeBytes: number) {
    this.#random = random
    this.#sizeBytes = sizeBytes
    this.receiver = new ReceiverState(sizeBytes, 0)
  }

  #below(count: number): number {
    return this.#random.uint32() % count
  }

  connect(): void {
    this.streams++
    this.sender = new SenderState()
    this.toSender.length = 0
    this.toReceiver.length = 0
    this.toSender.push({ kind: 'get', from: this.receiver.begin(this.now) })
  }

  /** The stream is gone, with what was on its way; what had arrived is written. */
  cut(): void {
    while (this.writing.length > 0) this.write()
    if (this.receiver.phase === 'complete') return
    const isRestart = this.#below(4) === 0
    // Too many losses in a row: whoever wants the attachment asks again, which goes on from what is kept.
    const isOver = isRestart || this.receiver.lost() === undefined
    if (isOver) this.receiver = new ReceiverState(this.#sizeBytes, this.keptBytes)
    this.connect()
  }

  write(): void {
    const size = this.writing.shift()
    if (size === undefined) return
    this.keptBytes += size
    const received = this.receiver.keep(size, this.now)
    if (received !== undefined) this.toSender.push({ kind: 'ack', received })
  }

  sendChunk(): void {
    const next = this.sender.next()
    if (next === undefined) return
    this.sender.sent(next.size)
    this.toReceiver.push({ kind: 'chunk', ...next })
    const inFlight = this.toReceiver.reduce((sum, message) => sum + (message.kind === 'chunk' ? message.size : 0), 0)
    assert.ok(inFlight <= TRANSFER_WINDOW_BYTES)
  }

  /** The next message of one direction arrives. */
  arrive(): void {
    if (this.#below(2) === 0) {
      const message = this.toSender.shift()
      if (message?.kind === 'get')
        assert.equal(this.sender.get({ sizeBytes: this.#sizeBytes, sha256 }, message.from), undefined)
      if (message?.kind === 'ack') assert.equal(this.sender.acknowledged(message.received), undefined)
      if (message?.kind === 'delivered') {
        assert.equal(this.sender.delivered(sha256), undefined)
        this.isDelivered = true
      }
      return
    }
    const message = this.toReceiver.shift()
    if (message?.kind !== 'chunk') return
    assert.equal(this.receiver.chunk(message.offset, message.size), undefined)
    this.writing.push(message.size)
  }

  step(cutOneIn: number): void {
    this.now += this.#below(100)
    const choice = this.#below(4)
    if (choice === 0) this.sendChunk()
    else if (choice === 1) this.write()
    else this.arrive()
    if (this.#below(cutOneIn) === 0) this.cut()
    if (this.receiver.phase !== 'complete' || this.#hasConfirmed) return
    this.#hasConfirmed = true
    this.toSender.push({ kind: 'delivered' })
  }
}

test('every transfer ends whole, whatever breaks on the way and in whatever order things happen', () => {
  let streams = 0
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 1, max: 30 * CHUNK }),
      fc.integer({ min: 10, max: 500 }),
      (seed, size, cutOneIn) => {
        const simulation = new Simulation(seededRandom(seed), size)
        simulation.connect()
        for (let steps = 0; !simulation.isDelivered; steps++) {
          assert.ok(steps < 200_000, 'the transfer stands still')
          simulation.step(cutOneIn)
        }
        assert.equal(simulation.keptBytes, size)
        streams += simulation.streams
      },
    ),
    { numRuns: 3000 },
  )
  assert.ok(streams > 6000, `only ${streams} streams: nothing was lost`)
})

test('a sender is never more than the window ahead, and goes on with each acknowledgement', () => {
  const sender = new SenderState()
  const sizeBytes = 3 * TRANSFER_WINDOW_BYTES
  assert.equal(sender.get({ sizeBytes, sha256 }, 0), undefined)
  let sent = 0
  for (let next = sender.next(); next !== undefined; next = sender.next()) {
    assert.equal(next.offset, sent)
    sender.sent(next.size)
    sent += next.size
  }
  assert.equal(sent, TRANSFER_WINDOW_BYTES)
  assert.equal(sender.acknowledged(CHUNK), undefined)
  assert.deepEqual(sender.next(), { offset: sent, size: CHUNK })
  assert.equal(sender.hasSentAll, false)
})

test('what a receiver may not say costs it the stream', () => {
  const at = (from: number, size = 2 * CHUNK + 5): SenderState => {
    const sender = new SenderState()
    assert.equal(sender.get({ sizeBytes: size, sha256 }, from), undefined)
    return sender
  }
  assert.match(new SenderState().acknowledged(1) ?? '', /before a GET/)
  assert.match(new SenderState().get({ sizeBytes: 9, sha256 }, 10) ?? '', /behind the end/)
  assert.match(new SenderState().get({ sizeBytes: 9, sha256 }, 4) ?? '', /inside a chunk/)
  assert.match(at(0).get({ sizeBytes: 9, sha256 }, 0) ?? '', /second GET/)
  assert.match(at(0).acknowledged(1) ?? '', /not sent/)
  assert.match(at(CHUNK).acknowledged(CHUNK) ?? '', /nothing new/)
  assert.match(at(CHUNK).delivered(sha256) ?? '', /before everything/)
  const wrong = at(2 * CHUNK + 5)
  assert.match(wrong.delivered(new Uint8Array(32)) ?? '', /another digest/)
  assert.equal(wrong.phase, 'failed')
  const right = at(2 * CHUNK + 5)
  assert.equal(right.delivered(sha256), undefined)
  assert.equal(right.phase, 'delivered')
})

test('what a sender may not say costs it the transfer', () => {
  const at = (kept: number): ReceiverState => {
    const receiver = new ReceiverState(2 * CHUNK + 5, kept)
    assert.equal(receiver.begin(0), kept)
    return receiver
  }
  assert.match(new ReceiverState(5, 0).chunk(0, 5) ?? '', /more bytes/)
  assert.match(at(0).chunk(CHUNK, CHUNK) ?? '', /where 0 was due/)
  assert.match(at(CHUNK).chunk(0, CHUNK) ?? '', /was due/)
  assert.match(at(0).chunk(0, CHUNK - 1) ?? '', /were due/)
  assert.match(at(2 * CHUNK).chunk(2 * CHUNK, CHUNK) ?? '', /5 were due/)
  const full = at(2 * CHUNK)
  assert.equal(full.chunk(2 * CHUNK, 5), undefined)
  assert.equal(full.hasAll, true)
  assert.match(full.chunk(2 * CHUNK + 5, 1) ?? '', /more bytes/)
})

test('a slow link is acknowledged chunk by chunk, a fast one in larger steps', () => {
  const receiver = new ReceiverState(100 * CHUNK, 0)
  receiver.begin(0)
  assert.equal(receiver.keep(CHUNK, 1), undefined)
  assert.equal(receiver.keep(CHUNK, 6_000), 2 * CHUNK)
  assert.equal(receiver.keep(CHUNK, 6_001), undefined)
  assert.equal(receiver.keep(3 * CHUNK, 6_002), 6 * CHUNK)
})

test('losses without progress are paused after, longer and longer, and then given up; progress starts over', () => {
  const receiver = new ReceiverState(100 * CHUNK, 0)
  const pauses: (number | undefined)[] = []
  for (let i = 0; i < TRANSFER_ATTEMPTS_MAX; i++) {
    receiver.begin(0)
    if (i === 3) receiver.keep(CHUNK, 0)
    pauses.push(receiver.lost())
  }
  assert.deepEqual(pauses, [250, 500, 1000, 250, 500, 1000, 2000, 4000, 8000, 10_000])
  for (let i = 0; i < 3; i++) receiver.lost()
  assert.equal(receiver.phase, 'lost')
})
