/** Every version, protocol id and cipher suite that crosses the network. One file, so that nothing is hard-coded twice. */

/** Name and version of this software, as peers see it. */
export const AGENT = 'koinon/0.2.0'

/** Libp2p protocol ids. The last part is the major version of the framing below them. */
export const PROTOCOLS = {
  /** Sessions and commands: frames, the first stream on every connection. */
  control: '/koinon/control/1',
  /** Steps of generations. Sealed by the session. */
  stage: '/koinon/stage/1',
  /** Attachments of messages, in chunks. Sealed by the session. */
  bulk: '/koinon/bulk/1',
  /** Kademlia of libp2p, among Koinon's nodes alone. */
  kad: '/koinon/kad/1',
  /** The protocol of the systems before: a length and JSON. */
  json: '/json-message/1.0',
} as const
export type ProtocolId = (typeof PROTOCOLS)[keyof typeof PROTOCOLS]

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
