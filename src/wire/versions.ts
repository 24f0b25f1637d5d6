/** Every version, protocol id and cipher suite that crosses the network. One file, so that nothing is hard-coded twice. */

/** Name and version of this software, as peers see it. */
export const AGENT = 'koinon/0.2.0'

/** Libp2p protocol ids. The last part is the major version of the framing below them. */
export const PROTOCOLS = {
  /** Identities and known peers, right after a peer has joined and now and then. */
  exchange: '/koinon/exchange/1',
  /** Signed announcements of services: told, and asked for. */
  services: '/koinon/services/1',
  /** Sessions and commands: frames, the first stream on every connection. */
  control: '/koinon/control/1',
  /** Steps of generations. Sealed by the session. */
  stage: '/koinon/stage/1',
  /** Attachments of messages, in chunks. Sealed by the session. */
  bulk: '/koinon/bulk/1',
  /** Pieces of models: BitTorrent's peer wire protocol behind a greeting of our own. */
  pieces: '/koinon/pieces/1',
  /** Reservations at relays, and circuits through them. */
  relay: '/koinon/relay/1',
  /** From a relayed connection to a direct one; where a node is seen. */
  punch: '/koinon/punch/1',
  /** Asks a peer to dial one of our addresses (dial-back). Sealed by the session. */
  reach: '/koinon/reach/1',
  /** The connection that such a dial makes: it brings the nonce, and ends. */
  reachBack: '/koinon/reach-back/1',
  /** Kademlia of libp2p, among Koinon's nodes alone. */
  kad: '/koinon/kad/1',
  /** The protocol of the systems before: a length and JSON. */
  json: '/json-message/1.0',
  /** Files, as these systems fetch them: one JSON message each way. */
  olderTorrent: '/torrent/1.0',
  /** What their monitors ask of a node. */
  olderMetrics: '/metrics/1.0',
} as const
export type ProtocolId = (typeof PROTOCOLS)[keyof typeof PROTOCOLS]

/** Protocols whose streams outlive the connection that carries them. Both sides must agree, so it is part of the protocol. */
export const CARRIED_PROTOCOLS: ReadonlySet<string> = new Set([PROTOCOLS.stage, PROTOCOLS.bulk])

/** The version byte of a frame. */
export const FRAME_VERSION = 1

/** Revisions of the messages inside the frames that this software speaks, the newest first. */
export const PROTOCOL_VERSIONS: readonly number[] = [1]

/** Cipher suites of a session, the preferred first. A name is Noise's own. */
export const CIPHER_SUITES: readonly string[] = ['Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256']

/** The newest version that both speak; undefined: none. */
export function newestCommonVersion(ours: readonly number[], theirs: readonly number[]): number | undefined {
  const common = ours.filter(version => theirs.includes(version))
  return common.length === 0 ? undefined : Math.max(...common)
}

/**
 * The suite of a session: the first of our own list that the peer has too. Both sides have the same list in the same
 * order per version, and the handshake covers both offers, so nobody between them can change the choice.
 */
export function commonSuite(ours: readonly string[], theirs: readonly string[]): string | undefined {
  return ours.find(suite => theirs.includes(suite))
}
