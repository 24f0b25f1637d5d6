/** Our own signed record of where we are: made anew where the addresses change, and long before it expires. */
import { type Clock, type Logger, messageOf } from '#base'
import { createPeerRecord, type KeyProvider } from '#identity'
import { OWN_RECORD_LIFE_MS } from './limits.ts'

export class OwnRecord {
  readonly #deps: { readonly clock: Clock; readonly log: Logger; readonly signer: KeyProvider }
  #bytes: Uint8Array | undefined
  #addresses = ''
  #renewAt = 0

  constructor(deps: { readonly clock: Clock; readonly log: Logger; readonly signer: KeyProvider }) {
    this.#deps = deps
  }

  /** Undefined: none could be made yet. */
  get bytes(): Uint8Array | undefined {
    return this.#bytes
  }

  /** Never rejects: where the key cannot sign, the last record stays. */
  async refresh(addresses: readonly string[]): Promise<void> {
    const { clock, log, signer } = this.#deps
    const now = clock.now()
    const joined = addresses.join(' ')
    if (addresses.length === 0 || (joined === this.#addresses && now < this.#renewAt)) return
    try {
      this.#bytes = await createPeerRecord(signer, { sequence: now, addresses, expiresAt: now + OWN_RECORD_LIFE_MS })
      this.#addresses = joined
      this.#renewAt = now + OWN_RECORD_LIFE_MS / 4
    } catch (error) {
      log.warn('the record of our addresses could not be signed', { error: messageOf(error) })
    }
  }
}
