/**
 * Delay, jitter, loss and rate of a path, decided packet by packet from a seeded generator: the kernel's own `netem` is
 * not in every kernel, and does not repeat a run.
 */
import { type Clock, type Random, uniform } from '#base'
import { PROXY_DELAY_MS_MAX } from './limits.ts'

export type Impairment = {
  /** One way, in milliseconds. */
  readonly delayMs?: number
  /** Up to so much more, uniformly, in milliseconds. Packets may overtake each other, as on a real path. */
  readonly jitterMs?: number
  /** How many of all packets are lost, 0 to 1. */
  readonly lossRatio?: number
  /** What the path carries in one direction; packets wait for each other. 0, the default: no limit. */
  readonly bytesPerSecond?: number
}

/** How long a packet takes, in milliseconds, or that it is lost. */
export type Verdict = { readonly delayMs: number; readonly isLost: boolean }

/** Decides for one direction of one path. */
export type Path = (byteCount: number) => Verdict

/** @throws RangeError where a number is out of range */
export function createPath(deps: { readonly clock: Clock; readonly random: Random }, impairment: Impairment): Path {
  const { delayMs = 0, jitterMs = 0, lossRatio = 0, bytesPerSecond = 0 } = impairment
  if (!(delayMs >= 0 && jitterMs >= 0 && delayMs + jitterMs <= PROXY_DELAY_MS_MAX)) throw new RangeError('bad delay')
  if (!(lossRatio >= 0 && lossRatio <= 1)) throw new RangeError('bad loss ratio')
  if (!(bytesPerSecond >= 0)) throw new RangeError('bad rate')
  let freeAt = 0
  return byteCount => {
    // Both are drawn for each packet, so that one setting does not change what another decides.
    const isLost = uniform(deps.random) < lossRatio
    const jitter = uniform(deps.random) * jitterMs
    if (bytesPerSecond === 0) return { delayMs: delayMs + jitter, isLost }
    const now = deps.clock.monotonic()
    freeAt = Math.max(now, freeAt) + (byteCount / bytesPerSecond) * 1_000
    return { delayMs: freeAt - now + delayMs + jitter, isLost }
  }
}

/** Checks settings that came as JSON from another process. */
export function parseImpairment(text: string): Impairment {
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null) throw new TypeError('not an impairment')
  for (const [name, number] of Object.entries(value)) {
    if (!['delayMs', 'jitterMs', 'lossRatio', 'bytesPerSecond'].includes(name)) throw new TypeError(`unknown: ${name}`)
    if (typeof number !== 'number') throw new TypeError(`${name} is not a number`)
  }
  return value
}
