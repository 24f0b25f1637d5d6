import { ReceiveQueue } from '#base'
import { STREAM_READ_BYTES_MAX, STREAM_READ_PIECES_MAX } from './limits.ts'

/** What a stream of either way has received and nobody has read yet. */
export function streamQueue(onRoom: () => void): ReceiveQueue {
  return new ReceiveQueue({ bytesMax: STREAM_READ_BYTES_MAX, piecesMax: STREAM_READ_PIECES_MAX }, onRoom)
}
