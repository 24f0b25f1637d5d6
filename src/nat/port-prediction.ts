/**
 * Which outside port a NAT gives next, from those that it gave before. Pure.
 *
 * NATs choose in three ways that can be foreseen (RFC 4787, 4.2; RFC 5128, 3.4): the inside port again; the next one, or the
 * next but one, after the last; or an inside port plus a constant. Everything else counts as random. Other machines behind
 * the same NAT take ports in between, so steps that skip some of the sequence are borne as long as most do not.
 */
import { OBSERVATIONS_MAX, PORT_STEP_MAX, PREDICTED_PORTS_MAX } from './limits.ts'

/** One mapping that a NAT made: the port inside, and the one outside. In the order in which they were made. */
export type PortSample = { readonly insidePort: number; readonly outsidePort: number }

export type PortPattern =
  /** The outside port is the inside port. */
  | { readonly kind: 'preserved' }
  /** The outside port is the inside port and a constant. */
  | { readonly kind: 'offset'; readonly offset: number }
  /** Each new mapping gets the last one's port and a constant. `share` is how many of the steps, in 0..1, were just that. */
  | { readonly kind: 'sequence'; readonly step: number; readonly share: number; readonly last: number }
  | { readonly kind: 'random' }
  /** Too few mappings were seen. */
  | { readonly kind: 'unknown' }

/** Steps that must be the most frequent one, in 0..1; the others must be whole multiples of it. */
const SHARE_MIN = 0.5

/** Ports below are never given by a NAT that counts: it starts again here. */
const PORT_MIN = 1024
const PORT_COUNT = 65_536

/**
 * The pattern of a NAT's ports.
 * @param samples in the order in which the mappings were made; at least 2 tell something, 4 or more are better. Of equal
 * ones that follow each other, which are one mapping seen twice, one counts.
 */
export function portPatternOf(samples: readonly PortSample[]): PortPattern {
  const distinct = samples
    .slice(-OBSERVATIONS_MAX)
    .filter((sample, index, all) => index === 0 || !isSame(sample, all[index - 1]))
  const [first, second] = distinct
  if (first === undefined || second === undefined) return { kind: 'unknown' }
  const offset = first.outsidePort - first.insidePort
  const insidePorts = new Set(distinct.map(sample => sample.insidePort))
  // With one inside port only, one that comes back outside each time is no new mapping, so it cannot be the pattern.
  const isOffset = insidePorts.size > 1 && distinct.every(each => each.outsidePort - each.insidePort === offset)
  // Inside ports that the system gives one after the other look like an offset however the NAT counts; 0 is no accident.
  if (isOffset && offset === 0) return { kind: 'preserved' }
  if (isOffset && !isSequence([...insidePorts])) return { kind: 'offset', offset }
  return sequenceOf(distinct.map(sample => sample.outsidePort))
}

/**
 * The outside ports that the next mappings from `insidePort` may get, the likeliest first; none where nobody can tell.
 * @param count at most `PREDICTED_PORTS_MAX`
 */
export function predictPorts(pattern: PortPattern, insidePort: number, count: number): number[] {
  const wanted = Math.min(count, PREDICTED_PORTS_MAX)
  if (pattern.kind === 'sequence') {
    return Array.from({ length: wanted }, (_, index) => stepFrom(pattern.last, pattern.step * (index + 1)))
  }
  if (wanted < 1 || pattern.kind === 'random' || pattern.kind === 'unknown') return []
  const port = insidePort + (pattern.kind === 'offset' ? pattern.offset : 0)
  return port > 0 && port < PORT_COUNT ? [port] : []
}

function sequenceOf(ports: readonly number[]): PortPattern {
  const steps = ports.slice(1).map((port, index) => stepBetween(ports[index] ?? 0, port))
  const counts = new Map<number, number>()
  for (const step of steps) counts.set(step, (counts.get(step) ?? 0) + 1)
  // Of steps that are equally frequent the shortest is the NAT's own: others are it several times.
  const [best] = [...counts].sort((a, b) => b[1] - a[1] || Math.abs(a[0]) - Math.abs(b[0]))
  if (best === undefined) return { kind: 'unknown' }
  const [step, count] = best
  const share = count / steps.length
  const isWhole = steps.every(
    each => step !== 0 && each % step === 0 && each / step > 0 && Math.abs(each) <= PORT_STEP_MAX,
  )
  if (!isWhole || share < SHARE_MIN) return { kind: 'random' }
  return { kind: 'sequence', step, share, last: ports.at(-1) ?? 0 }
}

function isSequence(ports: readonly number[]): boolean {
  return sequenceOf(ports).kind === 'sequence'
}

function isSame(a: PortSample, b: PortSample | undefined): boolean {
  return a.insidePort === b?.insidePort && a.outsidePort === b.outsidePort
}

/** The way from one port to the next, the short one where the counter came round. */
function stepBetween(from: number, to: number): number {
  const range = PORT_COUNT - PORT_MIN
  const step = to - from
  if (Math.abs(step) <= range / 2) return step
  return step > 0 ? step - range : step + range
}

function stepFrom(port: number, step: number): number {
  const range = PORT_COUNT - PORT_MIN
  return PORT_MIN + ((((port - PORT_MIN + step) % range) + range) % range)
}
