/**
 * How a peer of the JSON protocol gets in. In an open swarm everybody is in. In one with a secret it says HELLO, gets a
 * nonce, and answers with AUTH: the same proof that sessions use, with the peer as the dialler. The connection below has
 * authenticated both peer ids.
 */
import { z } from 'zod'
import { fromHex, type Random, toHex } from '#base'
import { equalInConstantTime } from '#crypto'
import { NONCE_BYTES, type ProofContext, swarmProof } from '#wire'
import type { JsonFault } from './errors.ts'

export type AdmissionDeps = {
  readonly random: Random
  readonly self: string
  readonly peer: string
  readonly secret: Uint8Array | undefined
}

const hash = z.string().regex(/^[0-9a-f]{64}$/)
const proofSchema = z.object({ mac: hash, nonce: hash })

export class Admission {
  readonly #deps: AdmissionDeps
  #nonce: Uint8Array | undefined
  #isAdmitted: boolean

  constructor(deps: AdmissionDeps) {
    this.#deps = deps
    this.#isAdmitted = deps.secret === undefined
  }

  get isAdmitted(): boolean {
    return this.#isAdmitted
  }

  /** Answers HELLO. Each one makes a new nonce and forgets the one before. */
  hello(): { readonly peer: string; readonly secret: boolean; readonly nonce: string } {
    const { random, self, secret } = this.#deps
    this.#nonce = random.bytes(NONCE_BYTES)
    return { peer: self, secret: secret !== undefined, nonce: toHex(this.#nonce) }
  }

  /** Answers AUTH. A nonce serves once. @returns our own proof, so that the peer knows who it talks to */
  authenticate(params: unknown): { readonly mac: string } | JsonFault {
    const { secret } = this.#deps
    const listenerNonce = this.#nonce
    this.#nonce = undefined
    if (secret === undefined) return failed('this swarm has no secret')
    if (listenerNonce === undefined) return failed('AUTH answers a HELLO')
    const parsed = proofSchema.safeParse(params)
    if (!parsed.success) return failed('AUTH takes mac and nonce, 64 lower-case hexadecimal digits each')
    const diallerNonce = fromHex(parsed.data.nonce)
    const proof = (role: ProofContext['role']): Uint8Array =>
      swarmProof(secret, { role, dialler: this.#deps.peer, listener: this.#deps.self, diallerNonce, listenerNonce })
    if (!equalInConstantTime(fromHex(parsed.data.mac), proof('dialler'))) return failed('the proof does not fit')
    this.#isAdmitted = true
    return { mac: toHex(proof('listener')) }
  }
}

function failed(message: string): JsonFault {
  return { code: 'JSON_AUTH_FAILED', message }
}
