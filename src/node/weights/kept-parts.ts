/** Parts of models that run here: they stay while they do, and give way to others only where those are sure to fit then. */
import { type Bitfield, formatBytes } from '#base'
import { LEAF_BYTES } from '#formats'
import type { BlobStore } from '#storage'
import { NodeError } from '../errors.ts'
import type { ShelvedModel } from './shelf.ts'

/** Pieces of a model's file that are pinned. */
export type Kept = { readonly pieces: Bitfield; readonly release: () => void }

export class KeptParts {
  readonly #blobs: Pick<BlobStore, 'usage'>
  readonly #kept = new Map<string, Kept>()

  constructor(blobs: Pick<BlobStore, 'usage'>) {
    this.#blobs = blobs
  }

  has(model: string): boolean {
    return this.#kept.has(model)
  }

  /** These take the place of what was kept of the model before. */
  put(model: string, kept: Kept): void {
    this.#kept.get(model)?.release()
    this.#kept.set(model, kept)
  }

  /**
   * Makes way for pieces that are pinned and not here. What was kept of the model stays beside them while both fit: it is
   * wanted back where the others cannot be had. Where they do not, it may go, and does once the room is needed.
   * @throws NodeError NODE_QUOTA_FULL where they would not fit even then; what was kept stays
   */
  giveWay(model: ShelvedModel, pieces: Bitfield): void {
    const { id } = model.known
    const missingBytes = missingBytesOf(model, pieces)
    if (missingBytes <= this.#roomBytes()) return
    const before = this.#kept.get(id)
    before?.release()
    this.#kept.delete(id)
    const roomBytes = this.#roomBytes()
    if (missingBytes <= roomBytes) return
    if (before !== undefined) this.#kept.set(id, keep(model, before.pieces))
    throw new NodeError(
      { code: 'NODE_QUOTA_FULL', missingBytes },
      `${formatBytes(missingBytes)} are missing, and the quota has room for ${formatBytes(roomBytes)} beside what is in use: serve fewer layers, or raise the quota`,
    )
  }

  /** Bytes that may come, where all goes that is not pinned. */
  #roomBytes(): number {
    const { pinnedBytes, quotaBytes } = this.#blobs.usage()
    return Math.max(0, quotaBytes - pinnedBytes)
  }
}

export function keep({ blob }: Pick<ShelvedModel, 'blob'>, pieces: Bitfield): Kept {
  return { pieces, release: blob.pin(pieces) }
}

/** Bytes of these pieces that are not here. */
function missingBytesOf({ blob, torrent }: ShelvedModel, pieces: Bitfield): number {
  let missing = 0
  for (const piece of pieces.numbers()) {
    if (blob.has.has(piece)) continue
    const here = (blob.blocksOf(piece)?.count ?? 0) * LEAF_BYTES
    missing += Math.max(0, Math.min(torrent.pieceBytes, blob.length - piece * torrent.pieceBytes) - here)
  }
  return missing
}
