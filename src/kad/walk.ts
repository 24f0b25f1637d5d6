/**
 * Walks towards a key: kad-dht leads them over disjoint paths, this holds them to the rules. No peer is asked twice in one
 * walk (the library looks first and notes later, so two of its paths can ask one peer at once), none more than so many are
 * asked, and everything ends within the configured time.
 */
import type { PeerId, PeerInfo } from '@libp2p/interface'
import type { QueryEvent } from '@libp2p/kad-dht'
import { type Clock, TimeoutError } from '#base'
import { type Asker, type Dht, type MessageType, NO_PATH, type Path } from './dht.ts'
import { compareDistance, pointOf } from './distance.ts'
import { KadError } from './errors.ts'
import { LOOKUP_REQUESTS_MAX, OPERATIONS_MAX, WALK_PARALLEL_MAX, WALK_PERCENT_MAX } from './limits.ts'
import { refused } from './table-guard.ts'

/** What one peer said. */
export type Answer = {
  readonly from: PeerId
  /** Which of the disjoint paths it lies on. */
  readonly path: number
  readonly hops: number
  readonly closer: readonly PeerInfo[]
  readonly providers: readonly PeerInfo[]
  /** A value, not yet checked. */
  readonly record: { readonly key: Uint8Array; readonly value: Uint8Array } | undefined
}

export type WalkerDeps = { readonly clock: Clock; readonly dht: () => Dht; readonly self: PeerId }

export type WalkOptions = { readonly signal: AbortSignal }

type AnswerEvent = Extract<QueryEvent, { readonly name: 'PEER_RESPONSE' }>

export class Walker {
  readonly #deps: WalkerDeps
  readonly #timeoutMs: number
  #operations = 0

  constructor(deps: WalkerDeps, options: { readonly timeoutMs: number }) {
    this.#deps = deps
    this.#timeoutMs = options.timeoutMs
  }

  get operations(): number {
    return this.#operations
  }

  /**
   * Runs one operation within the configured time, as one of so many.
   * @throws KadError KAD_BUSY, KAD_TIMEOUT, KAD_NO_PEERS; the caller's reason where its signal aborts
   */
  async within<T>(given: AbortSignal | undefined, action: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const operation = this.begin(given)
    try {
      return await action(operation.signal)
    } catch (error) {
      throw operation.explain(error)
    } finally {
      operation.end()
    }
  }

  /** As `within`, for those who yield meanwhile. */
  begin(given: AbortSignal | undefined): {
    readonly signal: AbortSignal
    explain(error: unknown): unknown
    end(): void
  } {
    const { clock } = this.#deps
    given?.throwIfAborted()
    if (this.#operations >= OPERATIONS_MAX) {
      throw new KadError({ code: 'KAD_BUSY' }, 'the DHT has enough to do; wait for some of it to end')
    }
    this.#operations++
    const timeout = new AbortController()
    const timeoutMs = this.#timeoutMs
    const cancel = clock.after(timeoutMs, () => timeout.abort(new TimeoutError('an operation of the DHT', timeoutMs)))
    const signal = given === undefined ? timeout.signal : AbortSignal.any([timeout.signal, given])
    return {
      signal,
      explain: error => {
        if (error instanceof KadError) return error
        if (given?.aborted === true) return given.reason
        if (!timeout.signal.aborted) return error
        return timedOut(timeoutMs)
      },
      end: () => {
        // The signal is not aborted: leaving a walk ends its requests, and all others have been waited for.
        cancel()
        this.#operations--
      },
    }
  }

  /** Resolves when somebody is in the routing table. @throws KadError KAD_NO_PEERS when the signal aborts before */
  async peers(signal: AbortSignal): Promise<void> {
    const { routingTable } = this.#deps.dht()
    if (routingTable.size > 0) return
    const nobody = (): KadError =>
      new KadError({ code: 'KAD_NO_PEERS' }, 'nobody of the DHT is known; give a bootstrap node that runs')
    await new Promise<void>((resolve, reject) => {
      const onAdd = (): void => {
        routingTable.removeEventListener('peer:add', onAdd)
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = (): void => {
        routingTable.removeEventListener('peer:add', onAdd)
        reject(nobody())
      }
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      routingTable.addEventListener('peer:add', onAdd)
    })
  }

  /**
   * Asks peers ever closer to the key, and yields what they answer. kad-dht follows only those that are closer than who
   * named them, and so may end at one close peer that has not heard of the others: whoever is then among the k closest that
   * were named and has not been asked is asked as well.
   */
  async *walk(key: Uint8Array, type: MessageType, { signal }: WalkOptions): AsyncGenerator<Answer> {
    await this.peers(signal)
    const dht = this.#deps.dht()
    const route = new Route({ point: pointOf(key), k: dht.k, self: this.#deps.self.toString() })
    for (const id of dht.routingTable.closestPeers(route.point, { count: dht.k }))
      route.name({ id, multiaddrs: [] }, 0, -1)
    const step = (peer: PeerInfo, ofStep: AbortSignal, path: Path) =>
      dht.network.sendRequest(peer.id, { type, key }, { signal: ofStep, path, asker: route })
    const events = dht.queryManager.run(key, ({ peer, signal: ofStep, path }) => step(peer, ofStep, path), { signal })
    for await (const event of events) if (event.name === 'PEER_RESPONSE') yield route.answered(event)
    for (let next = route.next(); next.length > 0; next = route.next()) {
      signal.throwIfAborted()
      const answers = next.map(async ({ info, path }) => {
        for await (const event of step(info, signal, { ...NO_PATH, index: path })) {
          if (event.name === 'PEER_RESPONSE') return route.answered(event)
        }
        return undefined
      })
      for (const answer of await Promise.all(answers)) if (answer !== undefined) yield answer
    }
  }

  /**
   * The peers that answered, the closest to the key first. Where a share of the time is up before the walk is over, those
   * of the part that was walked, so that there is time to send them something.
   */
  async closest(key: Uint8Array, { signal }: WalkOptions): Promise<Answer[]> {
    const answers: Answer[] = []
    const share = new AbortController()
    const cancel = this.#deps.clock.after((this.#timeoutMs * WALK_PERCENT_MAX) / 100, () => share.abort())
    const shared = AbortSignal.any([signal, share.signal])
    try {
      for await (const answer of this.walk(key, 'FIND_NODE', { signal: shared })) answers.push(answer)
    } catch (error) {
      if (!shared.aborted) throw error
      // It is kad-dht's own error that comes here, which says nothing of the time.
      if (answers.length === 0) throw signal.aborted ? error : timedOut(this.#timeoutMs)
    } finally {
      cancel()
    }
    const point = pointOf(key)
    return answers
      .map(answer => ({ answer, at: pointOf(answer.from.toMultihash().bytes) }))
      .sort((a, b) => compareDistance(point, a.at, b.at))
      .map(({ answer }) => answer)
  }
}

function timedOut(timeoutMs: number): KadError {
  return new KadError({ code: 'KAD_TIMEOUT', timeoutMs }, `the DHT gave nothing within ${timeoutMs} ms`)
}

type Named = {
  readonly info: PeerInfo
  readonly at: Uint8Array
  readonly hops: number
  readonly path: number
}

/** What one walk knows: who was named by whom, and who was asked. */
class Route implements Asker {
  readonly point: Uint8Array
  readonly #k: number
  readonly #self: string
  readonly #named = new Map<string, Named>()
  readonly #asked = new Set<string>()
  readonly #answered = new Set<string>()

  constructor(options: { readonly point: Uint8Array; readonly k: number; readonly self: string }) {
    this.point = options.point
    this.#k = options.k
    this.#self = options.self
  }

  /** @param hops of who named the peer */
  name(info: PeerInfo, hops: number, path: number): void {
    const id = info.id.toString()
    if (id === this.#self || this.#named.has(id)) return
    this.#named.set(id, { info, at: pointOf(info.id.toMultihash().bytes), hops: hops + 1, path })
  }

  ask(peer: string): void {
    if (this.#asked.has(peer) || this.#asked.size >= LOOKUP_REQUESTS_MAX) throw refused('asked')
    this.#asked.add(peer)
  }

  answered({ from, path, closer, providers, record }: AnswerEvent): Answer {
    const id = from.toString()
    this.#answered.add(id)
    // One that came into the table after this walk had looked there.
    if (!this.#named.has(id)) this.name({ id: from, multiaddrs: [] }, 0, path.index)
    const hops = this.#named.get(id)?.hops ?? 1
    // More than the k closest is nobody's honest answer.
    for (const info of closer.slice(0, this.#k)) this.name(info, hops, path.index)
    return { from, path: path.index, hops, closer, providers, record }
  }

  /** Who is to be asked next, so that the k closest of those who answer are known. */
  next(): Named[] {
    if (this.#asked.size >= LOOKUP_REQUESTS_MAX) return []
    return [...this.#named]
      .filter(([id]) => this.#answered.has(id) || !this.#asked.has(id))
      .sort(([, a], [, b]) => compareDistance(this.point, a.at, b.at))
      .slice(0, this.#k)
      .filter(([id]) => !this.#asked.has(id))
      .slice(0, WALK_PARALLEL_MAX)
      .map(([, named]) => named)
  }
}
