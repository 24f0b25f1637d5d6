/** What can go wrong with files and the data directory. */
import { KoinonError } from '#base'

export type StorageFault =
  /** Another node uses the data directory. `pid` 0: it did not say which. */
  | { readonly code: 'STORAGE_LOCKED'; readonly path: string; readonly pid: number }
  /** The data directory or a part of it cannot be made or written. */
  | { readonly code: 'STORAGE_UNUSABLE'; readonly path: string }
  /** Others could read or replace what must be private. */
  | { readonly code: 'STORAGE_PERMISSIONS'; readonly path: string }
  /** There is a node key already, which nobody asked to replace. */
  | { readonly code: 'STORAGE_KEY_EXISTS'; readonly path: string }
  /** The list of the node's own hand-over statements is damaged. */
  | { readonly code: 'STORAGE_HANDOVERS'; readonly path: string }
  /** `node.db` is damaged or of a later version. */
  | { readonly code: 'STORAGE_DATABASE'; readonly path: string }
  /** As many models are known as may be. */
  | { readonly code: 'STORAGE_MODELS_FULL'; readonly countMax: number; readonly bytesMax: number }
  /** The file is not there, not a regular file, or may not be read. */
  | { readonly code: 'STORAGE_FILE'; readonly path: string }
  /** Reading failed half-way: the disk, or the file was closed. */
  | { readonly code: 'STORAGE_READ'; readonly path: string }
  /** A file of the user's is not what it was when it was hashed. */
  | { readonly code: 'STORAGE_FILE_CHANGED'; readonly path: string }
  /** These bytes of a blob are not here, or the blob is not here any more. */
  | { readonly code: 'STORAGE_BLOB_MISSING'; readonly path: string }
  /** A blob is in use. */
  | { readonly code: 'STORAGE_BLOB_PINNED'; readonly path: string }
  /** A file that is too large, or one too many. */
  | { readonly code: 'STORAGE_BLOB_LIMIT'; readonly limit: number }
  /** The files of a blob cannot be opened, written or removed. */
  | { readonly code: 'STORAGE_BLOB_DISK'; readonly path: string }

export class StorageError extends KoinonError<StorageFault> {
  override readonly name = 'StorageError'
}
