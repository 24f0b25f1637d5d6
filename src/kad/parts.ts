/** Builds the parts of one mounted Kademlia and ties them to one another. */
import type { PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { PROTOCOLS } from '#wire'
import { AddressBook, decodeAddress } from './address-book.ts'
import { wrapComponents } from './components.ts'
import { DATASTORE_PREFIX, KadDatastore } from './datastore.ts'
import { createDht, type Dht } from './dht.ts'
import { pointOf } from './distance.ts'
import { HandOver } from './hand-over.ts'
import * as limits from './limits.ts'
import { Liveness } from './liveness.ts'
import { Newcomers } from './newcomers.ts'
import { OwnEntries } from './own-entries.ts'
import { ProviderBook } from './provider-book.ts'
import { Providing } from './providing.ts'
import { KEY_NAMESPACE } from './record.ts'
import { latestOf, RecordBook } from './record-book.ts'
import { RequestRates } from './request-rates.ts'
import { Sender } from './sender.ts'
import { TableGuard } from './table-guard.ts'
import type { KadComponents, KadDeps, KadOptions } from './types.ts'
import { Values } from './values.ts'
import { Walker } from './walk.ts'
import { KadError } from './errors.ts'

export type Parts = {
  readonly self: PeerId
  readonly dht: Dht
  readonly records: RecordBook
  readonly providers: ProviderBook
  readonly addresses: AddressBook
  readonly own: OwnEntries
  readonly walker: Walker
  readonly sender: Sender
  readonly values: Values
  readonly providing: Providing
  readonly liveness: Liveness
  /** Asks whether a peer is there; whoever is not leaves the table in time. Never rejects. */
  readonly ping: (peer: PeerId, options: { readonly signal: AbortSignal }) => Promise<void>
}

export function mountParts(host: KadComponents, deps: KadDeps, options: KadOptions): Parts {
  const { clock, store, gate = {} } = deps
  const self = pointOf(host.peerId.toMultihash().bytes)
  const timeoutMs = options.timeoutMs ?? limits.OPERATION_MS
  const bucket = options.bucketSize ?? limits.BUCKET_PEERS_MAX
  const holders = Math.min(bucket, (options.replicas ?? limits.REPLICAS) + (options.siblings ?? limits.SIBLINGS))
  const lifeMs = options.providerLifeMs ?? limits.PROVIDER_LIFE_MS
  const kinds = new Set(options.kinds ?? ['peer'])
  // Each of the parts asks for the library only once it works, and the library needs the parts when it is made.
  const dht = (): Dht => made
  const ownAddresses = () =>
    deps.addresses?.().flatMap(text => decodeAddress(text) ?? []) ?? host.addressManager.getAddresses()
  const addresses = bookOf(host, deps, ownAddresses)
  const records = new RecordBook({ clock, store, self, kinds })
  const providers = new ProviderBook({ clock, store, self, lifeMs })
  const datastore = new KadDatastore({ records, providers, addresses })
  const guard = new TableGuard({ dht, self }, tableLimits(options, bucket))
  const rates = new RequestRates({ clock }, rateOptions(options))
  const liveness = new Liveness({ clock, onDead: peer => void dht().routingTable.remove(peer) }) // Removing never fails.
  const components = wrapComponents(
    {
      clock,
      host,
      gate,
      addresses,
      datastore,
      guard,
      rates,
      ownAddresses,
      onAnswer: (peer, isAnswered) => liveness.heard(peer, isAnswered),
    },
    { isLocalExempt: options.table?.isLocalExempt ?? true, requestMs: timeoutMs / 5, serveMs: timeoutMs },
  )
  const made = createDht(components, libraryOptions({ records, addresses, options, timeoutMs, bucket }))
  const sender = new Sender({ dht })
  const handOver = new HandOver({ dht, records, self, send: (to, record) => sender.enqueue(to, record) }, { holders })
  listen(made, { guard, liveness, handOver, addresses, newcomers: new Newcomers({ clock }) })
  const walker = new Walker({ clock, dht, self: host.peerId }, { timeoutMs })
  return {
    self: host.peerId,
    dht: made,
    records,
    providers,
    addresses,
    own: new OwnEntries({ clock, store }),
    walker,
    sender,
    values: new Values({ walker, records, sender }, { holders }),
    providing: new Providing({ walker, providers, addresses, dht, self: host.peerId }, { holders }),
    liveness,
    ping: async (peer, given) => {
      await components.ping.ping(peer, given).catch(() => {
        if (!given.signal.aborted) liveness.heard(peer, false)
      })
    },
  }
}

type Listeners = {
  readonly guard: TableGuard
  readonly liveness: Liveness
  readonly handOver: HandOver
  readonly addresses: AddressBook
  readonly newcomers: Newcomers
}

/** What the library says, to whom it matters. */
function listen(dht: Dht, { guard, liveness, handOver, addresses, newcomers }: Listeners): void {
  const onPeerConnect = dht.onPeerConnect.bind(dht)
  dht.onPeerConnect = async peer => {
    const id = peer.id.toString()
    if (!guard.has(id) && newcomers.tries(id)) await onPeerConnect(peer)
  }
  dht.routingTable.addEventListener('peer:add', ({ detail }) => {
    liveness.entered(detail)
    handOver.joined(detail)
  })
  dht.routingTable.addEventListener('peer:remove', ({ detail }) => {
    guard.left(detail.toString())
    liveness.left(detail)
    handOver.left(detail)
  })
  dht.addEventListener('peer', ({ detail }) => addresses.heard(detail.id, detail.multiaddrs))
}

function bookOf(host: KadComponents, deps: KadDeps, ownAddresses: () => Multiaddr[]): AddressBook {
  const { clock, store, gate = {} } = deps
  return new AddressBook({
    clock,
    store,
    self: host.peerId,
    ownAddresses,
    hostAddresses: peer => addressesOfHost(host, peer),
    accepts: gate.acceptsAddress ?? (() => true),
    protocol: PROTOCOLS.kad,
  })
}

type LibraryParts = {
  readonly records: RecordBook
  readonly addresses: AddressBook
  readonly options: KadOptions
  readonly timeoutMs: number
  readonly bucket: number
}

/** The longest that a timer of Node can wait: the library's own republishing and expiry are not used. */
const NEVER_MS = 2 ** 31 - 1

function libraryOptions({ records, addresses, options, timeoutMs, bucket }: LibraryParts) {
  const requestMs = timeoutMs / 5
  const requestTimeout = { minTimeout: requestMs, maxTimeout: requestMs }
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
  return {
    protocol: PROTOCOLS.kad,
    datastorePrefix: DATASTORE_PREFIX,
    logPrefix: 'koinon:kad',
    clientMode: options.mode === 'client',
    kBucketSize: bucket,
    prefixLength: options.prefixBits ?? limits.TABLE_PREFIX_BITS,
    alpha: options.parallel ?? limits.LOOKUP_PARALLEL_MAX,
    disjointPaths: options.disjointPaths ?? limits.DISJOINT_PATHS,
    initialQuerySelfInterval: options.selfLookupDelayMs ?? limits.SELF_LOOKUP_DELAY_MS,
    // The first look-up for neighbours is the library's, as its queries wait for that; the others are ours.
    querySelfInterval: NEVER_MS,
    networkDialTimeout: requestTimeout,
    pingNewContactTimeout: requestTimeout,
    pingOldContactTimeout: requestTimeout,
    pingNewContactConcurrency: limits.NEWCOMERS_CHECKED_MAX,
    pingNewContactMaxQueueSize: limits.NEWCOMERS_WAITING_MAX,
    pingOldContactConcurrency: limits.NEWCOMERS_CHECKED_MAX,
    pingOldContactMaxQueueSize: limits.NEWCOMERS_WAITING_MAX,
    routingTableUpdateQueueConcurrency: limits.NEWCOMERS_CHECKED_MAX,
    routingTableUpdateMaxQueueSize: limits.NEWCOMERS_WAITING_MAX,
    onPeerConnectTimeout: timeoutMs,
    maxInboundStreams: limits.STREAMS_PER_CONNECTION_MAX,
    maxOutboundStreams: limits.STREAMS_PER_CONNECTION_MAX,
    reprovide: { interval: NEVER_MS, threshold: 0, validity: NEVER_MS },
    peerInfoMapper: (peer: Parameters<NonNullable<Mapper>>[0]) => ({
      ...peer,
      multiaddrs: addresses.acceptable(peer.multiaddrs),
    }),
    validators: {
      // The library's own kind of record, which nobody here uses.
      pk: refusePublicKeys,
      [KEY_NAMESPACE]: (key: Uint8Array, value: Uint8Array) => {
        const checked = records.check(text(key), value)
        if (checked instanceof KadError) throw checked
      },
    },
    selectors: {
      [KEY_NAMESPACE]: (_key: Uint8Array, values: Uint8Array[]) => {
        const latest = latestOf(
          values.flatMap(value => {
            const signed = records.inspect(value)
            return signed instanceof KadError ? [] : [signed]
          }),
        )
        return Math.max(
          0,
          values.findIndex(value => value === latest?.bytes),
        )
      },
    },
  }
}

type Mapper = NonNullable<Parameters<typeof createDht>[1]>['peerInfoMapper']

function refusePublicKeys(): void {
  throw new KadError({ code: 'KAD_KEY_INVALID' }, 'public keys are not kept in this DHT')
}

function tableLimits({ table = {} }: KadOptions, bucket: number) {
  return {
    table: table.peers ?? limits.TABLE_PEERS_MAX,
    groupInTable: table.peersOfGroup ?? limits.TABLE_GROUP_PEERS_MAX,
    groupInBucket: table.peersOfGroupInBucket ?? limits.BUCKET_GROUP_PEERS_MAX,
    bucket,
  }
}

function rateOptions({ rate }: KadOptions) {
  return rate ?? { tokensMax: limits.PEER_TOKENS_MAX, perSecond: limits.PEER_TOKENS_PER_SECOND }
}

/** What libp2p itself has learnt by identify. */
async function addressesOfHost({ peerStore }: KadComponents, peer: PeerId) {
  try {
    return (await peerStore.get(peer)).addresses.map(address => address.multiaddr)
  } catch {
    return [] // libp2p does not know the peer.
  }
}
