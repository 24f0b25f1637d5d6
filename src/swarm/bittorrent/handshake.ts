/**
 * The handshake with a stock client (BEP 3): `19 | "BitTorrent protocol" | 8 reserved bytes | info-hash | peer id`. Models are
 * v2-only torrents, so the info-hash is the first 20 bytes of the v2 one (BEP 52). Plain TCP: libtorrent takes and makes
 * unencrypted connections unless its owner forbids them.
 */
import { concatBytes } from '#base'
import { equalInConstantTime } from '#crypto'
import type { WireFault } from '../wire/errors.ts'
import { isFault, lost, malformed } from '../wire/faults.ts'
import type { Inlet } from '../wire/inlet.ts'
import { STOCK_REQUEST_BYTES_MAX } from '../wire/limits.ts'
import { negotiated } from '../wire/negotiate.ts'
import { createPeerSession } from '../wire/session.ts'
import type { BytePipe, PeerSession, SessionDeps, SessionOptions } from '../wire/types.ts'
import { partyOfHost } from './host-group.ts'

const INFO_HASH_BYTES = 20
const PEER_ID_BYTES = 20
const RESERVED_BYTES = 8
const PROTOCOL = concatBytes([Uint8Array.of(19), new TextEncoder().encode('BitTorrent protocol')])
/** Our name among stock clients: Azureus style, version 0.2. */
const PEER_ID_PREFIX = new TextEncoder().encode('-KN0200-')

/** Bits of the reserved bytes: [byte, mask]. */
const EXTENSION_BIT = [5, 0x10] as const
const FAST_BIT = [7, 0x04] as const
/** Says that a hybrid torrent's v2 half is known. For a v2-only one it says what is so anyway; libtorrent sets it too. */
const V2_BIT = [7, 0x10] as const

/** Who this side is, and who is at the other end. */
export type StockParty = {
  readonly pipe: BytePipe
  /** Its IP address. */
  readonly host: string
  /** 20 bytes, of this side. */
  readonly peerId: Uint8Array
}

type Theirs = { readonly reserved: Uint8Array; readonly infoHash: Uint8Array }

/** @param randomBytes 12 of them: a peer id says nothing about who a node is */
export function peerIdOf(randomBytes: Uint8Array): Uint8Array {
  return concatBytes([PEER_ID_PREFIX, randomBytes])
}

/** As the side that made the connection. Never rejects; where it fails the connection is over. */
export function openStockSession(
  deps: SessionDeps,
  party: StockParty,
  options: SessionOptions & { readonly infoHash: Uint8Array },
): Promise<PeerSession | WireFault> {
  return negotiated(deps.clock, party.pipe, async inlet => {
    party.pipe.send(handshakeOf(options.infoHash, party.peerId))
    const theirs = await readFirstHalf(inlet)
    if (isFault(theirs)) return theirs
    if (!equalInConstantTime(theirs.infoHash, options.infoHash)) return malformed('an answer about another torrent')
    return sessionWith(deps, { party, theirs, inlet }, options)
  })
}

/**
 * As the side that was connected to. Never rejects; where it fails the connection is over.
 * @param find by the truncated info-hash; undefined where there is no such torrent here
 */
export function acceptStockSession(
  deps: SessionDeps,
  party: StockParty,
  find: (infoHash: Uint8Array) => SessionOptions | undefined,
): Promise<{ readonly session: PeerSession; readonly infoHash: Uint8Array } | WireFault> {
  return negotiated(deps.clock, party.pipe, async inlet => {
    const theirs = await readFirstHalf(inlet)
    if (isFault(theirs)) return theirs
    const options = find(theirs.infoHash)
    if (options === undefined) {
      return { code: 'SWARM_UNKNOWN_MODEL', blame: 'nobody', what: 'a connection about a torrent that is not here' }
    }
    // The other side tells its peer id only once it has ours: some connect to learn just that.
    party.pipe.send(handshakeOf(theirs.infoHash, party.peerId))
    const session = await sessionWith(deps, { party, theirs, inlet }, options)
    return isFault(session) ? session : { session, infoHash: theirs.infoHash }
  })
}

/** What stands before the peer id, so that whoever was connected to can look before it answers. */
async function readFirstHalf(inlet: Inlet): Promise<Theirs | WireFault> {
  const protocol = await inlet.take(PROTOCOL.byteLength)
  if (protocol === undefined) return lost('the connection ended before a handshake')
  // An encrypted handshake looks like this. libtorrent tries that first, and again without when it is cut off: no blame.
  if (!equalInConstantTime(protocol, PROTOCOL)) return { ...malformed('no handshake of BitTorrent'), blame: 'nobody' }
  const rest = await inlet.take(RESERVED_BYTES + INFO_HASH_BYTES)
  if (rest === undefined) return lost('the connection ended within a handshake')
  return { reserved: rest.subarray(0, RESERVED_BYTES), infoHash: rest.slice(RESERVED_BYTES) }
}

async function sessionWith(
  deps: SessionDeps,
  { party, theirs, inlet }: { readonly party: StockParty; readonly theirs: Theirs; readonly inlet: Inlet },
  options: SessionOptions,
): Promise<PeerSession | WireFault> {
  const peerId = await inlet.take(PEER_ID_BYTES)
  if (peerId === undefined) return lost('the connection ended within a handshake')
  if (equalInConstantTime(peerId, party.peerId)) {
    return { code: 'SWARM_SELF', blame: 'nobody', what: 'a connection of this node to itself' }
  }
  const terms = {
    party: partyOfHost(party.host),
    kind: 'bittorrent',
    pipe: party.pipe,
    inlet,
    theirRequestBytesMax: STOCK_REQUEST_BYTES_MAX,
    ownRequestBytesMax: STOCK_REQUEST_BYTES_MAX,
    isFast: hasBit(theirs.reserved, FAST_BIT),
    isExtended: hasBit(theirs.reserved, EXTENSION_BIT),
  } as const
  return createPeerSession(deps, terms, options)
}

function handshakeOf(infoHash: Uint8Array, peerId: Uint8Array): Uint8Array {
  const reserved = new Uint8Array(RESERVED_BYTES)
  for (const [at, mask] of [EXTENSION_BIT, FAST_BIT, V2_BIT]) reserved[at] = (reserved[at] ?? 0) | mask
  return concatBytes([PROTOCOL, reserved, infoHash, peerId])
}

function hasBit(reserved: Uint8Array, [at, mask]: readonly [number, number]): boolean {
  return ((reserved[at] ?? 0) & mask) !== 0
}
