/** How good a relay is for us, by what we have measured of the way to it and by what it says of its load. */
import { RELAY_SAMPLES_MAX } from './limits.ts'

/** What a relay counts as whose distance nobody has measured yet, in milliseconds. */
const RTT_MS_UNKNOWN = 500

/** No loss makes a relay worse than by this share: the score stays a number. */
const LOSS_MAX = 0.9

/** A relay of our own region is taken for that much nearer: a hint, which any difference that was measured outweighs. */
const REGION_FACTOR = 0.95

export class PathQuality {
  /** Round-trip times in milliseconds, the oldest first; undefined: no answer came. */
  readonly #samples: (number | undefined)[] = []

  add(sample: number | undefined): void {
    this.#samples.push(sample)
    if (this.#samples.length > RELAY_SAMPLES_MAX) this.#samples.shift()
  }

  /** Mean of the round-trip times; undefined: none was measured. */
  get rttMs(): number | undefined {
    const times = this.#times
    return times.length === 0 ? undefined : times.reduce((sum, time) => sum + time, 0) / times.length
  }

  /** Mean difference between one round-trip time and the next (RFC 3550 calls it jitter). */
  get jitterMs(): number {
    const times = this.#times
    if (times.length < 2) return 0
    const differences = times.slice(1).map((time, index) => Math.abs(time - (times[index] ?? time)))
    return differences.reduce((sum, difference) => sum + difference, 0) / differences.length
  }

  /** Share of keepalives that were not answered, 0 to 1. */
  get loss(): number {
    if (this.#samples.length === 0) return 0
    return 1 - this.#times.length / this.#samples.length
  }

  get #times(): number[] {
    return this.#samples.filter(sample => sample !== undefined)
  }
}

export type ScoreFacts = {
  readonly quality: PathQuality | undefined
  /** What the session's pings say, until there are own measurements. */
  readonly rttMs: number | undefined
  /** Share of the relay's places that are taken, 0 to 1. */
  readonly load: number
  readonly isSameRegion: boolean
}

/** In milliseconds of a sort: the smaller the better. */
export function scoreOf({ quality, rttMs, load, isSameRegion }: ScoreFacts): number {
  const delayMs = (quality?.rttMs ?? rttMs ?? RTT_MS_UNKNOWN) + 4 * (quality?.jitterMs ?? 0)
  const arriving = 1 - Math.min(LOSS_MAX, quality?.loss ?? 0)
  // What is lost is sent again, and waits for that twice: once at each end of the circuit.
  return (Math.max(1, delayMs) * (1 + load) * (isSameRegion ? REGION_FACTOR : 1)) / arriving ** 2
}
