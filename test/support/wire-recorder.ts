/** A reader of peer wire messages that allows everything within its bounds and keeps what came. */
import type { WireFault } from '../../src/swarm/wire/errors.ts'
import { unasked } from '../../src/swarm/wire/faults.ts'
import { EXTENDED_BYTES_MAX } from '../../src/swarm/wire/limits.ts'
import { decodeBody } from '../../src/swarm/wire/messages.ts'
import { MessageReader, type MessageSink } from '../../src/swarm/wire/reader.ts'
import type { ReceivedMessage } from '../../src/swarm/wire/types.ts'

const BITFIELD_BYTES_MAX = 4096
const PIECE_BYTES_MAX = 64 * 1024
const HASHES_BYTES_MAX = 64 * 1024

export class Recorder implements MessageSink {
  /** Of the reader. */
  static readonly heldBytesMax = Math.max(EXTENDED_BYTES_MAX, PIECE_BYTES_MAX, HASHES_BYTES_MAX) + 13
  readonly reader = new MessageReader(this)
  readonly messages: ReceivedMessage[] = []
  readonly isStopped = false
  readonly bitfieldBytes = { min: 0, max: BITFIELD_BYTES_MAX }
  readonly hashesBytesMax = HASHES_BYTES_MAX
  fault: WireFault | undefined

  push(bytes: Uint8Array): void {
    const stopped = this.reader.push(bytes, 0)
    if (typeof stopped !== 'number') this.fault = stopped
  }

  allowPiece(_piece: number, _offset: number, length: number): WireFault | undefined {
    return length > PIECE_BYTES_MAX ? unasked('a block') : undefined
  }

  onKeepAlive(): void {
    this.messages.push({ kind: 'keep-alive' })
  }

  onPiece(piece: number, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.messages.push({ kind: 'piece', piece, offset, bytes })
  }

  onBody(id: number, body: Uint8Array): WireFault | undefined {
    const message = decodeBody(id, body)
    if (message === undefined) return undefined
    if ('code' in message) return message
    this.messages.push(message)
    return undefined
  }
}
