/** Writes messages to a pipe and cuts them out of it again. The layout is in `protocol.ts`. */
import type { Writable } from 'node:stream'
import { concatBytes } from '#base'
import { byteLengthOf, type Kind, type Message } from './protocol.ts'

/** Payload bytes, id, kind. */
const HEADER_BYTES = 12

/** Up to here copying a payload behind its header is cheaper than a second write. */
const JOINED_BYTES_MAX = 128 * 1024

/** Queues one message. */
export function sendMessage(
  pipe: Writable,
  message: { readonly id: number; readonly kind: Kind },
  payload: readonly Uint8Array[],
): void {
  if (byteLengthOf(payload) <= JOINED_BYTES_MAX) {
    pipe.write(frameOf(message, payload))
    return
  }
  pipe.cork()
  pipe.write(frameHeader(message, payload))
  for (const part of payload) if (part.byteLength > 0) pipe.write(part)
  pipe.uncork()
}

/** One message in one piece. */
export function frameOf(
  message: { readonly id: number; readonly kind: Kind },
  payload: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  return concatBytes([frameHeader(message, payload), ...payload])
}

function frameHeader(
  message: { readonly id: number; readonly kind: Kind },
  payload: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.of(byteLengthOf(payload), message.id, message.kind).buffer)
}

/**
 * Cuts what arrives into messages. A length is checked before memory is spent on it; after a length beyond the limit
 * the pipe is of no use.
 */
export class MessageReader {
  readonly #payloadBytesMax: number
  readonly #header = new Uint8Array(HEADER_BYTES)
  #headerFilled = 0
  #payload: Uint8Array | undefined
  #payloadFilled = 0

  constructor(payloadBytesMax: number) {
    this.#payloadBytesMax = payloadBytesMax
  }

  /**
   * Takes the next piece and returns the messages that it completes. A payload that lies wholly in `piece` is a view.
   * @throws RangeError for a length beyond the limit
   */
  push(piece: Uint8Array): readonly Message[] {
    const messages: Message[] = []
    let rest = piece
    while (rest.byteLength > 0) {
      if (this.#headerFilled < HEADER_BYTES) {
        const taken = rest.subarray(0, HEADER_BYTES - this.#headerFilled)
        this.#header.set(taken, this.#headerFilled)
        this.#headerFilled += taken.byteLength
        rest = rest.subarray(taken.byteLength)
        if (this.#headerFilled < HEADER_BYTES) break
      }
      const { bytes, id, kind } = this.#readHeader()
      const taken = rest.subarray(0, bytes - this.#payloadFilled)
      rest = rest.subarray(taken.byteLength)
      const payload = this.#join(taken, bytes)
      if (payload === undefined) break
      messages.push({ id, kind, payload })
      this.#headerFilled = 0
      this.#payload = undefined
      this.#payloadFilled = 0
    }
    return messages
  }

  #readHeader(): { readonly bytes: number; readonly id: number; readonly kind: number } {
    const view = new DataView(this.#header.buffer)
    const bytes = view.getUint32(0, true)
    if (bytes > this.#payloadBytesMax) {
      throw new RangeError(`a frame of ${bytes} bytes; ${this.#payloadBytesMax} are accepted`)
    }
    return { bytes, id: view.getUint32(4, true), kind: view.getUint32(8, true) }
  }

  /** The payload once it is complete. */
  #join(taken: Uint8Array, bytes: number): Uint8Array | undefined {
    if (taken.byteLength === bytes) return taken
    this.#payload ??= new Uint8Array(bytes)
    this.#payload.set(taken, this.#payloadFilled)
    this.#payloadFilled += taken.byteLength
    return this.#payloadFilled === bytes ? this.#payload : undefined
  }
}
