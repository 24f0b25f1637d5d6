/** Messages on a byte stream, each behind its length, read one by one and never more of them than is expected. */
import type { ByteStream } from '#base'
import { LengthPrefixReader, withLengthPrefix } from '#wire'
import type { PeerFault } from './errors.ts'

/** Bytes of the length before a message. */
const LENGTH_BYTES = 4

export class MessageStream {
  readonly #stream: ByteStream
  readonly #pieces: AsyncIterator<Uint8Array>
  readonly #reader: LengthPrefixReader
  readonly #waiting: Uint8Array[] = []
  sentBytes = 0
  receivedBytes = 0

  /** @param bytesMax of the longest message that may come */
  constructor(stream: ByteStream, bytesMax: number) {
    this.#stream = stream
    this.#pieces = stream.received[Symbol.asyncIterator]()
    this.#reader = new LengthPrefixReader(bytesMax)
  }

  async send(body: Uint8Array): Promise<void> {
    this.sentBytes += LENGTH_BYTES + body.byteLength
    if (!this.#stream.send(withLengthPrefix(body))) await this.#stream.drained()
  }

  /** The next message; undefined: the other side has ended. @throws StreamError */
  async next(): Promise<Uint8Array | PeerFault | undefined> {
    for (;;) {
      const message = this.#waiting.shift()
      if (message !== undefined) return message
      const piece = await this.#pieces.next()
      if (piece.done === true) return undefined
      this.receivedBytes += piece.value.byteLength
      const messages = this.#reader.push(piece.value)
      if ('code' in messages) return { code: 'DISCOVERY_MALFORMED', what: 'a message that is too long' }
      // What lies in the piece is another's memory.
      this.#waiting.push(...messages.map(body => body.slice()))
    }
  }
}
