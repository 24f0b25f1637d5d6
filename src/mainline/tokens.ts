/**
 * Tokens (BEP 5): proof that whoever announces or puts has asked from that address before. A token is a MAC over the
 * address, so nothing is stored for it; it holds while its secret or the one after it is in use.
 */
import type { Clock, Random } from '#base'
import { equalInConstantTime, hmacSha256 } from '#crypto'
import { ipBytes } from './address.ts'
import { TOKEN_SECRET_MS } from './limits.ts'

const SECRET_BYTES = 32
const TOKEN_BYTES = 8

export class Tokens {
  readonly #clock: Clock
  readonly #random: Random
  #current: Uint8Array
  #previous: Uint8Array
  #madeAtMs: number

  constructor(deps: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = deps.clock
    this.#random = deps.random
    this.#current = deps.random.bytes(SECRET_BYTES)
    this.#previous = deps.random.bytes(SECRET_BYTES)
    this.#madeAtMs = deps.clock.monotonic()
  }

  /** 8 bytes for the address; the port may change, as it does behind a NAT. */
  make(host: string): Uint8Array {
    this.#rotate()
    return tokenOf(this.#current, host)
  }

  isValid(host: string, token: Uint8Array): boolean {
    this.#rotate()
    return [this.#current, this.#previous].some(secret => equalInConstantTime(tokenOf(secret, host), token))
  }

  #rotate(): void {
    const ageMs = this.#clock.monotonic() - this.#madeAtMs
    if (ageMs < TOKEN_SECRET_MS) return
    // After two periods without a call the secret before would have been replaced as well.
    this.#previous = ageMs < 2 * TOKEN_SECRET_MS ? this.#current : this.#random.bytes(SECRET_BYTES)
    this.#current = this.#random.bytes(SECRET_BYTES)
    this.#madeAtMs = this.#clock.monotonic()
  }
}

function tokenOf(secret: Uint8Array, host: string): Uint8Array {
  return hmacSha256(secret, ipBytes(host) ?? new Uint8Array()).slice(0, TOKEN_BYTES)
}
