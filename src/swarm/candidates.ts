/**
 * Who may have a model, and when each of them is dialled: peers that are given, connected, or found, tried again after a
 * wait that doubles. No I/O: the owner dials, and says how it went.
 */
import type { Random } from '#base'
import { uniform } from '#base'
import { partyOfHost, plainHost } from './bittorrent/host-group.ts'
import { CANDIDATES_MAX, DIALS_MAX, REDIAL_MS_MAX, REDIAL_MS_MIN, REDIALS_MAX } from './limits.ts'
import type { PeerAddress } from './swarm-types.ts'

export type Candidate = {
  readonly key: string
  readonly party: string
  readonly address: PeerAddress
  state: 'idle' | 'dialling' | 'connected'
  failures: number
  retryAt: number
}

export class Candidates {
  readonly #random: Random
  readonly #all = new Map<string, Candidate>()

  constructor(random: Random) {
    this.#random = random
  }

  get size(): number {
    return this.#all.size
  }

  /** Takes an address, or what is new about one that is known. Without room it is forgotten. */
  add(address: PeerAddress): void {
    const key = keyOf(address)
    const known = this.#all.get(key)
    if (known !== undefined) {
      const hasNews = address.kind === 'koinon' && address.addresses.length > 0
      if (hasNews) this.#all.set(key, Object.assign(known, { address }))
      return
    }
    if (this.#all.size >= CANDIDATES_MAX) return
    const party = partyOf(address)
    this.#all.set(key, { key, party, address, state: 'idle', failures: 0, retryAt: 0 })
  }

  /** Those to be dialled now, at most so many; they are `dialling` from then on. */
  due(now: number, options: { readonly most: number; readonly skips: (party: string) => boolean }): Candidate[] {
    let free = Math.min(options.most, DIALS_MAX - this.#count('dialling'))
    const due: Candidate[] = []
    for (const candidate of this.#all.values()) {
      if (free <= 0) break
      if (candidate.state !== 'idle' || candidate.retryAt > now || options.skips(candidate.party)) continue
      candidate.state = 'dialling'
      due.push(candidate)
      free--
    }
    return due
  }

  connected(candidate: Candidate): void {
    candidate.state = 'connected'
  }

  /** A dial came to nothing, or a session has ended. `isUseful`: it had given something, so it is missed. */
  ended(candidate: Candidate, now: number, outcome: { readonly isUseful: boolean }): void {
    candidate.state = 'idle'
    candidate.failures = outcome.isUseful ? 1 : candidate.failures + 1
    if (candidate.failures > REDIALS_MAX) {
      this.#all.delete(candidate.key)
      return
    }
    const waitMs = Math.min(REDIAL_MS_MAX, REDIAL_MS_MIN * 2 ** (candidate.failures - 1))
    // Many who lost the same seed must not come back to it in the same moment.
    candidate.retryAt = now + waitMs * (0.5 + uniform(this.#random) / 2)
  }

  forget(party: string): void {
    for (const { key, party: known } of this.#all.values()) if (known === party) this.#all.delete(key)
  }

  get isDialling(): boolean {
    return this.#count('dialling') > 0
  }

  #count(state: Candidate['state']): number {
    let count = 0
    for (const candidate of this.#all.values()) if (candidate.state === state) count++
    return count
  }
}

export function partyOf(address: PeerAddress): string {
  return address.kind === 'koinon' ? address.peer : partyOfHost(address.host)
}

function keyOf(address: PeerAddress): string {
  return address.kind === 'koinon' ? address.peer : `bt:${plainHost(address.host)}:${address.port}`
}
