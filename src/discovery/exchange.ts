/**
 * The exchange right after two nodes have met, and now and then while they stay: who each is, then up to 50 peers that
 * the other does not know. One side opens the stream; both say the same two things in the same order. No state but the
 * counters: what was heard is handed over once all of it has been checked.
 */
import { abortError, type ByteStream, type Clock, type Random, withDeadline } from '#base'
import { isFault, type PeerFault } from './errors.ts'
import {
  decodeHello,
  decodePeers,
  encodeHello,
  encodePeers,
  type ExchangeHello,
  type ToldPeer,
} from './exchange-messages.ts'
import { createKnownFilter, FILTER_SALT_BYTES, isKnownTo } from './known-filter.ts'
import type { KnownPeer } from './known-peers.ts'
import { EXCHANGE_HELLO_BYTES_MAX, EXCHANGE_MS_MAX, EXCHANGE_PEERS_BYTES_MAX, EXCHANGE_PEERS_MAX } from './limits.ts'
import { MessageStream } from './messages.ts'

/** What a node says of itself, but for whom it knows. */
export type OwnIdentity = Omit<ExchangeHello, 'filter' | 'record'> & { readonly record?: Uint8Array }

export type ExchangeDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly identity: () => OwnIdentity
  /** Whom we know, ourselves not among them. */
  readonly known: () => readonly KnownPeer[]
  /** Ids of the peers that are connected. */
  readonly connected: () => ReadonlySet<string>
}

export type ExchangeOptions = {
  /** @default 50, which is also the most */
  readonly peersMax?: number
}

/** What one exchange brought, all of it checked. */
export type Exchanged = {
  readonly hello: ExchangeHello
  readonly told: readonly ToldPeer[]
  readonly sentPeers: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

/**
 * Runs one exchange, on either side of the stream, and closes it.
 * @returns what the peer did wrong, where it did
 * @throws StreamError, TimeoutError, the signal's reason: nobody's fault
 */
export async function exchange(
  deps: ExchangeDeps,
  stream: ByteStream,
  options: ExchangeOptions & { readonly signal: AbortSignal },
): Promise<Exchanged | PeerFault> {
  const deadline = { what: 'an exchange of peers', timeoutMs: EXCHANGE_MS_MAX, signal: options.signal }
  try {
    const outcome = await withDeadline(deps.clock, deadline, () => converse(deps, stream, options))
    if (isFault(outcome)) stream.abort(new Error(outcome.what))
    else await stream.close()
    return outcome
  } catch (error) {
    stream.abort(error instanceof Error ? error : abortError(options.signal))
    throw error
  }
}

async function converse(
  deps: ExchangeDeps,
  stream: ByteStream,
  options: ExchangeOptions,
): Promise<Exchanged | PeerFault> {
  const { clock, random } = deps
  const messages = new MessageStream(stream, Math.max(EXCHANGE_HELLO_BYTES_MAX, EXCHANGE_PEERS_BYTES_MAX))
  const identity = deps.identity()
  const filter = createKnownFilter(
    wellKnown(deps.known(), identity.wantsRecords, clock.now()).map(({ publicKey }) => publicKey),
    random.bytes(FILTER_SALT_BYTES),
  )
  await messages.send(encodeHello({ ...identity, filter }))
  const first = await messages.next()
  if (first === undefined || isFault(first)) return first ?? early()
  const hello = decodeHello(first, stream.peer, clock.now())
  if (isFault(hello)) return hello
  // Nodes of another topic are no business of ours, nor we of theirs; they may be peers all the same.
  const wanted = hello.topic === identity.topic ? choosePeers(deps, hello, stream.peer) : []
  const { bytes: list, count } = encodePeers(wanted, options.peersMax ?? EXCHANGE_PEERS_MAX)
  await messages.send(list)
  const second = await messages.next()
  if (second === undefined || isFault(second)) return second ?? early()
  const told = decodePeers(second, clock.now())
  if (isFault(told)) return told
  return {
    hello,
    told: hello.topic === identity.topic ? told : [],
    sentPeers: count,
    sentBytes: messages.sentBytes,
    receivedBytes: messages.receivedBytes,
  }
}

/** Those whom nobody need tell us of: with records only, where records are what we dial by. */
function wellKnown(peers: readonly KnownPeer[], wantsRecords: boolean, now: number): readonly KnownPeer[] {
  return wantsRecords ? peers.filter(({ record }) => record !== undefined && record.expiresAt > now) : peers
}

/** Whom the other lacks: those connected to us first, then in any order, so that news is not always the same. */
function choosePeers(deps: ExchangeDeps, hello: ExchangeHello, receiver: string): ToldPeer[] {
  const now = deps.clock.now()
  const connected = deps.connected()
  const lacking = deps.known().filter(({ peer, publicKey, record }) => {
    if (peer === receiver || isKnownTo(hello.filter, publicKey)) return false
    return !hello.wantsRecords || (record !== undefined && record.expiresAt > now)
  })
  const ranked = lacking.map(peer => ({ peer, rank: (connected.has(peer.peer) ? 0 : 2 ** 32) + deps.random.uint32() }))
  return ranked
    .sort((a, b) => a.rank - b.rank)
    .slice(0, EXCHANGE_PEERS_MAX)
    .map(({ peer: { publicKey, dhtNodeId, isRelay, lastSeen, record, peer } }) => ({
      publicKey,
      isRelay,
      ageMs: connected.has(peer) ? 0 : Math.max(0, now - lastSeen),
      ...(dhtNodeId === undefined ? {} : { dhtNodeId }),
      ...(record === undefined || !hello.wantsRecords ? {} : { record }),
    }))
}

function early(): PeerFault {
  return { code: 'DISCOVERY_MALFORMED', what: 'an exchange that ended before it was over' }
}
