/**
 * Places of newcomers are few, and whoever connects holds one until it has proved itself. One address must not be able to
 * hold them all: sockets in the middle of their handshake are bounded by address, and where all places of unproven
 * connections are taken the address with the most gives one up.
 */
import { HANDSHAKES_PER_ADDRESS_MAX } from './limits.ts'
import { subjectOfAddress, subjectsOf } from './peer-guard.ts'
import type { Session } from './session.ts'

/** Inbound sockets that are not yet connections, by the multiaddr that they come from (which has their port). */
export class PendingSockets {
  readonly #subjects = new Map<string, string>()

  get size(): number {
    return this.#subjects.size
  }

  /** @returns whether the address may have one more */
  enter(from: string): boolean {
    const subject = subjectOfAddress(from) ?? from
    let count = 0
    for (const other of this.#subjects.values()) if (other === subject) count++
    if (count >= HANDSHAKES_PER_ADDRESS_MAX) return false
    this.#subjects.set(from, subject)
    return true
  }

  leave(from: string): void {
    this.#subjects.delete(from)
  }
}

/**
 * Who goes for a newcomer from this address: the oldest of the address that has the most, if that has more than the
 * newcomer's would have then.
 * @param unproven in the order of their coming
 */
export function crowdedOut(unproven: Iterable<Session>, subject: string): Session | undefined {
  const held = Map.groupBy(unproven, session => subjectsOf(session).at(-1) ?? '')
  const most = [...held.values()].reduce((most, sessions) => (sessions.length > most.length ? sessions : most), [])
  return most.length > (held.get(subject)?.length ?? 0) + 1 ? most[0] : undefined
}
