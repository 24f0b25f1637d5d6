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
  /** The file is not there, not a regular file, or may not be read. */
  | { readonly code: 'STORAGE_FILE'; readonly path: string }
  /** Reading failed half-way: the disk, or the file was closed. */
  | { readonly code: 'STORAGE_READ'; readonly path: string }

export class StorageError extends KoinonError<StorageFault> {
  override readonly name = 'StorageError'
}
