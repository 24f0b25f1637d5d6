/**
 * Finds the way to a peer. Addresses of one transport are tried one beside the other, each a little after the one before
 * (as in RFC 8305), because a machine announces addresses that lead nowhere from here (containers, other networks) and each
 * of those may take seconds to fail. QUIC and TCP start together; where a way is up and a better one may still come, that
 * one gets a moment. A relay is tried when nothing else comes to anything. Somebody else may answer at an address: that
 * connection is dropped before anything is said on it.
 */
import type { Connection } from '@libp2p/interface'
import { abortError, type CancelTimer, type Clock, type Logger, messageOf, sleep } from '#base'
import type { Address } from './address.ts'
import { NetError } from './errors.ts'
import type { NetSettings } from './settings.ts'

export type DialDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly settings: Pick<NetSettings, 'dialStaggerMs' | 'dialGraceMs' | 'dialRelayDelayMs' | 'dialPrefer'>
  readonly dial: (address: Address, options: { readonly signal: AbortSignal }) => Promise<Connection>
  /** Whether we may talk to this peer at all. */
  readonly allows: (peer: string) => boolean
}

export type DialTarget = {
  readonly addresses: readonly Address[]
  /** Who must answer. Undefined: whoever does. */
  readonly peer?: string
}

/** The best connection to the right peer; the others are closed. @throws NetError, or the signal's reason */
export function dialAny(
  deps: DialDeps,
  target: DialTarget,
  options: { readonly signal: AbortSignal },
): Promise<Connection> {
  return new Race(deps, target, options.signal).run()
}

type Attempt = { readonly address: Address; readonly rank: number; readonly startMs: number; isOver: boolean }
type Candidate = { readonly connection: Connection; readonly attempt: Attempt; readonly tookMs: number }

class Race {
  readonly #deps: DialDeps
  readonly #target: DialTarget
  readonly #caller: AbortSignal
  readonly #done = new AbortController()
  /** Aborts when no direct way is left. */
  readonly #isRelayDue = new AbortController()
  readonly #signal: AbortSignal
  readonly #attempts: readonly Attempt[]
  readonly #failures: NetError[] = []
  readonly #startedAt: number
  #best: Candidate | undefined
  #winner: Candidate | undefined
  #grace: CancelTimer | undefined

  constructor(deps: DialDeps, target: DialTarget, caller: AbortSignal) {
    this.#deps = deps
    this.#target = target
    this.#caller = caller
    this.#signal = AbortSignal.any([caller, this.#done.signal])
    this.#startedAt = deps.clock.monotonic()
    this.#attempts = plan(target.addresses, deps.settings)
  }

  async run(): Promise<Connection> {
    const tries = this.#attempts.map(attempt =>
      this.#try(attempt)
        .catch((error: unknown) => {
          if (error instanceof NetError) this.#failures.push(error)
          else if (!this.#signal.aborted) this.#failures.push(dialFailed(this.#target, error))
        })
        .finally(() => this.#onOver(attempt)),
    )
    this.#look()
    // All of them have to come to an end, so that a late connection is not left open.
    const all = Promise.all(tries)
    await Promise.race([all, new Promise(resolve => this.#signal.addEventListener('abort', resolve, { once: true }))])
    this.#grace?.()
    if (this.#winner !== undefined) return this.#winner.connection
    this.#done.abort()
    if (this.#best !== undefined) drop(this.#best.connection)
    if (this.#caller.aborted) throw abortError(this.#caller)
    const telling = this.#failures.find(({ code }) => code === 'NET_WRONG_PEER' || code === 'NET_PEER_NOT_ALLOWED')
    throw telling ?? this.#failures[0] ?? dialFailed(this.#target, undefined)
  }

  async #try(attempt: Attempt): Promise<void> {
    await this.#turn(attempt)
    const connection = await this.#deps.dial(attempt.address, { signal: this.#signal })
    const actual = connection.remotePeer.toString()
    const expected = this.#target.peer ?? attempt.address.peer ?? actual
    const held = this.#winner ?? this.#best
    if (held?.connection === connection) return // libp2p joined two dials to one address.
    if (expected !== actual || !this.#deps.allows(actual)) {
      drop(connection)
      throw expected === actual ? notAllowed(actual) : wrongPeer(expected, actual)
    }
    const candidate = { connection, attempt, tookMs: this.#deps.clock.monotonic() - this.#startedAt }
    if (this.#winner !== undefined || this.#signal.aborted) drop(connection)
    else this.#offer(candidate)
  }

  async #turn({ address, startMs }: Attempt): Promise<void> {
    const { clock } = this.#deps
    if (startMs === 0) return
    if (address.relay === undefined) {
      await sleep(clock, startMs, { signal: this.#signal })
      return
    }
    const due = AbortSignal.any([this.#signal, this.#isRelayDue.signal])
    await sleep(clock, startMs, { signal: due }).catch(() => this.#signal.throwIfAborted())
  }

  #offer(candidate: Candidate): void {
    const before = this.#best
    if (before === undefined) {
      const { clock, settings } = this.#deps
      this.#grace = clock.after(settings.dialGraceMs, () => this.#decide())
    }
    const isBetter = before === undefined || candidate.attempt.rank < before.attempt.rank
    this.#best = isBetter ? candidate : before
    const other = isBetter ? before : candidate
    if (other === undefined) return
    drop(other.connection)
    this.#deps.log.debug('two ways to a peer; the better is kept', {
      kept: this.#best.attempt.address.transport,
      keptMs: Math.round(this.#best.tookMs),
      closed: other.attempt.address.transport,
      closedMs: Math.round(other.tookMs),
    })
  }

  #onOver(attempt: Attempt): void {
    attempt.isOver = true
    this.#look()
  }

  /** Decides where nothing better can come, and lets relays begin where nothing else is left. */
  #look(): void {
    const open = this.#attempts.filter(({ isOver }) => !isOver)
    if (!open.some(({ address }) => address.relay === undefined)) this.#isRelayDue.abort()
    const rank = this.#best?.attempt.rank
    if (rank !== undefined && !open.some(other => other.rank < rank)) this.#decide()
  }

  #decide(): void {
    if (this.#best === undefined || this.#winner !== undefined || this.#signal.aborted) return
    this.#winner = this.#best
    this.#done.abort()
  }
}

function plan(addresses: readonly Address[], settings: DialDeps['settings']): Attempt[] {
  const { dialStaggerMs, dialRelayDelayMs, dialPrefer } = settings
  const counts = new Map<string, number>()
  const hasDirect = addresses.some(({ relay }) => relay === undefined)
  return addresses.map(address => {
    const isRelayed = address.relay !== undefined
    const line = isRelayed ? 'relay' : address.transport
    const index = counts.get(line) ?? 0
    counts.set(line, index + 1)
    const rank = isRelayed ? 3 : address.transport === 'ws' ? 2 : address.transport === dialPrefer ? 0 : 1
    const startMs = index * dialStaggerMs + (isRelayed && hasDirect ? dialRelayDelayMs : 0)
    return { address, rank, startMs, isOver: false }
  })
}

function drop(connection: Connection): void {
  connection.abort(new Error('not the connection that was wanted'))
}

function wrongPeer(expected: string, actual: string): NetError {
  return new NetError(
    { code: 'NET_WRONG_PEER', expected, actual },
    `another node answers at that address: expected ${expected}, found ${actual}`,
  )
}

/** Whoever is not on the list of those that are. */
export function notAllowed(peer: string): NetError {
  return new NetError({ code: 'NET_PEER_NOT_ALLOWED', peer }, `${peer} is not among the peers that are allowed`)
}

function dialFailed(target: DialTarget, cause: unknown): NetError {
  const fault = { code: 'NET_DIAL_FAILED', ...(target.peer === undefined ? {} : { peer: target.peer }) } as const
  return new NetError(fault, `the peer could not be dialled: ${reasonOf(cause)}`, { cause })
}

/** The system's code where there is one (ECONNREFUSED): the library's own sentence would repeat the address. */
function reasonOf(cause: unknown): string {
  if (cause === undefined) return 'no address to dial'
  if (!(cause instanceof Error)) return messageOf(cause)
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.name
}
