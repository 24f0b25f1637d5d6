/** Providers: who has what a key names. The key is 32 bytes of SHA-256, and libp2p carries it as a multihash. */
import type { PeerId, PeerInfo } from '@libp2p/interface'
import { concatBytes } from '#base'
import { SHA256_BYTES } from '#crypto'
import type { AddressBook } from './address-book.ts'
import { decodePeer } from './address-book.ts'
import { toBase32 } from './datastore.ts'
import { type Dht, NO_PATH } from './dht.ts'
import { keyInvalid } from './errors.ts'
import { PROVIDERS_FOUND_MAX, PROVIDERS_PER_ANSWER_MAX, STORES_PARALLEL_MAX } from './limits.ts'
import type { ProviderBook } from './provider-book.ts'
import { forEachLimited } from './sender.ts'
import type { FoundPeer, ProvideResult, SignalOptions } from './types.ts'
import type { Walker } from './walk.ts'

/** Code and size of a SHA-256 multihash. */
const SHA256_MULTIHASH = Uint8Array.of(0x12, SHA256_BYTES)

export type ProvidingDeps = {
  readonly walker: Walker
  readonly providers: ProviderBook
  readonly addresses: AddressBook
  readonly dht: () => Dht
  readonly self: PeerId
}

/** @throws KadError KAD_KEY_INVALID */
export function multihashOf(key: Uint8Array): Uint8Array {
  if (key.byteLength !== SHA256_BYTES) throw keyInvalid()
  return concatBytes([SHA256_MULTIHASH, key])
}

export class Providing {
  readonly #deps: ProvidingDeps
  readonly #holdersMax: number

  constructor(deps: ProvidingDeps, options: { readonly holders: number }) {
    this.#deps = deps
    this.#holdersMax = options.holders
  }

  /** Tells the closest peers and their siblings. */
  async provide(key: Uint8Array, options: SignalOptions): Promise<ProvideResult> {
    const { walker, addresses, self, dht } = this.#deps
    const multihash = multihashOf(key)
    return await walker.within(options.signal, async signal => {
      const own = (await addresses.addressesOf(self)).map(address => address.bytes)
      const providers = [{ id: self.toMultihash().bytes, multiaddrs: own }]
      const message = { type: 'ADD_PROVIDER', key: multihash, providers } as const
      const targets = (await walker.closest(multihash, { signal })).slice(0, this.#holdersMax)
      let sent = 0
      await forEachLimited(targets, STORES_PARALLEL_MAX, async ({ from }) => {
        for await (const event of dht().network.sendMessage(from, message, { signal, path: NO_PATH })) {
          if (event.name === 'PEER_RESPONSE') sent++
        }
      }).catch((error: unknown) => {
        // What was written before the time was up counts.
        if (!signal.aborted) throw error
      })
      return { sent }
    })
  }

  /** Those that this node holds first, then those that others name. */
  async *find(key: Uint8Array, options: SignalOptions): AsyncGenerator<FoundPeer> {
    const { walker, providers, addresses, self } = this.#deps
    const multihash = multihashOf(key)
    const found = new Set<string>([self.toString()])
    const operation = walker.begin(options.signal)
    try {
      for (const peer of providers.find(toBase32(multihash))) {
        const id = decodePeer(peer)
        if (id === undefined || found.has(peer)) continue
        found.add(peer)
        yield { peer, addresses: textsOf(await addresses.addressesOf(id)), hops: 0 }
      }
      for await (const { providers: named, hops } of walker.walk(multihash, 'GET_PROVIDERS', operation)) {
        for (const info of named.slice(0, PROVIDERS_PER_ANSWER_MAX)) {
          const peer = info.id.toString()
          if (found.has(peer)) continue
          if (found.size > PROVIDERS_FOUND_MAX) return
          found.add(peer)
          yield this.foundPeer(info, hops)
        }
      }
    } catch (error) {
      // Who got something has got all that came in time.
      if (found.size === 1 || !operation.signal.aborted || options.signal?.aborted === true)
        throw operation.explain(error)
    } finally {
      operation.end()
    }
  }

  /** A peer as it is given to the caller: addresses that may be dialled only. */
  foundPeer({ id, multiaddrs }: PeerInfo, hops: number): FoundPeer {
    return { peer: id.toString(), addresses: textsOf(this.#deps.addresses.acceptable(multiaddrs)), hops }
  }
}

function textsOf(addresses: readonly { toString(): string }[]): string[] {
  return addresses.map(address => address.toString())
}
