/**
 * Two habits of the libraries that cost a hop more time than its own bytes, since after every step of a model the code
 * around sockets is cold: a frame's header and body leave as two TLS records, two packets and two wake-ups; and Yamux
 * answers every frame with a window update. Without them a decode step crosses a hop in one record instead of four
 * (docs/decisions/0003).
 */
import type { ConnectionEncrypter, MessageStream, Stream } from '@libp2p/interface'
import { Uint8ArrayList } from 'uint8arraylist'
import { concatBytes } from '#base'

/** Up to here copying header and body together is cheaper than a second write. */
const WHOLE_BYTES_MAX = 128 * 1024

/** Up to here a piece of a larger write is a header. */
const HEADER_BYTES_MAX = 1024

/** The encrypter, with connections that write what they are given in one piece. */
export function writingWhole<C>(make: (components: C) => ConnectionEncrypter): (components: C) => ConnectionEncrypter {
  return components => {
    const inner = make(components)
    return {
      protocol: inner.protocol,
      secureInbound: async (connection, options) => joined(await inner.secureInbound(connection, options)),
      secureOutbound: async (connection, options) => joined(await inner.secureOutbound(connection, options)),
    }
  }
}

function joined<T extends { readonly connection: MessageStream }>(secured: T): T {
  joinWrites(secured.connection)
  return secured
}

function joinWrites(connection: MessageStream): void {
  const send = connection.send.bind(connection)
  connection.send = data => {
    if (data instanceof Uint8Array) return send(data)
    return send(data.byteLength > WHOLE_BYTES_MAX ? withHeadersJoined(data) : data.subarray())
  }
}

/**
 * The same bytes, where each header lies together with the headers that follow it. A write that waits for the one before
 * is copied with all that wait beside it: three writes of which two are small cost a copy of the third.
 */
function withHeadersJoined(data: Uint8ArrayList): Uint8ArrayList {
  const joined = new Uint8ArrayList()
  let headers: Uint8Array[] = []
  for (const piece of data) {
    if (piece.byteLength <= HEADER_BYTES_MAX) {
      headers.push(piece)
      continue
    }
    if (headers.length > 0) joined.append(concatBytes(headers))
    headers = []
    joined.append(piece)
  }
  if (headers.length > 0) joined.append(concatBytes(headers))
  return joined
}

/** What a Yamux stream keeps about its receive window; not part of libp2p's interface. */
type YamuxWindow = {
  sendWindowUpdate?: () => void
  readonly state?: number
  readonly recvWindow?: number
  readonly recvWindowCapacity?: number
}

/** `StreamState.Established` of @libp2p/yamux: before it an update carries the flags that open the stream. */
const ESTABLISHED = 3

/**
 * Grants window only once half of it is used, as Go's Yamux does. A stream of another muxer, or of a version that keeps
 * its window otherwise, is left alone.
 */
export function grantWindowByHalves(stream: Stream): void {
  const window: YamuxWindow = stream as object
  const update = window.sendWindowUpdate
  if (update === undefined) return
  window.sendWindowUpdate = () => {
    const { state, recvWindow = 0, recvWindowCapacity = 0 } = window
    if (state === ESTABLISHED && recvWindowCapacity > recvWindow / 2) return
    update.call(window)
  }
}
