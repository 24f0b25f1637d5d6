/** Two nodes that send attachments to each other over streams in memory, which break where a test says so. */
import {
  type ByteStream,
  type CancelTimer,
  type Clock,
  createStreamPair,
  seededRandom,
  silentLogger,
  systemClock,
} from '#base'
import { type DigestedAttachment, Transfers, type TransferStore } from '#protocol'

export type TransferPairOptions = {
  readonly clock?: Clock
  /** Where the receiver collects what is large. */
  readonly store: TransferStore
  /** Bytes that the next stream carries to the receiver before it breaks. Undefined: it does not break. */
  readonly breakAfter?: () => number | undefined
  /** @default a new one */
  readonly sender?: Transfers
}

export type TransferPair = {
  readonly sender: Transfers
  readonly receiver: Transfers
  /** What either side was blamed for. */
  readonly blamed: string[]
  /** Opens a stream to the sender by hand. */
  readonly open: () => ByteStream
  readonly streamCount: () => number
}

export const SENDER = 'peer-of-the-sender'
export const RECEIVER = 'peer-of-the-receiver'

/** Nothing is kept: for a side that receives nothing large. */
export const NO_STORE: TransferStore = { open: () => Promise.reject(new Error('nothing is to be stored here')) }

/** The system's clock, but short pauses take no time. Bounds on waiting keep theirs. */
export const impatientClock: Clock = {
  now: () => systemClock.now(),
  monotonic: () => systemClock.monotonic(),
  after: (delayMs: number, action: () => void): CancelTimer => systemClock.after(delayMs < 5_000 ? 0 : delayMs, action),
}

export function createTransferPair(options: TransferPairOptions): TransferPair {
  const blamed: string[] = []
  let streams = 0
  const common = {
    clock: options.clock ?? impatientClock,
    random: seededRandom(1),
    log: silentLogger,
    blame: (peer: string, what: string) => void blamed.push(`${peer}: ${what}`),
  }
  const sender =
    options.sender ??
    new Transfers({ ...common, store: NO_STORE, openStream: () => Promise.reject(new Error('no way')) })
  const open = (): ByteStream => {
    streams++
    const [near, far] = createStreamPair('/koinon/bulk/1', { a: RECEIVER, b: SENDER })
    void sender.accept(far)
    const after = options.breakAfter?.()
    return after === undefined ? near : breaking(near, after)
  }
  const receiver = new Transfers({ ...common, store: options.store, openStream: () => Promise.resolve(open()) })
  return { sender, receiver, blamed, open, streamCount: () => streams }
}

/** The same stream, which is reset after so many bytes towards us. */
function breaking(stream: ByteStream, afterBytes: number): ByteStream {
  async function* received(): AsyncGenerator<Uint8Array, void, undefined> {
    let left = afterBytes
    for await (const piece of stream.received) {
      if (left < piece.byteLength) {
        if (left > 0) yield piece.subarray(0, left)
        stream.abort(new Error('broken by the test'))
      } else yield piece
      left -= piece.byteLength
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

/** Bytes that differ from place to place, the same for a seed. */
export function testBytes(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size)
  const words = new Uint32Array(bytes.buffer, 0, size >>> 2)
  for (let i = 0, state = seed; i < words.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    words[i] = state
  }
  for (let i = words.length * 4; i < size; i++) bytes[i] = (i * seed) & 0xff
  return bytes
}

/** An attachment over bytes that says when it is released. */
export function watchedAttachment(bytes: Uint8Array): DigestedAttachment & { readonly releases: () => number } {
  let releases = 0
  return {
    sizeBytes: bytes.byteLength,
    async *read({ from }) {
      for (let at = from; at < bytes.byteLength; at += 100_000) yield bytes.subarray(at, at + 100_000)
    },
    release: () => {
      releases++
      return Promise.resolve()
    },
    releases: () => releases,
  }
}
