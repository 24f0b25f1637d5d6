/** Streams that a raw peer carries over streams of its own making, as a node would: for attacks on what lies in them. */
import { type ByteStream, concatBytes, systemClock, systemRandom } from '#base'
import { CarriedStream, resetBy } from '../../src/net/carried/carried-stream.ts'
import { Carrier } from '../../src/net/carried/carrier.ts'
import { DEFAULT_SETTINGS } from '../../src/net/settings.ts'
import {
  type CarriedFrame,
  CarriedReader,
  dataHeader,
  encodeCarried,
  type OpenFrame,
  STREAM_ID_BYTES,
} from '../../src/net/carried/frames.ts'

/** The first frame of a carrier, of a new stream unless something else is said. */
export function openingFrame(options: Partial<OpenFrame> = {}): Uint8Array {
  const id = systemRandom.bytes(STREAM_ID_BYTES)
  return encodeCarried({ kind: 'open', id, number: 0, hasHeard: false, received: 0, consumed: 0, ...options })
}

/** The next frame that is no data. */
export async function nextFrame(carrier: ByteStream): Promise<CarriedFrame | undefined> {
  const frames: CarriedFrame[] = []
  const reader = new CarriedReader()
  const sink = { onData: () => undefined, onFrame: (frame: CarriedFrame) => void frames.push(frame) }
  for await (const piece of carrier.received) {
    reader.push(piece, sink)
    if (frames.length > 0) return frames[0]
  }
  return undefined
}

export function dataFrame(bytes: Uint8Array): Uint8Array {
  return concatBytes([dataHeader(bytes.byteLength), bytes])
}

/** A stream that ends where its only carrier does. */
function carried(carrier: ByteStream, role: 'opener' | 'listener', id: Uint8Array): CarriedStream<undefined> {
  const owner = {
    onWaiting: (stream: CarriedStream<undefined>) => stream.fail(resetBy(new Error('the carrier is gone'))),
    onResumed: () => undefined,
    onEnded: () => undefined,
    onFault: () => undefined,
  }
  const { peer, protocol } = carrier
  return new CarriedStream<undefined>(
    { clock: systemClock, settings: DEFAULT_SETTINGS, owner },
    { id, peer, protocol, role },
  )
}

export function carriedByOpener(bytes: ByteStream): ByteStream {
  const carrier = new Carrier(systemClock, bytes, undefined)
  const stream = carried(bytes, 'opener', systemRandom.bytes(STREAM_ID_BYTES))
  stream.begin(carrier)
  void carrier.run()
  return stream
}

/** Rejects where it does not open. */
export function carriedByListener(bytes: ByteStream): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
  const carrier = new Carrier(systemClock, bytes, undefined)
  const no = (): void => reject(resetBy(new Error('no stream')))
  carrier.handTo({
    onData: no,
    onFault: no,
    onEnd: no,
    onFrame: frame => {
      if (frame.kind !== 'open') return no()
      const stream = carried(bytes, 'listener', frame.id)
      stream.accept(carrier, frame)
      resolve(stream)
    },
  })
  void carrier.run()
  return promise
}
