/** Short ways to say what was wrong with what the other side sent. */
import type { WireFault } from './errors.ts'

export function malformed(what: string): WireFault {
  return { code: 'SWARM_MALFORMED', blame: 'peer', what }
}

export function tooLarge(what: string): WireFault {
  return { code: 'SWARM_TOO_LARGE', blame: 'peer', what }
}

export function unasked(what: string): WireFault {
  return { code: 'SWARM_UNASKED', blame: 'peer', what }
}

export function lost(what: string): WireFault {
  return { code: 'SWARM_LOST', blame: 'nobody', what }
}

export function timedOut(what: string): WireFault {
  return { code: 'SWARM_TIMEOUT', blame: 'nobody', what }
}

/** Tells a fault from what is asked for: messages have a `kind`, faults have a `code`. */
export function isFault(value: object): value is WireFault {
  return 'code' in value
}
