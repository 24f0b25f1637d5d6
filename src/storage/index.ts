/** Files and what a node keeps: the data directory, its lock, key, socket and database, and model files. */
export { type DataDir, defaultDataDir, openDataDir } from './data-dir.ts'
export { StorageError, type StorageFault } from './errors.ts'
export { type FileSource, openFileSource } from './file-source.ts'
export type { ModelIdCache } from './node-database.ts'
export { findSocket } from './socket-path.ts'
