/** What a node key signs outside of frames, so that a signature for one purpose is none for another. */
import { concatBytes } from '#base'

/**
 * The domain, a zero byte, the payload. No domain holds a zero byte, so none is the beginning of another; and what
 * libp2p and frames have signed begins otherwise.
 */
export function domainMessage(domain: string, payload: Uint8Array): Uint8Array {
  return concatBytes([new TextEncoder().encode(domain), new Uint8Array(1), payload])
}
