/**
 * What an operator may set about the network: every field with its default, its bounds and why, in one table that checks
 * what is given and that `docs/reference/transports.md` repeats. What is not here is a limit (`limits.ts`).
 */
import { NetError } from './errors.ts'
import {
  ADMISSION_TIMEOUT_MS,
  BREAKER_FAILURES,
  BREAKER_WAIT_MS_MAX,
  BREAKER_WAIT_MS_MIN,
  BREAKER_WINDOW_MS,
  CLOSE_TIMEOUT_MS,
  CONNECT_TIMEOUT_MS,
  CONNECTIONS_PER_PEER_MAX,
  DIAL_STAGGER_MS,
  HANDSHAKES_MAX,
  IDLE_LIMIT_MS,
  INBOUND_PER_SECOND_MAX,
  OPEN_TIMEOUT_MS,
  PEERS_FLOOR,
  PEERS_MAX,
  PING_INTERVAL_MS,
  PING_TIMEOUT_MS,
  PINGS_FAILED_MAX,
  PLANE_CONNECT_MS_MAX,
  STREAM_WINDOW_BYTES_MAX,
  STREAM_WRITE_BYTES_MAX,
  STREAMS_PER_CONNECTION_MAX,
  SWEEP_PERIOD_MS,
  UNPROVEN_MAX,
} from './limits.ts'

type NumberSpec = { readonly default: number; readonly min: number; readonly max: number; readonly why: string }
type SwitchSpec = { readonly default: boolean; readonly why: string }
type ChoiceSpec = { readonly default: string; readonly choices: readonly string[]; readonly why: string }

const KiB = 1024
const MiB = 1024 * KiB
const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

/** The settings: whole numbers between bounds, switches, choices. Times in milliseconds, sizes in bytes. */
export const SETTINGS = {
  dialTimeoutMs: {
    default: CONNECT_TIMEOUT_MS,
    min: 1_000,
    max: 2 * MINUTE_MS,
    why: 'from the first dial of a peer to a usable one, over all its addresses; TCP gives up a lost SYN after 1, 3 and 7 s',
  },
  dialStaggerMs: {
    default: DIAL_STAGGER_MS,
    min: 10,
    max: 5_000,
    why: 'how long one address of a transport is tried before the next of the same transport is tried beside it (RFC 8305)',
  },
  dialPrefer: {
    default: 'tcp',
    choices: ['tcp', 'quic'],
    why: 'which is kept where both come up: TCP moved 1.5 times what QUIC did and had shorter round trips (network.md)',
  },
  dialGraceMs: {
    default: 250,
    min: 0,
    max: 5_000,
    why: 'how long another way that is up waits for the preferred one: TCP and TLS take three round trips more than QUIC',
  },
  dialRelayDelayMs: {
    default: 1_500,
    min: 0,
    max: MINUTE_MS,
    why: 'how long direct addresses are tried before a relay is tried beside them; at once where they have all failed',
  },
  directPaths: {
    default: true,
    why: 'whether a relayed connection looks for a direct way, on both sides; off: the relay carries it as long as it lasts',
  },
  admissionTimeoutMs: {
    default: ADMISSION_TIMEOUT_MS,
    min: 500,
    max: MINUTE_MS,
    why: 'from a connection to admission, and for TLS or Noise before it: who holds a place of a newcomer holds it no longer',
  },
  openTimeoutMs: {
    default: OPEN_TIMEOUT_MS,
    min: 500,
    max: MINUTE_MS,
    why: 'from asking for a stream to having it',
  },
  planeTimeoutMs: {
    default: PLANE_CONNECT_MS_MAX,
    min: 100,
    max: MINUTE_MS,
    why: 'from the first packet to a stream of the data plane; then the stream goes over the connection of the session',
  },
  closeTimeoutMs: {
    default: CLOSE_TIMEOUT_MS,
    min: 500,
    max: MINUTE_MS,
    why: 'how long a close may wait for bytes that were queued; then the stream is reset',
  },
  pingIntervalMs: {
    default: PING_INTERVAL_MS,
    min: 1_000,
    max: 10 * MINUTE_MS,
    why: 'time between two pings of a session: also what keeps a NAT from forgetting a TCP connection',
  },
  pingTimeoutMs: {
    default: PING_TIMEOUT_MS,
    min: 500,
    max: 10 * MINUTE_MS,
    why: 'how long the answer to a ping may take; at most the interval',
  },
  pingFailuresMax: {
    default: PINGS_FAILED_MAX,
    min: 1,
    max: 100,
    why: 'pings in a row that may fail: with the last of them the connection is closed',
  },
  sweepPeriodMs: {
    default: SWEEP_PERIOD_MS,
    min: 1_000,
    max: 60 * MINUTE_MS,
    why: 'time between two looks at all connections, and after how long one without use counts as idle',
  },
  idleLimitMs: {
    default: IDLE_LIMIT_MS,
    min: 1_000,
    max: DAY_MS,
    why: 'how long a connection that nobody holds may be of no use before it is closed',
  },
  peersFloor: {
    default: PEERS_FLOOR,
    min: 0,
    max: 1_000,
    why: 'so few peers are kept whether they are of use or not: a small swarm stays together however quiet it is',
  },
  breakerFailures: {
    default: BREAKER_FAILURES,
    min: 1,
    max: 100,
    why: 'dials that fail within the window before a peer, or an address, is left alone',
  },
  breakerWindowMs: {
    default: BREAKER_WINDOW_MS,
    min: 1_000,
    max: DAY_MS,
    why: 'the window of these failures',
  },
  breakerWaitMsMin: {
    default: BREAKER_WAIT_MS_MIN,
    min: 100,
    max: DAY_MS,
    why: 'the first time for which it is left alone; it doubles with each probe that fails',
  },
  breakerWaitMsMax: {
    default: BREAKER_WAIT_MS_MAX,
    min: 100,
    max: DAY_MS,
    why: 'the longest such time',
  },
  inboundPerSecondMax: {
    default: INBOUND_PER_SECOND_MAX,
    min: 1,
    max: 10_000,
    why: 'connections that one IP address may open in a second; a swarm on one machine shares an address',
  },
  handshakesMax: {
    default: HANDSHAKES_MAX,
    min: 1,
    max: 1_024,
    why: 'inbound connections in the middle of TLS or Noise: each costs a signature and up to 64 KiB',
  },
  connectionsMax: {
    default: PEERS_MAX * CONNECTIONS_PER_PEER_MAX + UNPROVEN_MAX + HANDSHAKES_MAX,
    min: 8,
    max: 4_096,
    why: 'connections of all kinds; the bounds on peers and newcomers bite first, else libp2p closes some of its own choice',
  },
  streamsMax: {
    default: STREAMS_PER_CONNECTION_MAX,
    min: 8,
    max: 4_096,
    why: 'streams that one connection may have open in each direction',
  },
  streamWindowBytes: {
    default: STREAM_WINDOW_BYTES_MAX,
    min: 256 * KiB,
    max: 16 * MiB,
    why: 'what a peer may send on one stream before we have read it: window / round trip bounds its speed, 10 MiB/s at 100 ms',
  },
  streamWriteBytes: {
    default: STREAM_WRITE_BYTES_MAX,
    min: 256 * KiB,
    max: 64 * MiB,
    why: 'what may wait to be sent on one stream; a writer that ignores back-pressure beyond it loses the stream',
  },
  tcpNoDelay: {
    default: true,
    why: 'TCP_NODELAY: a decoding step is one small message, which must not wait for the next',
  },
  tcpKeepAliveMs: {
    default: MINUTE_MS,
    min: 0,
    max: 2 * 60 * MINUTE_MS,
    why: 'silence after which the system probes a connection; 0: never. Pings are what notices a dead peer',
  },
  tcpIdleMs: {
    default: 2 * MINUTE_MS,
    min: 5_000,
    max: 60 * MINUTE_MS,
    why: 'silence after which a TCP connection is closed; more than two pings apart',
  },
  quicIdleMs: {
    default: 15_000,
    min: 3_000,
    max: 10 * MINUTE_MS,
    why: 'silence after which a QUIC connection is gone, for both sides (the smaller counts), and how long a handshake may take',
  },
  quicKeepAliveMs: {
    default: 5_000,
    min: 500,
    max: 5 * MINUTE_MS,
    why: 'silence after which QUIC sends a probe: at most half of the idle time, and NATs forget UDP after 30 s',
  },
  quicConnectionBytes: {
    default: 16 * MiB,
    min: MiB,
    max: 256 * MiB,
    why: 'what a peer may send on all streams together before we have read it: several windows, so that one slow reader does not stop all',
  },
  quicSocketBytes: {
    default: 2 * MiB,
    min: 64 * KiB,
    max: 64 * MiB,
    why: 'buffers that the system is asked for, each way: a burst of a whole window fits; the system may give less',
  },
} as const satisfies Readonly<Record<string, NumberSpec | SwitchSpec | ChoiceSpec>>

type Specs = typeof SETTINGS
type ValueOf<S> = S extends { readonly choices: readonly (infer C)[] }
  ? C
  : S extends { readonly default: boolean }
    ? boolean
    : number

/** Settings of the network, each within its bounds. Times in milliseconds, sizes in bytes. */
export type NetSettings = { readonly [K in keyof Specs]: ValueOf<Specs[K]> }

type Spec = NumberSpec | SwitchSpec | ChoiceSpec
const SPECS: ReadonlyMap<string, Spec> = new Map(Object.entries(SETTINGS))

/** What is in force where nothing is set. */
export const DEFAULT_SETTINGS: NetSettings = checkSettings({})

/**
 * Some settings, completed by the defaults.
 * @throws NetError NET_SETTINGS_INVALID, which says which one and what would do
 */
export function checkSettings(given: unknown): NetSettings {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw invalid('settings are an object')
  for (const [name, value] of Object.entries(given)) {
    const spec = SPECS.get(name)
    if (spec === undefined) throw invalid(`there is no setting "${name.slice(0, 80)}"`, name)
    const expected = expectation(spec, value)
    if (expected !== undefined) throw invalid(`the setting "${name}" is ${expected}`, name)
  }
  const defaults = Object.fromEntries([...SPECS].map(([name, spec]) => [name, spec.default]))
  const settings = { ...defaults, ...given } as NetSettings
  if (2 * settings.quicKeepAliveMs > settings.quicIdleMs) {
    throw invalid('"quicKeepAliveMs" is at most half of "quicIdleMs"', 'quicKeepAliveMs')
  }
  if (settings.tcpIdleMs <= 2 * settings.pingIntervalMs) {
    throw invalid('"tcpIdleMs" is more than twice "pingIntervalMs"', 'tcpIdleMs')
  }
  if (settings.pingTimeoutMs > settings.pingIntervalMs) {
    throw invalid('"pingTimeoutMs" is at most "pingIntervalMs"', 'pingTimeoutMs')
  }
  if (settings.breakerWaitMsMin > settings.breakerWaitMsMax) {
    throw invalid('"breakerWaitMsMin" is at most "breakerWaitMsMax"', 'breakerWaitMsMin')
  }
  if (settings.quicConnectionBytes < settings.streamWindowBytes) {
    throw invalid('"quicConnectionBytes" is at least "streamWindowBytes"', 'quicConnectionBytes')
  }
  return settings
}

/** What the value should have been; undefined: it will do. */
function expectation(spec: Spec, value: unknown): string | undefined {
  if ('choices' in spec)
    return spec.choices.some(choice => choice === value) ? undefined : `one of ${list(spec.choices)}`
  if (!('min' in spec)) return typeof value === 'boolean' ? undefined : 'true or false'
  const fits = typeof value === 'number' && Number.isInteger(value) && value >= spec.min && value <= spec.max
  return fits ? undefined : `a whole number from ${spec.min} to ${spec.max}`
}

function list(choices: readonly string[]): string {
  return choices.map(choice => `"${choice}"`).join(', ')
}

function invalid(sentence: string, setting?: string): NetError {
  const fault = { code: 'NET_SETTINGS_INVALID', ...(setting === undefined ? {} : { setting }) } as const
  return new NetError(fault, sentence)
}
