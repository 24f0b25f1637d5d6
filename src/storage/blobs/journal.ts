/**
 * The journal of a blob: which blocks are verified and stored. `docs/reference/blobs.md` has its bytes.
 *
 * A record only ever adds: any part of a journal, whatever happened to the rest, claims nothing that is not there. When
 * pieces are dropped the journal is replaced before their bytes go. Each record has a check of its own, which the file's
 * root is part of, so garbage and records of another file count for nothing.
 */
import { concatBytes } from '#base'
import { equalInConstantTime, sha256 } from '#crypto'
import { HASH_BYTES } from '#formats'
import type { BlobName } from './types.ts'

/** Bytes of the journal's head, and of each record after it. */
export const JOURNAL_HEAD_BYTES = 64
export const JOURNAL_RECORD_BYTES = 32

/** Bytes of the tag that says during which run of the machine a record was written. */
export const BOOT_TAG_BYTES = 8

const MAGIC = new TextEncoder().encode('KOINBLB1')
const CHECK_BYTES = 8
const KINDS = { blocks: 1, pieces: 2, synced: 3, closed: 4 } as const

export type JournalRecord =
  /** Bit n of the mask: block n of the piece. */
  | { readonly kind: 'blocks'; readonly piece: number; readonly mask: bigint }
  /** Whole pieces, `count` of them. */
  | { readonly kind: 'pieces'; readonly piece: number; readonly count: number }
  /** What is claimed before this byte of the journal is on the disk itself. */
  | { readonly kind: 'synced'; readonly offset: number }
  /** The file was closed with this stamp (first 8 bytes of its hash); nothing was written since. */
  | { readonly kind: 'closed'; readonly stamp: bigint }

/** Who wrote a journal, and during which run of the machine. */
export type JournalContext = { readonly root: Uint8Array; readonly bootTag: Uint8Array }

export function encodeHead({ root, length }: BlobName): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(JOURNAL_HEAD_BYTES)
  head.set(MAGIC)
  new DataView(head.buffer).setBigUint64(8, BigInt(length))
  head.set(root, 16)
  head.set(sha256(head.subarray(0, JOURNAL_HEAD_BYTES - CHECK_BYTES)).subarray(0, CHECK_BYTES), 56)
  return head
}

/** @returns undefined: no head, or a damaged one */
export function decodeHead(bytes: Uint8Array): BlobName | undefined {
  if (bytes.byteLength < JOURNAL_HEAD_BYTES || !equalInConstantTime(bytes.subarray(0, 8), MAGIC)) return undefined
  const check = sha256(bytes.subarray(0, JOURNAL_HEAD_BYTES - CHECK_BYTES)).subarray(0, CHECK_BYTES)
  if (!equalInConstantTime(bytes.subarray(56, JOURNAL_HEAD_BYTES), check)) return undefined
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8)
  if (length < 1n || length > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return { root: bytes.slice(16, 16 + HASH_BYTES), length: Number(length) }
}

export function encodeRecord(record: JournalRecord, { root, bootTag }: JournalContext): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(JOURNAL_RECORD_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, KINDS[record.kind])
  if (record.kind === 'blocks' || record.kind === 'pieces') view.setUint32(4, record.piece)
  view.setBigUint64(8, valueOf(record))
  bytes.set(bootTag, 16)
  bytes.set(checkOf(root, bytes), 24)
  return bytes
}

function valueOf(record: JournalRecord): bigint {
  if (record.kind === 'blocks') return record.mask
  if (record.kind === 'pieces') return BigInt(record.count)
  return record.kind === 'synced' ? BigInt(record.offset) : record.stamp
}

function checkOf(root: Uint8Array, record: Uint8Array): Uint8Array {
  return sha256(concatBytes([root, record.subarray(0, 24)])).subarray(0, CHECK_BYTES)
}

/** What a journal claims. */
export type JournalClaims = {
  readonly records: ReadonlyArray<{
    readonly record: JournalRecord
    /** It is on the disk itself. */
    readonly isSynced: boolean
    /** Synced, or written since the machine was started: then it is still in its memory, whatever became of the process. */
    readonly isTrusted: boolean
  }>
  /** The stamp of a file that was closed in order and not written since. */
  readonly closedStamp: bigint | undefined
}

/** Reads all records of a journal that are whole and undamaged. */
export function decodeRecords(bytes: Uint8Array, context: JournalContext): JournalClaims {
  const found: Array<{ at: number; record: JournalRecord; isThisBoot: boolean }> = []
  let syncedTo = 0
  let closedStamp: bigint | undefined
  for (let at = JOURNAL_HEAD_BYTES; at + JOURNAL_RECORD_BYTES <= bytes.byteLength; at += JOURNAL_RECORD_BYTES) {
    const raw = bytes.subarray(at, at + JOURNAL_RECORD_BYTES)
    const record = decodeRecord(raw, context.root)
    closedStamp = record?.kind === 'closed' ? record.stamp : undefined
    // What says that it was synced up to a place behind itself is not ours.
    if (record?.kind === 'synced') syncedTo = Math.max(syncedTo, Math.min(record.offset, at))
    else if (record !== undefined) {
      const isThisBoot = equalInConstantTime(raw.subarray(16, 16 + BOOT_TAG_BYTES), context.bootTag)
      found.push({ at, record, isThisBoot })
    }
  }
  const records = found.map(({ at, record, isThisBoot }) => {
    const isSynced = at < syncedTo
    return { record, isSynced, isTrusted: isThisBoot || isSynced }
  })
  return { records, closedStamp }
}

function decodeRecord(bytes: Uint8Array, root: Uint8Array): JournalRecord | undefined {
  if (!equalInConstantTime(bytes.subarray(24, 24 + CHECK_BYTES), checkOf(root, bytes))) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const kind = view.getUint8(0)
  const piece = view.getUint32(4)
  const value = view.getBigUint64(8)
  if (kind === KINDS.blocks) return { kind: 'blocks', piece, mask: value }
  if (kind === KINDS.closed) return { kind: 'closed', stamp: value }
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  if (kind === KINDS.pieces) return { kind: 'pieces', piece, count: Number(value) }
  return kind === KINDS.synced ? { kind: 'synced', offset: Number(value) } : undefined
}
