/** What all transfers of this node share: limits of the rates, and the bytes that are on their way through the memory. */
import type { Clock } from '#base'
import { INCOMING_BYTES_MAX, OUTGOING_BYTES_MAX } from './limits.ts'
import { Rate } from './rate.ts'
import type { SwarmRates } from './swarm-types.ts'

export class Budget {
  readonly down: Rate
  readonly up: Rate
  /** Bytes that were asked for and have not come, or have come and are not stored. */
  incoming = 0
  /** Bytes that are read to be sent, or wait to be sent. */
  outgoing = 0

  constructor(clock: Clock, rates: SwarmRates) {
    this.down = new Rate(clock, rates.down)
    this.up = new Rate(clock, rates.up)
  }

  set(rates: SwarmRates): void {
    this.down.set(rates.down)
    this.up.set(rates.up)
  }

  /** Bytes that may be asked for now. */
  get askable(): number {
    return Math.max(0, Math.min(this.down.available, INCOMING_BYTES_MAX - this.incoming))
  }

  /** Bytes that may be read to be sent now. */
  get sendable(): number {
    return Math.max(0, Math.min(this.up.available, OUTGOING_BYTES_MAX - this.outgoing))
  }
}
