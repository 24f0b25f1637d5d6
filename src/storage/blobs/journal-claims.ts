/** What a journal claims of each piece, gathered from its records. What the file has no room for is no claim. */
import type { BlockMap } from './block-map.ts'
import type { JournalClaims } from './journal.ts'

/** Masks of blocks. */
export type Claim = {
  readonly claimed: bigint
  /** Claimed, and not to be doubted. */
  readonly trusted: bigint
  /** Claimed, and on the disk itself. */
  readonly synced: bigint
}

/** @param shape of the file: how many pieces it has, and of how many blocks */
export function claimsOf(
  records: JournalClaims['records'],
  shape: Pick<BlockMap, 'whole' | 'full'>,
): ReadonlyMap<number, Claim> {
  const claims = new Map<number, Claim>()
  const add = (piece: number, mask: bigint, how: { readonly isTrusted: boolean; readonly isSynced: boolean }): void => {
    const before = claims.get(piece) ?? { claimed: 0n, trusted: 0n, synced: 0n }
    claims.set(piece, {
      claimed: before.claimed | mask,
      trusted: how.isTrusted ? before.trusted | mask : before.trusted,
      synced: how.isSynced ? before.synced | mask : before.synced,
    })
  }
  const count = shape.whole.size
  for (const { record, ...how } of records) {
    if (record.kind === 'blocks' && record.piece < count) {
      add(record.piece, record.mask & shape.full(record.piece), how)
    } else if (record.kind === 'pieces') {
      const end = Math.min(count, record.piece + record.count)
      for (let piece = record.piece; piece < end; piece++) add(piece, shape.full(piece), how)
    }
  }
  return claims
}
