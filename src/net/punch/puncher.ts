/**
 * The punches of one host: those that it starts and those that peers start, each bounded in number, time and rate, at
 * most one with a peer at a time. Also answers peers that ask where they are seen.
 */
import { type ByteStream, type Clock, type Logger, withDeadline } from '#base'
import type { PunchMethod } from '#wire'
import {
  PUNCH_INTERVAL_MS_MIN,
  PUNCH_MESSAGE_MS_MAX,
  PUNCH_MS_MAX,
  PUNCHES_MAX,
  PUNCHES_SERVED_MAX,
} from '../limits.ts'
import { punchFailed } from '../errors.ts'
import type { PathKind } from '../types.ts'
import { converse } from './conversation.ts'
import type { Observer } from './observer.ts'
import { PunchTalk } from './talk.ts'
import type { PunchConnect, PunchWay } from './types.ts'

export type PuncherDeps = {
  readonly clock: Clock
  readonly log: Logger
  /** Our own peer id. */
  readonly self: string
  readonly open: (peer: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
  readonly ways: readonly PunchWay[]
  readonly observer: Observer
  /** What we say of ourselves; the ways are left out. */
  readonly facts: () => Pick<PunchConnect, 'nat' | 'listensQuic'>
  /** The best path to a joined peer; undefined where there is none. */
  readonly pathTo: (peer: string) => PathKind | undefined
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
}

/** Peers whose last punch is remembered, so that it is not too soon for the next. */
const REMEMBERED_MAX = 256

export class Puncher {
  readonly #deps: PuncherDeps
  readonly #calling = new Map<string, AbortController>()
  readonly #serving = new Set<string>()
  readonly #servedAt = new Map<string, number>()

  constructor(deps: PuncherDeps) {
    this.#deps = deps
  }

  /** Whether a punch with the peer is under way. */
  isBusyWith(peer: string): boolean {
    return this.#calling.has(peer) || this.#serving.has(peer)
  }

  /** Whether another punch of ours can start. */
  get hasRoom(): boolean {
    return this.#calling.size < PUNCHES_MAX
  }

  /** Clock.monotonic() when the peer last started a punch; undefined where it has not for long. */
  servedAt(peer: string): number | undefined {
    return this.#servedAt.get(peer)
  }

  /** Starts a punch. @returns the way that led to a joined session @throws NetError NET_PUNCH_FAILED, and what streams throw */
  async punch(peer: string, options: { readonly signal: AbortSignal }): Promise<PunchMethod> {
    const { clock, open, stopping } = this.#deps
    const calling = new AbortController()
    const signal = AbortSignal.any([options.signal, calling.signal, stopping])
    if (this.isBusyWith(peer) || !this.hasRoom) throw punchFailed(peer, 'busy')
    this.#calling.set(peer, calling)
    try {
      return await withDeadline(clock, { what: 'a punch', timeoutMs: PUNCH_MS_MAX, signal }, async deadline => {
        const stream = await open(peer, { signal: deadline })
        const talk = new PunchTalk(this.#deps, stream)
        try {
          const method = await converse(this.#conversation(peer), talk, { role: 'caller', signal: deadline })
          await talk.close()
          return method
        } catch (error) {
          talk.abort(error instanceof Error ? error : new Error('the punch failed'))
          throw error
        }
      })
    } finally {
      this.#calling.delete(peer)
    }
  }

  /** Serves a stream that a peer has opened. @throws NetError, so that the stream is reset */
  async serve(stream: ByteStream): Promise<void> {
    const { clock, observer, stopping } = this.#deps
    const talk = new PunchTalk(this.#deps, stream)
    const first = await talk.next(['connect', 'observe'], { timeoutMs: PUNCH_MESSAGE_MS_MAX, signal: stopping })
    if (first.type === 'observe') {
      await observer.serve(talk)
      return
    }
    const { peer } = stream
    if (!this.#admits(peer)) throw talk.failure('busy')
    this.#serving.add(peer)
    this.#servedAt.delete(peer)
    this.#servedAt.set(peer, clock.monotonic())
    for (const oldest of this.#servedAt.keys()) if (this.#servedAt.size > REMEMBERED_MAX) this.#servedAt.delete(oldest)
    try {
      const deadline = { what: 'a punch', timeoutMs: PUNCH_MS_MAX, signal: stopping }
      await withDeadline(clock, deadline, signal =>
        converse(this.#conversation(peer), talk, { role: 'callee', theirs: first, signal }),
      )
      await talk.close()
    } finally {
      this.#serving.delete(peer)
    }
  }

  /** Where both start at once the smaller id's punch is the one that goes on. */
  #admits(peer: string): boolean {
    const { clock, self } = this.#deps
    const calling = this.#calling.get(peer)
    const since = clock.monotonic() - (this.#servedAt.get(peer) ?? Number.NEGATIVE_INFINITY)
    if (this.#serving.has(peer) || this.#serving.size >= PUNCHES_SERVED_MAX || since < PUNCH_INTERVAL_MS_MIN)
      return false
    if (calling === undefined) return true
    if (self < peer) return false
    calling.abort(new Error('the peer has started a punch itself'))
    return true
  }

  #conversation(peer: string): Parameters<typeof converse>[0] {
    const { clock, log, self, facts, ways, pathTo } = this.#deps
    // What is reached by ICE already is only worth a way that is better.
    const better = ways.filter(({ method }) => method !== 'ice' || pathTo(peer) !== 'ice')
    const methods = better.map(({ method }) => method)
    return { clock, log, self, ways: better, connect: { type: 'connect', methods, ...facts() } }
  }
}
