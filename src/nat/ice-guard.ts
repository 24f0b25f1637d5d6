/**
 * What reaches the ICE agent's sockets from the network, before the agent sees it.
 *
 * werift 0.25 checks the integrity of answers only: anybody's unsigned request makes it answer, add a candidate, send checks
 * to whatever address the packet names, and change roles; and it takes data from any address. So here requests must be
 * signed with our password and name us, nothing may hang behind the signature, data must come from an address that proved
 * itself by such a request, and what a peer may cost is bounded.
 */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { ICE_CHECKS_BURST_MAX, ICE_CHECKS_PER_SECOND, ICE_DATAGRAM_BYTES_MAX, ICE_PAIRS_MAX } from './limits.ts'
import { decodeStun, isAuthentic, looksLikeStun, STUN_BINDING } from './stun/codec.ts'
import type { Endpoint } from './types.ts'

/** Bytes of MESSAGE-INTEGRITY and FINGERPRINT with their headers. */
const INTEGRITY_BYTES = 24
const FINGERPRINT_BYTES = 8

export class IceGuard {
  readonly #ufrag: string
  readonly #password: Uint8Array
  readonly #checks: TokenBucket
  readonly #proved = new Set<string>()
  #admitted = 0

  constructor(deps: { readonly clock: Clock }, local: { readonly ufrag: string; readonly password: string }) {
    this.#ufrag = local.ufrag
    this.#password = new TextEncoder().encode(local.password)
    this.#checks = new TokenBucket(deps, { tokensMax: ICE_CHECKS_BURST_MAX, perSecond: ICE_CHECKS_PER_SECOND })
  }

  /** Requests that were admitted. */
  get checks(): number {
    return this.#admitted
  }

  /** Whether a datagram may be looked at. */
  admits(bytes: Uint8Array, from: Endpoint): boolean {
    const key = `${from.address} ${from.port}`
    if (!looksLikeStun(bytes)) return bytes.byteLength <= ICE_DATAGRAM_BYTES_MAX && this.#proved.has(key)
    const message = decodeStun(bytes)
    if ('code' in message || message.method !== STUN_BINDING) return false
    // The agent takes an answer only for a request of its own, from where it went, signed with the peer's password.
    if (message.class === 'success' || message.class === 'error') return true
    if (message.class !== 'request' || !(message.attributes.username ?? '').startsWith(`${this.#ufrag}:`)) return false
    const signedBytes = (message.integrityAt ?? 0) + INTEGRITY_BYTES + (message.hasFingerprint ? FINGERPRINT_BYTES : 0)
    if (signedBytes !== bytes.byteLength || !isAuthentic(bytes, message, this.#password)) return false
    if (!this.#checks.take(1) || (!this.#proved.has(key) && this.#proved.size >= ICE_PAIRS_MAX)) return false
    this.#proved.add(key)
    this.#admitted++
    return true
  }
}
