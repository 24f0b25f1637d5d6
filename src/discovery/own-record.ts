/** Our own signed record of where we are: made anew where the addresses change, and long before it expires. */
import { type Clock, type Logger, messageOf } from '#base'
import { createPeerRecord, type KeyProvider } from '#identity'
import { OWN_RECORD_ADDRESSES_CHARS_MAX, OWN_RECORD_LIFE_MS } from './limits.ts'

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
  async refresh(all: readonly string[]): Promise<void> {
    const addresses = fitting(all)
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

/** The first of these: others refuse a record that is too long. */
function fitting(addresses: readonly string[]): string[] {
  let room = OWN_RECORD_ADDRESSES_CHARS_MAX
  return addresses.filter(({ length }) => {
    room -= length
    return room >= 0
  })
}
