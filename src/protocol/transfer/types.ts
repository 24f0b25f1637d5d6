/** What transfers ask of the parts around them: where arriving bytes are collected. */
import type { Attachment } from '../command.ts'

/** An attachment whose owner knows its digest: offering it does not read it. */
export interface DigestedAttachment extends Attachment {
  /** SHA-256 of all bytes. */
  readonly sha256?: Uint8Array
}

/** What a transfer brings, and from whom. Two transfers of the same content from the same peer are one to a store. */
export type TransferContent = {
  readonly peer: string
  readonly sizeBytes: number
  /** SHA-256 of all bytes. */
  readonly sha256: Uint8Array
}

/** Collects the bytes of one transfer. The first of `finish`, `suspend` and `discard` ends it; calls after it do nothing. */
export interface TransferSink {
  /** Bytes from the start that are kept and verified as far as they can be: whole chunks. */
  readonly keptBytes: number
  /**
   * Takes the next chunk, which belongs to the sink from then on. May be called again before it resolves; after a chunk
   * that was wrong or not kept, no further one is.
   * @param check the first bytes of the SHA-256 of everything up to the end of this chunk; undefined: not known
   * @returns whether the check is right; nothing of a wrong chunk is kept
   * @throws TransferError TRANSFER_DISK_FULL, TRANSFER_STORE
   */
  append(chunk: Uint8Array<ArrayBuffer>, check: Uint8Array | undefined): Promise<boolean>
  /** All bytes are there. Undefined: they are not what was announced, and are removed. */
  finish(): Promise<DigestedAttachment | undefined>
  /** Keeps what is there for the next time. Never rejects. */
  suspend(): Promise<void>
  /** Removes what is there. Never rejects. */
  discard(): Promise<void>
}

/** A place for attachments that are too large for memory. */
export interface TransferStore {
  /**
   * A place for this content, with what an earlier attempt has left.
   * @throws TransferError TRANSFER_QUOTA, TRANSFER_DISK_FULL, TRANSFER_STORE
   */
  open(content: TransferContent): Promise<TransferSink>
}
