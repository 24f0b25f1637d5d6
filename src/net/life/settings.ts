/** What may be set about the life of connections: pings, the sweep, what counts as few peers, and the circuit breakers. */
import { NetError } from '../errors.ts'
import {
  BREAKER_FAILURES,
  BREAKER_WAIT_MS_MAX,
  BREAKER_WAIT_MS_MIN,
  BREAKER_WINDOW_MS,
  IDLE_LIMIT_MS,
  PEERS_FLOOR,
  PING_INTERVAL_MS,
  PING_TIMEOUT_MS,
  PINGS_FAILED_MAX,
  SWEEP_PERIOD_MS,
} from '../limits.ts'

export type LifeSettings = {
  /** Time between two pings of a connection. */
  readonly pingIntervalMs: number
  /** How long an answer may take; at most the interval. */
  readonly pingTimeoutMs: number
  /** Pings in a row that may fail: with the last of them the connection is closed. */
  readonly pingFailuresMax: number
  /** Time between two looks at all connections. */
  readonly sweepPeriodMs: number
  /** How long a connection that nobody holds may be of no use. */
  readonly idleLimitMs: number
  /** So few peers are kept whether they are of use or not. */
  readonly peersFloor: number
  /** Dials that fail within the window before a peer or an address is left alone. */
  readonly breakerFailures: number
  readonly breakerWindowMs: number
  /** The first time for which it is left alone; it doubles with each probe that fails. */
  readonly breakerWaitMsMin: number
  readonly breakerWaitMsMax: number
}

const LIFE_DEFAULTS: LifeSettings = {
  pingIntervalMs: PING_INTERVAL_MS,
  pingTimeoutMs: PING_TIMEOUT_MS,
  pingFailuresMax: PINGS_FAILED_MAX,
  sweepPeriodMs: SWEEP_PERIOD_MS,
  idleLimitMs: IDLE_LIMIT_MS,
  peersFloor: PEERS_FLOOR,
  breakerFailures: BREAKER_FAILURES,
  breakerWindowMs: BREAKER_WINDOW_MS,
  breakerWaitMsMin: BREAKER_WAIT_MS_MIN,
  breakerWaitMsMax: BREAKER_WAIT_MS_MAX,
}

const DAY_MS = 24 * 60 * 60 * 1000

/** The smallest and the largest value of each. */
const RANGES: Readonly<Record<keyof LifeSettings, readonly [min: number, max: number]>> = {
  pingIntervalMs: [1_000, 10 * 60_000],
  pingTimeoutMs: [500, 10 * 60_000],
  pingFailuresMax: [1, 100],
  sweepPeriodMs: [1_000, 60 * 60_000],
  idleLimitMs: [1_000, DAY_MS],
  peersFloor: [0, 1_000],
  breakerFailures: [1, 100],
  breakerWindowMs: [1_000, DAY_MS],
  breakerWaitMsMin: [100, DAY_MS],
  breakerWaitMsMax: [100, DAY_MS],
}

/** @throws NetError NET_SETTING_INVALID where a setting is out of its range or two do not fit together */
export function lifeSettings(given: Partial<LifeSettings> = {}): LifeSettings {
  const settings = { ...LIFE_DEFAULTS, ...given }
  for (const [name, [min, max]] of Object.entries(RANGES)) {
    const value = settings[name as keyof LifeSettings]
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      throw invalid(name, `${name} is ${value}; it is a whole number from ${min} to ${max}`)
    }
  }
  const { pingTimeoutMs, pingIntervalMs, breakerWaitMsMin, breakerWaitMsMax } = settings
  if (pingTimeoutMs > pingIntervalMs) throw invalid('pingTimeoutMs', 'pingTimeoutMs is longer than pingIntervalMs')
  if (breakerWaitMsMin > breakerWaitMsMax) {
    throw invalid('breakerWaitMsMin', 'breakerWaitMsMin is longer than breakerWaitMsMax')
  }
  return settings
}

function invalid(setting: string, sentence: string): NetError {
  return new NetError({ code: 'NET_SETTING_INVALID', setting }, sentence)
}
