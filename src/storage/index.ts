/** Files and what a node keeps: the data directory, its lock, key, socket and database, and model files. */
export { type DataDir, type DataDirDeps, defaultDataDir, openDataDir, type Platform } from './data-dir.ts'
export { StorageError, type StorageFault } from './errors.ts'
export { type FileSource, type FileStamp, openFileSource } from './file-source.ts'
export type { ModelIdCache } from './node-database.ts'
export { findSocket } from './socket-path.ts'
