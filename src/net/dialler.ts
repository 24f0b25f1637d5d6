/**
 * Finds the address of a peer that works. Addresses are tried one beside the other, each a little after the one before
 * (as in RFC 8305), because a machine announces addresses that lead nowhere from here (containers, other networks) and
 * each of those may take seconds to fail. Somebody else may answer at such an address: that connection is dropped.
 */
import type { Connection } from '@libp2p/interface'
import { abortError, type Clock, type Logger, messageOf, sleep } from '#base'
import type { Address } from './address.ts'
import { NetError } from './errors.ts'
import { DIAL_STAGGER_MS } from './limits.ts'

export type DialDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly dial: (address: Address, options: { readonly signal: AbortSignal }) => Promise<Connection>
}

export type DialTarget = {
  readonly addresses: readonly Address[]
  /** Who must answer. Undefined: whoever does. */
  readonly peer?: string
}

/** The first connection to the right peer; those that come later are closed. @throws NetError, or the signal's reason */
export async function dialAny(
  deps: DialDeps,
  target: DialTarget,
  options: { readonly signal: AbortSignal },
): Promise<Connection> {
  const done = new AbortController()
  const signal = AbortSignal.any([options.signal, done.signal])
  const failures: NetError[] = []
  let winner: Connection | undefined
  const attempt = async (address: Address, index: number): Promise<void> => {
    if (index > 0) await sleep(deps.clock, index * DIAL_STAGGER_MS, { signal })
    const connection = await deps.dial(address, { signal })
    const actual = connection.remotePeer.toString()
    const expected = target.peer ?? address.peer ?? actual
    if (winner === connection) return // libp2p joined two dials to one address.
    if (winner !== undefined || expected !== actual) connection.abort(new Error('not the connection that was wanted'))
    if (expected !== actual) throw wrongPeer(expected, actual)
    winner ??= connection
    done.abort()
  }
  const tries = target.addresses.map((address, index) =>
    attempt(address, index).catch((error: unknown) => {
      if (error instanceof NetError) failures.push(error)
      else if (!signal.aborted) failures.push(dialFailed(target, error))
    }),
  )
  // All of them have to come to an end, so that a late connection is not left open.
  const all = Promise.all(tries)
  await Promise.race([all, new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))])
  if (winner !== undefined) return winner
  done.abort()
  if (options.signal.aborted) throw abortError(options.signal)
  throw failures.find(failure => failure.code === 'NET_WRONG_PEER') ?? failures[0] ?? dialFailed(target, undefined)
}

function wrongPeer(expected: string, actual: string): NetError {
  return new NetError(
    { code: 'NET_WRONG_PEER', expected, actual },
    `another node answers at that address: expected ${expected}, found ${actual}`,
  )
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
