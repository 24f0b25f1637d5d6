/**
 * Kademlia on one libp2p node: kad-dht's walks, table and server, with our stores, gate, limits and upkeep around them.
 * Before libp2p has called `mount` there is nothing to work with, and every operation says so.
 */
import type { Startable } from '@libp2p/interface'
import { type Random, repeat, sleep, uniform } from '#base'
import { decodeAddress, decodePeer } from './address-book.ts'
import { bootstrap } from './bootstrap.ts'
import { bucketCount, tablePeers } from './dht.ts'
import { KadError, keyInvalid } from './errors.ts'
import { REPUBLISH_MS, RESTORED_DELAY_MS, SELF_LOOKUP_PERIOD_MS, UPKEEP_MS, UPKEEP_PINGS_MAX } from './limits.ts'
import { mountParts, type Parts } from './parts.ts'
import { multihashOf } from './providing.ts'
import type {
  FoundPeer,
  GetResult,
  Kad,
  KadComponents,
  KadDeps,
  KadOptions,
  KadStatus,
  ProvideResult,
  PutResult,
  SignalOptions,
} from './types.ts'

type Running = { readonly parts: Parts; readonly stopping: AbortController; readonly loops: Promise<unknown> }

/** Makes Kademlia for one libp2p node; it works once libp2p has mounted and started it. */
export function createKad(deps: KadDeps, options: KadOptions = {}): Kad {
  return new MountedKad(deps, options)
}

class MountedKad implements Kad {
  readonly #deps: KadDeps
  readonly #options: KadOptions
  #mounted: Parts | undefined
  #running: Running | undefined

  constructor(deps: KadDeps, options: KadOptions) {
    this.#deps = deps
    this.#options = options
  }

  readonly mount = (components: KadComponents): Startable => {
    const parts = mountParts(components, this.#deps, this.#options)
    this.#mounted = parts
    return { start: () => this.#start(parts), stop: () => this.#stop() }
  }

  async put(bytes: Uint8Array, { signal, quorum = 1 }: SignalOptions & { quorum?: number } = {}): Promise<PutResult> {
    const { records, own, values } = this.#parts()
    const signed = records.inspect(bytes)
    const held = signed instanceof KadError ? signed : records.hold(signed.key, bytes)
    if (held instanceof KadError) throw held
    own.addRecord(held)
    return await values.put(held, { ...this.#bounded(signal), quorum })
  }

  async get(key: string, { signal }: SignalOptions = {}): Promise<GetResult> {
    return await this.#parts().values.get(key, this.#bounded(signal))
  }

  forget(key: string | Uint8Array): void {
    this.#parts().own.forget(key)
  }

  async provide(key: Uint8Array, { signal }: SignalOptions = {}): Promise<ProvideResult> {
    const { own, providing } = this.#parts()
    multihashOf(key)
    own.addProvided(key)
    return await providing.provide(key, this.#bounded(signal))
  }

  findProviders(key: Uint8Array, { signal }: SignalOptions = {}): AsyncIterable<FoundPeer> {
    return this.#parts().providing.find(key, this.#bounded(signal))
  }

  async findPeer(peer: string, { signal }: SignalOptions = {}): Promise<FoundPeer> {
    return await findPeer(this.#parts(), peer, this.#bounded(signal))
  }

  async closestPeers(key: string | Uint8Array, { signal }: SignalOptions = {}): Promise<FoundPeer[]> {
    return await closestPeers(this.#parts(), key, this.#bounded(signal))
  }

  async bootstrap(nodes: readonly string[], options: SignalOptions & { rounds?: number } = {}): Promise<number> {
    const { dht, addresses } = this.#parts()
    const { clock, random } = this.#deps
    const given = this.#bounded(options.signal)
    const rounds = options.rounds === undefined ? {} : { rounds: options.rounds }
    return await bootstrap({ clock, random, dht: () => dht, addresses }, nodes, { ...given, ...rounds })
  }

  addPeer(peer: string, addresses: readonly string[] = []): void {
    const parts = this.#parts()
    const id = decodePeer(peer)
    if (id === undefined) return
    parts.addresses.told(
      id,
      addresses.flatMap(text => decodeAddress(text) ?? []),
    )
    // A newcomer that does not answer, or may not enter, is none: kad-dht says so to nobody.
    parts.dht.routingTable.add(id, this.#bounded(undefined)).catch(() => undefined)
  }

  async removePeer(peer: string): Promise<void> {
    const id = decodePeer(peer)
    if (id !== undefined) await this.#parts().dht.routingTable.remove(id)
  }

  async setMode(mode: 'client' | 'server'): Promise<void> {
    await this.#parts().dht.setMode(mode)
  }

  status(): KadStatus {
    return statusOf(this.#mounted, this.#running !== undefined)
  }

  #parts(): Parts {
    if (this.#running === undefined) throw new KadError({ code: 'KAD_STOPPED' }, 'the DHT is not running')
    return this.#running.parts
  }

  /** The caller's signal, and the end of all. */
  #bounded(signal: AbortSignal | undefined): { readonly signal: AbortSignal } {
    const ours = this.#running?.stopping.signal ?? AbortSignal.abort()
    return { signal: signal === undefined ? ours : AbortSignal.any([signal, ours]) }
  }

  async #start(parts: Parts): Promise<void> {
    if (this.#running !== undefined) return
    const stopping = new AbortController()
    const { signal } = stopping
    const upkeep = repeat(this.#deps.clock, () => keepUp(parts, signal), { periodMs: UPKEEP_MS, signal })
    const lookups = repeat(this.#deps.clock, () => refresh(parts, this.#deps.random, signal), {
      periodMs: SELF_LOOKUP_PERIOD_MS,
      signal,
    })
    const loops = Promise.all([upkeep, lookups, republish(parts, this.#deps, { ...this.#options, signal })])
    this.#running = { parts, stopping, loops }
    await parts.dht.start()
  }

  async #stop(): Promise<void> {
    if (this.#running === undefined) return
    const { parts, stopping, loops } = this.#running
    this.#running = undefined
    stopping.abort(new KadError({ code: 'KAD_STOPPED' }, 'the DHT is stopped'))
    parts.sender.stop()
    await parts.dht.stop()
    await loops
  }
}

async function findPeer(parts: Parts, peer: string, options: { readonly signal: AbortSignal }): Promise<FoundPeer> {
  const id = decodePeer(peer)
  if (id === undefined) throw keyInvalid()
  const { dht, walker, providing, addresses } = parts
  if ((await dht.routingTable.find(id)) !== undefined) {
    return providing.foundPeer({ id, multiaddrs: await addresses.addressesOf(id) }, 0)
  }
  return await walker.within(options.signal, async signal => {
    for await (const { closer, hops } of walker.walk(id.toMultihash().bytes, 'FIND_NODE', { signal })) {
      const named = closer.find(info => info.id.equals(id) && info.multiaddrs.length > 0)
      if (named !== undefined) return providing.foundPeer(named, hops)
    }
    throw new KadError({ code: 'KAD_NOT_FOUND' }, 'nobody in the DHT knows that peer')
  })
}

async function closestPeers(
  { walker, providing, addresses }: Parts,
  key: string | Uint8Array,
  options: { readonly signal: AbortSignal },
): Promise<FoundPeer[]> {
  const bytes = typeof key === 'string' ? new TextEncoder().encode(key) : key
  const answers = await walker.within(options.signal, signal => walker.closest(bytes, { signal }))
  const peers = answers.map(async ({ from, hops }) =>
    providing.foundPeer({ id: from, multiaddrs: await addresses.addressesOf(from) }, hops),
  )
  return await Promise.all(peers)
}

/** Forgets what has expired, and pings the peers that were not heard of for longest. */
async function keepUp({ dht, records, providers, liveness, ping }: Parts, signal: AbortSignal): Promise<void> {
  records.sweep()
  providers.sweep()
  const quietest = liveness.quietest(
    tablePeers(dht).map(({ peerId }) => peerId),
    UPKEEP_PINGS_MAX,
  )
  await Promise.all(quietest.map(peer => ping(peer, { signal })))
}

/** Looks for the node's own neighbours and into a part of the table by chance. Newcomers enter the table by what is said. */
async function refresh({ walker, self, dht }: Parts, random: Random, signal: AbortSignal): Promise<void> {
  if (dht.routingTable.size === 0) return
  for (const key of [self.toMultihash().bytes, random.bytes(32)]) {
    await walker.within(signal, ofWalk => walker.closest(key, { signal: ofWalk })).catch(() => undefined) // The next will do.
  }
}

/** Announces what is our own, again and again: soon where it was restored, and never on the stroke. */
async function republish(
  { own, values, providing }: Parts,
  deps: { readonly clock: KadDeps['clock']; readonly random: Random; readonly log: KadDeps['log'] },
  { republishMs = REPUBLISH_MS, signal }: { readonly republishMs?: number; readonly signal: AbortSignal },
): Promise<void> {
  const isRestored = own.recordCount + own.providedCount > 0
  const given: SignalOptions = { signal }
  for (let waitMs = isRestored ? RESTORED_DELAY_MS : republishMs; ; waitMs = republishMs) {
    try {
      await sleep(deps.clock, waitMs * (0.9 + uniform(deps.random) / 5), given)
    } catch {
      return // The only way that sleep() rejects is the signal: the loop is over, as asked.
    }
    let failures = 0
    const failed = (): void => void failures++
    for (const record of own.records()) await values.put(record, { ...given, quorum: 1 }).catch(failed)
    for (const key of own.provided()) {
      own.addProvided(key)
      await providing.provide(key, given).catch(failed)
    }
    if (failures > 0) deps.log.warn('not all of our own could be announced again', { failures })
  }
}

function statusOf(parts: Parts | undefined, isRunning: boolean): KadStatus {
  return {
    isRunning,
    mode: parts?.dht.getMode() ?? 'client',
    peers: parts?.dht.routingTable.size ?? 0,
    buckets: parts === undefined ? 0 : bucketCount(parts.dht),
    records: parts?.records.count ?? 0,
    providedKeys: parts?.providers.count ?? 0,
    ownRecords: parts?.own.recordCount ?? 0,
    ownProvided: parts?.own.providedCount ?? 0,
    operations: parts?.walker.operations ?? 0,
  }
}
