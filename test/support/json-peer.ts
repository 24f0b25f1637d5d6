/** A peer that speaks nothing but `/json-message/1.0`, written without the code under test. */
import assert from 'node:assert/strict'
import type { ByteStream } from '#base'

export type JsonMessage = {
  readonly id: string | null
  readonly status: 'ok' | 'error' | 'event'
  readonly result?: Readonly<Record<string, unknown>>
  readonly event?: Readonly<Record<string, unknown>>
  readonly error?: { readonly code: string; readonly message: string; readonly retry_after_ms?: number }
  readonly attachment?: string
}

export class JsonPeer {
  readonly stream: ByteStream
  readonly #input: AsyncIterator<Uint8Array>
  #pending = Buffer.alloc(0)

  constructor(stream: ByteStream) {
    this.stream = stream
    this.#input = stream.received[Symbol.asyncIterator]()
  }

  send(message: object): void {
    this.sendText(JSON.stringify(message))
  }

  sendText(text: string | Uint8Array): void {
    const body = Buffer.from(text)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(body.byteLength)
    this.stream.send(new Uint8Array(Buffer.concat([length, body])))
  }

  /** The next message; undefined: the other side has ended its direction. */
  async next(): Promise<JsonMessage | undefined> {
    for (;;) {
      const size = this.#pending.byteLength < 4 ? undefined : this.#pending.readUInt32BE()
      if (size !== undefined && this.#pending.byteLength >= 4 + size) {
        const body = this.#pending.subarray(4, 4 + size)
        this.#pending = this.#pending.subarray(4 + size)
        return JSON.parse(body.toString('utf8')) as JsonMessage
      }
      const piece = await this.#input.next()
      if (piece.done === true) return undefined
      this.#pending = Buffer.concat([this.#pending, piece.value])
    }
  }

  /** Sends a request and reads up to its answer. Nothing else may be open. */
  async ask(message: object): Promise<{ readonly answer: JsonMessage; readonly events: readonly JsonMessage[] }> {
    this.send(message)
    const events: JsonMessage[] = []
    for (;;) {
      const answer = await this.next()
      assert.ok(answer !== undefined, 'the stream ended before the answer')
      if (answer.status !== 'event') return { answer, events }
      events.push(answer)
    }
  }

  /** The code of the error that answers. */
  async codeOf(message: object): Promise<string | undefined> {
    return (await this.ask(message)).answer.error?.code
  }
}
