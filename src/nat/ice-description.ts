/**
 * What two ICE agents tell each other before they can talk: names, a password and candidates (RFC 8445, 5.3), as plain
 * objects. A description comes from a peer, so everything in it is bounded, addresses are IP addresses in canonical form
 * (names would be looked up), and what cannot be reached or is none of a peer's business is left out.
 */
import { z } from 'zod'
import { NatError } from './errors.ts'
import { decodeIp, isUnicast } from './ip.ts'
import { ICE_CANDIDATES_MAX } from './limits.ts'

export type IceCandidate = {
  /** The socket's own address, the one that a STUN server sees, or a TURN server's. */
  readonly type: 'host' | 'srflx' | 'relay'
  readonly address: string
  readonly port: number
  /** The higher the better (RFC 8445, 5.1.2). */
  readonly priority: number
  readonly foundation: string
}

/** One side of an ICE connection. The password authenticates the checks: send it through an encrypted channel only. */
export type IceDescription = {
  readonly ufrag: string
  readonly password: string
  readonly candidates: readonly IceCandidate[]
}

const ICE_CHARS = /^[A-Za-z0-9+/]+$/

const CANDIDATE = z.strictObject({
  type: z.enum(['host', 'srflx', 'relay']),
  address: z.string().min(2).max(45),
  port: z.int().min(1).max(65_535),
  priority: z
    .int()
    .min(1)
    .max(2 ** 31 - 1),
  foundation: z.string().min(1).max(32).regex(ICE_CHARS),
})

const DESCRIPTION = z.strictObject({
  ufrag: z.string().min(4).max(32).regex(ICE_CHARS),
  password: z.string().min(22).max(64).regex(ICE_CHARS),
  candidates: z.array(CANDIDATE).max(ICE_CANDIDATES_MAX),
})

/**
 * Reads what a peer sent.
 * @param options.isLocal whether the peer may be on this very machine. Loopback candidates are dropped otherwise: a peer must
 * not make this node send to its own services.
 * @throws NatError NAT_ICE_DESCRIPTION_INVALID
 */
export function parseIceDescription(value: unknown, options: { readonly isLocal?: boolean } = {}): IceDescription {
  const parsed = DESCRIPTION.safeParse(value)
  if (!parsed.success) {
    throw new NatError({ code: 'NAT_ICE_DESCRIPTION_INVALID' }, 'what the peer sent is no ICE description')
  }
  const candidates = parsed.data.candidates.flatMap(candidate => {
    const address = decodeIp(candidate.address)
    if (address === undefined || !isUnicast(address)) return []
    return isLoopback(address) && options.isLocal !== true ? [] : [{ ...candidate, address }]
  })
  return { ...parsed.data, candidates }
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}
