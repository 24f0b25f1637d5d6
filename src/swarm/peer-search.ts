/**
 * Finds and dials peers for one model, as long as a pull of it is under way: nodes that are connected, nodes that the network
 * knows to have it, stock clients of the DHT, and whoever was given.
 */
import { type Clock, type Logger, messageOf, type Random, withDeadline } from '#base'
import { type Candidate, Candidates, partyOf } from './candidates.ts'
import { DialError } from './dialler.ts'
import { FIND_INTERVAL_MS, FIND_MS_MAX } from './limits.ts'
import type { SwarmDht } from './bittorrent/dht.ts'
import type { PeerAddress, SwarmBlame, SwarmDeps, SwarmHost } from './swarm-types.ts'
import { SHORT_HASH_BYTES } from './wire/protocol.ts'
import type { PeerSession } from './wire/types.ts'

export type PeerSearchDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly host: Pick<SwarmHost, 'id' | 'peers'>
  readonly findPeers: SwarmDeps['findPeers']
  readonly dht: SwarmDht | undefined
  /** A session that is to be started. */
  readonly dial: (address: PeerAddress, signal: AbortSignal) => Promise<PeerSession>
  readonly isBanned: (party: string) => boolean
  readonly isLinked: (party: string) => boolean
  readonly onBlame: (party: string, why: SwarmBlame) => void
  /** Takes a session that was dialled. @returns false: there is no place for it, and it is closed */
  readonly adopt: (session: PeerSession) => boolean
}

export class PeerSearch {
  readonly #deps: PeerSearchDeps
  /** Undefined where it is not known: then not all can be asked. */
  readonly #model: string | undefined
  readonly #infoHash: Uint8Array | undefined
  readonly #candidates: Candidates
  readonly #dialled = new WeakMap<PeerSession, Candidate>()
  readonly #tasks = new Set<Promise<void>>()
  #ending = new AbortController()
  #isOn = false
  #findAt = 0

  constructor(
    deps: PeerSearchDeps,
    about: { readonly model: string | undefined; readonly infoHash: Uint8Array | undefined },
  ) {
    this.#deps = deps
    this.#model = about.model
    this.#infoHash = about.infoHash
    this.#candidates = new Candidates(deps.random)
  }

  add(address: PeerAddress): void {
    if (partyOf(address) !== this.#deps.host.id) this.#candidates.add(address)
  }

  /** Begins to look, at once. */
  start(): void {
    if (!this.#isOn) this.#ending = new AbortController()
    this.#isOn = true
    this.#findAt = 0
  }

  /** Nobody is needed any more. */
  rest(): void {
    this.#isOn = false
    this.#ending.abort(new Error('nobody is needed any more'))
  }

  async stop(): Promise<void> {
    this.rest()
    while (this.#tasks.size > 0) await Promise.all(this.#tasks)
  }

  /** @param options.most sessions that there is room for */
  round(now: number, options: { readonly most: number }): void {
    if (!this.#isOn) return
    if (now >= this.#findAt) {
      this.#findAt = now + FIND_INTERVAL_MS
      this.#find()
    }
    const { isBanned, isLinked } = this.#deps
    const skips = (party: string): boolean => isBanned(party) || isLinked(party)
    const due = this.#candidates.due(now, { most: options.most, skips })
    for (const candidate of due) this.#own(this.#dial(candidate, this.#ending.signal))
  }

  get isDialling(): boolean {
    return this.#candidates.isDialling
  }

  /** A session has ended, whoever began it. */
  ended(session: PeerSession, outcome: { readonly isUseful: boolean }): void {
    const candidate = this.#dialled.get(session)
    if (candidate !== undefined) this.#candidates.ended(candidate, this.#deps.clock.monotonic(), outcome)
  }

  forget(party: string): void {
    this.#candidates.forget(party)
  }

  #find(): void {
    const { host, findPeers, dht } = this.#deps
    const { signal } = this.#ending
    const model = this.#model
    if (model !== undefined) {
      const serves = (peer: ReturnType<SwarmHost['peers']>[number]): boolean =>
        peer.offer.stages.some(stage => stage.model === model)
      // Those who serve it have some of it for certain; of the others each may have it, and says so when it is asked.
      const connected = [...host.peers()].sort((a, b) => Number(serves(b)) - Number(serves(a)))
      for (const { id } of connected) this.add({ kind: 'koinon', peer: id, addresses: [] })
      if (findPeers !== undefined) {
        this.#search('nodes', signal, async signal => {
          for await (const found of findPeers(model, { signal })) this.add({ kind: 'koinon', ...found })
        })
      }
    }
    const infoHash = this.#infoHash
    if (dht !== undefined && infoHash !== undefined) {
      this.#search('BitTorrent clients', signal, async signal => {
        for await (const { host, port } of dht.getPeers(infoHash.subarray(0, SHORT_HASH_BYTES), { signal })) {
          this.add({ kind: 'bittorrent', host, port })
        }
      })
    }
  }

  #search(what: string, signal: AbortSignal, task: (signal: AbortSignal) => Promise<void>): void {
    const deadline = { what: `looking for ${what} with a model`, timeoutMs: FIND_MS_MAX, signal }
    const search = withDeadline(this.#deps.clock, deadline, task).catch((error: unknown) => {
      this.#deps.log.debug('a search for peers ended', { what, error: messageOf(error) })
    })
    this.#own(search)
  }

  async #dial(candidate: Candidate, signal: AbortSignal): Promise<void> {
    const { clock, log, dial, adopt, onBlame } = this.#deps
    try {
      const session = await dial(candidate.address, signal)
      this.#dialled.set(session, candidate)
      this.#candidates.connected(candidate)
      // One that was not taken gave way to another with the same peer, so the peer is not to be forgotten.
      if (!adopt(session)) this.#candidates.ended(candidate, clock.monotonic(), { isUseful: true })
    } catch (error) {
      log.debug('a peer could not be reached for a model', { party: candidate.party, error: messageOf(error) })
      this.#candidates.ended(candidate, clock.monotonic(), { isUseful: false })
      if (error instanceof DialError && error.isToBlame) onBlame(candidate.party, 'malformed')
    }
  }

  /** @param task never rejects */
  #own(task: Promise<void>): void {
    const owned = task.finally(() => this.#tasks.delete(owned))
    this.#tasks.add(owned)
  }
}
