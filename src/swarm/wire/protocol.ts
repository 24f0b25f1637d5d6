/**
 * The numbers of the peer wire protocol. A message is `u32 big-endian length | u8 id | body`; length 0 is a keep-alive.
 * `docs/reference/pieces.md` draws the bodies.
 */
import { HASH_LAYERS_MAX } from './limits.ts'
import type { HashRange } from './types.ts'

/** BEP 3 (0-8), BEP 5 (9), BEP 6 (13-17), BEP 10 (20), BEP 52 (21-23). */
export const ID = {
  choke: 0,
  unchoke: 1,
  interested: 2,
  notInterested: 3,
  have: 4,
  bitfield: 5,
  request: 6,
  piece: 7,
  cancel: 8,
  port: 9,
  suggest: 13,
  haveAll: 14,
  haveNone: 15,
  reject: 16,
  allowedFast: 17,
  extended: 20,
  hashRequest: 21,
  hashes: 22,
  hashReject: 23,
} as const

/** Length, id, piece and offset: what stands before the bytes of a block. */
export const PIECE_HEAD_BYTES = 13

export const HASH_BYTES = 32

/** Bytes of a v2 info-hash where there is room for those of v1 only: handshakes and the DHT (BEP 52). */
export const SHORT_HASH_BYTES = 20

/** Of all uncle hashes that one message can have. */
export const HASH_LAYERS_BYTES_MAX = HASH_LAYERS_MAX * HASH_BYTES

/** Root, base layer, index, length, proof layers. */
export const HASH_RANGE_BYTES = HASH_BYTES + 4 * 4

/** Ids of extended messages that are sent to this side (BEP 10). 0 is the handshake. */
export const EXTENSION_IDS = { metadata: 1, core: 2, votes: 3 } as const

/** Their names in the handshake. */
export const EXTENSION_NAMES = { metadata: 'ut_metadata', core: 'koinon_core', votes: 'koinon_votes' } as const

/** Ids that the other side has given to its extensions. 0: it does not take them. */
export type ExtensionIds = { readonly metadata: number; readonly core: number; readonly votes: number }

export const NO_EXTENSIONS: ExtensionIds = { metadata: 0, core: 0, votes: 0 }

/**
 * Uncle hashes in the answer to a request. The uncles that lie within the subtree of the hashes can be computed, so they are
 * left out: of `proofLayers` layers, counted from the base layer, the lowest `log2(length) - 1`.
 */
export function uncleCount({ length, proofLayers }: Pick<HashRange, 'length' | 'proofLayers'>): number {
  return Math.max(0, proofLayers - Math.max(0, Math.log2(length) - 1))
}

/** Layers to ask for so that the uncles lead to the root. @param height layers of the tree above its base layer */
export function proofLayersFor(height: number): number {
  return Math.max(0, height - 1)
}

/** Two requests with the same key are the same request. */
export function hashKey({ root, baseLayer, index, length, proofLayers }: HashRange): string {
  return `${Buffer.from(root.buffer, root.byteOffset, root.byteLength).toString('base64')}:${baseLayer}:${index}:${length}:${proofLayers}`
}
