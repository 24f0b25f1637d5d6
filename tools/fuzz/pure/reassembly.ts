/**
 * Attachments in chunks, with either side, or somebody between them, changing what it says. A receiver gets the bytes
 * that were announced or an error; memory and places are given back, and both sides come to rest.
 */
import assert from 'node:assert/strict'
import {
  type ByteStream,
  type CancelTimer,
  type Clock,
  codeOf,
  createStreamPair,
  silentLogger,
  systemClock,
} from '#base'
import { sha256 } from '#crypto'
import { attachmentOfBytes, readAll, TransferError, Transfers } from '#protocol'
import type { AttachmentHeader } from '#wire'
import { NO_STORE, RECEIVER, SENDER } from '../../../test/support/transfer-pair.ts'
import type { Chance } from '../lib/chance.ts'
import { type Fuzzer, within } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'
import { transferMessage } from './transfer-messages.ts'

const REST_MS_MAX = 20_000
const SIZES = [65_537, 100_000, 258_048, 258_049, 600_000] as const

/** A thousand times as fast: what would wait a minute waits 60 ms. */
const hurried: Clock = {
  now: () => systemClock.now(),
  monotonic: () => 1000 * systemClock.monotonic(),
  after: (delayMs: number, action: () => void): CancelTimer => systemClock.after(delayMs / 1000, action),
}

const content = new Uint8Array(Math.max(...SIZES)).map((_, i) => (i * 31 + (i >> 8)) & 0xff)

export const reassembly: Fuzzer = { name: 'reassembly', kind: 'pure', open: () => ({ run }) }

async function run(chance: Chance): Promise<string> {
  const bytes = content.subarray(0, chance.pick(SIZES))
  const blamed: string[] = []
  const deps = { clock: hurried, random: chance.random, log: silentLogger, store: NO_STORE }
  const blame = (peer: string, what: string): void => void blamed.push(`${peer} ${what}`)
  const nowhere = (): Promise<never> => Promise.reject(new Error('nobody is there'))
  const sender = new Transfers({ ...deps, blame, openStream: nowhere })
  const receiver = new Transfers({ ...deps, blame, openStream: () => Promise.resolve(openTampered(chance, sender)) })
  const header = await sender.offer(RECEIVER, attachmentOfBytes(bytes))
  const announced = chance.isOneIn(5) ? lie(chance, header) : header
  let outcome: string
  try {
    const attachment = await within(
      'a transfer',
      REST_MS_MAX,
      receiver.receive(SENDER, announced, { maxBytes: 2 ** 20, deadlineMs: 5_000_000 }),
    )
    const got = await readAll(attachment, { maxBytes: 2 ** 20, signal: AbortSignal.timeout(REST_MS_MAX) })
    if ('sha256' in announced) {
      assert.deepEqual(sha256(got), new Uint8Array(announced.sha256), 'a receiver took other bytes than were announced')
    }
    await attachment.release()
    outcome = 'received'
  } catch (error) {
    if (!(error instanceof TransferError) && codeOf(error) !== 'TIMEOUT') throw error
    outcome = codeOf(error)
  }
  await within('the end of both sides', REST_MS_MAX, Promise.all([sender.stop(), receiver.stop()]))
  return blamed.length === 0 ? outcome : `${outcome}, blamed`
}

/** A header that does not say what is sent. */
function lie(chance: Chance, header: AttachmentHeader): AttachmentHeader {
  if (!('transfer' in header)) return header
  return chance.pick([
    { ...header, sizeBytes: Math.abs(chance.border()) % 2 ** 20 },
    { ...header, sizeBytes: header.sizeBytes + 1 },
    { ...header, sha256: chance.bytes(32) },
    { ...header, transfer: chance.bytes(16) },
    { ...header, sizeBytes: 0 },
  ])
}

/** A stream to the sender on which either direction may be changed. */
function openTampered(chance: Chance, sender: Transfers): ByteStream {
  const [near, far] = createStreamPair('/koinon/bulk/1', { a: RECEIVER, b: SENDER })
  void sender.accept(chance.isOneIn(3) ? tampered(chance, far) : far)
  return chance.isOneIn(3) ? near : tampered(chance, near)
}

function tampered(chance: Chance, stream: ByteStream): ByteStream {
  const rate = chance.pick([2, 5, 20])
  async function* received(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const piece of stream.received) {
      const change = chance.isOneIn(rate)
        ? chance.pick(['cut', 'other', 'changed', 'changed', 'twice'] as const)
        : 'none'
      if (change === 'cut') stream.abort(new Error('cut'))
      else if (change === 'other') yield transferMessage(chance)
      else if (change === 'changed') yield* cut(chance, mutateBytes(chance, piece))
      else yield* change === 'twice' ? [piece, piece] : [piece]
    }
  }
  return {
    peer: stream.peer,
    protocol: stream.protocol,
    received: received(),
    send: bytes => stream.send(bytes),
    sendParts: parts => stream.sendParts(parts),
    drained: () => stream.drained(),
    close: () => stream.close(),
    abort: error => stream.abort(error),
  }
}
