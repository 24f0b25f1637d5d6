/** Who is behind the channels of a download, and who of them is banned: that outlives their channels. */
import type { Party } from './channel.ts'
import { BANNED_PARTIES_MAX, UNASKED_BYTES_MAX } from './limits.ts'

export class Parties {
  readonly #parties = new Map<string, { readonly party: Party; channels: number }>()
  /** Without channels, and not without fault; the oldest first. */
  readonly #remembered = new Map<string, Party>()

  of(name: string): Party {
    return this.#parties.get(name)?.party ?? this.#remembered.get(name) ?? { name, isBanned: false, unaskedBytes: 0 }
  }

  joined(party: Party): void {
    const entry = this.#parties.get(party.name)
    if (entry === undefined) this.#parties.set(party.name, { party, channels: 1 })
    else entry.channels++
  }

  left(party: Party): void {
    const entry = this.#parties.get(party.name)
    if (entry === undefined || --entry.channels > 0) return
    this.#parties.delete(party.name)
    if (party.isBanned || party.unaskedBytes > 0) this.#remember(party)
  }

  ban(party: Party): void {
    party.isBanned = true
    this.#remember(party)
  }

  /** @returns whether that was too much */
  gaveUnasked(party: Party, bytes: number): boolean {
    party.unaskedBytes += bytes
    return party.unaskedBytes > UNASKED_BYTES_MAX
  }

  #remember(party: Party): void {
    this.#remembered.delete(party.name)
    this.#remembered.set(party.name, party)
    const [oldest] = this.#remembered.keys()
    if (this.#remembered.size > BANNED_PARTIES_MAX && oldest !== undefined) this.#remembered.delete(oldest)
  }
}
