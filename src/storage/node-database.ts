/**
 * `node.db`: what a node remembers between runs. SQLite with a write-ahead log, so that others can read while the node
 * writes. It holds the secrets of sessions that can be resumed: the file and those beside it are for their owner alone,
 * and what is deleted is overwritten.
 */
import { chmodSync, closeSync, openSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type Clock, type KeyValueStore, type Logger, messageOf } from '#base'
import { peerOfPublicKey } from '#crypto'
import type { PenaltyStore, ReplayStore, SessionStore } from '#protocol'
import { type AuditStore, createAuditLog } from './audit-log.ts'
import { StorageError } from './errors.ts'
import { createKnownPeerStore, type KnownPeerStore } from './known-peers.ts'
import { createKeyValueStore } from './key-value-store.ts'
import { DATABASE_BUSY_MS_MAX } from './limits.ts'
import { createManifestStore, type ManifestStore } from './manifests.ts'
import { MIGRATIONS } from './migrations.ts'
import { createModelIdCache, type ModelIdCache } from './model-id-cache.ts'
import { createPeerKeyStore, type PeerKeys } from './peer-key-store.ts'
import { createPenaltyStore } from './penalty-store.ts'
import { createReplayStore } from './replay-store.ts'
import { createReputationStore, type ReputationStore } from './reputation-store.ts'
import type { StoreDeps } from './rows.ts'
import { createSessionStore } from './session-store.ts'
import { StoreGuard } from './store-guard.ts'
import { createVoteStore, type VoteStore } from './votes.ts'

/** What a node remembers, each in tables of its own. */
export interface NodeStores {
  readonly modelIds: ModelIdCache
  readonly sessions: SessionStore
  readonly replay: ReplayStore
  readonly peerKeys: PeerKeys
  readonly penalties: PenaltyStore
  readonly reputation: ReputationStore
  readonly knownPeers: KnownPeerStore
  readonly models: ManifestStore
  readonly votes: VoteStore
  readonly audit: AuditStore
  /** What the DHT keeps. */
  readonly kad: KeyValueStore
}

export type NodeDatabase = {
  readonly stores: NodeStores
  /** Ends the audit log, then closes. Never rejects. Idempotent. */
  readonly close: () => Promise<void>
}

export type NodeDatabaseDeps = { readonly clock: Clock; readonly log: Logger }

/** @throws StorageError STORAGE_DATABASE */
export function openNodeDatabase(path: string, { clock, log }: NodeDatabaseDeps): NodeDatabase {
  let database: DatabaseSync | undefined
  try {
    makePrivate(path)
    database = new DatabaseSync(path, { timeout: DATABASE_BUSY_MS_MAX })
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON')
    migrate(database, path)
    return createStores({ database, clock, guard: new StoreGuard({ clock, log }) }, path)
  } catch (error) {
    database?.close()
    if (error instanceof StorageError) throw error
    throw new StorageError(
      { code: 'STORAGE_DATABASE', path },
      `cannot use ${path}: ${messageOf(error)}. It can be moved away; the node then starts with an empty one`,
      { cause: error },
    )
  }
}

function createStores(deps: StoreDeps, path: string): NodeDatabase {
  const { database } = deps
  let own: string | undefined
  const peerKeys = createPeerKeyStore(database, path, () => own)
  const audit = createAuditLog(deps)
  const stores: NodeStores = {
    modelIds: createModelIdCache(deps),
    sessions: createSessionStore(deps),
    replay: createReplayStore(deps),
    peerKeys,
    penalties: createPenaltyStore(deps),
    reputation: createReputationStore(deps, peer => peerKeys.current(peer)),
    knownPeers: createKnownPeerStore(deps),
    models: createManifestStore(deps, path),
    votes: createVoteStore(deps, peer => peerKeys.current(peer)),
    kad: createKeyValueStore(deps),
    audit: {
      record: (kind, facts) => audit.record(kind, facts),
      setSigner: signer => {
        own = peerOfPublicKey(signer.publicKey)
        audit.setSigner(signer)
      },
      checkpoint: () => audit.checkpoint(),
      close: () => audit.close(),
    },
  }
  const close = async (): Promise<void> => {
    await audit.close()
    if (database.isOpen) database.close()
  }
  return { stores, close }
}

/** SQLite gives the files that it makes beside the database the database's mode. */
function makePrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600))
  if (process.platform === 'win32') return
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    const stats = statSync(file, { throwIfNoEntry: false })
    if (stats !== undefined && (stats.mode & 0o077) !== 0) chmodSync(file, 0o600)
  }
}

function migrate(database: DatabaseSync, path: string): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
  if (version > MIGRATIONS.length) {
    throw new StorageError(
      { code: 'STORAGE_DATABASE', path },
      `${path} has version ${version}, but this program knows version ${MIGRATIONS.length}: update it`,
    )
  }
  for (const [index, step] of MIGRATIONS.entries()) {
    if (index < version) continue
    database.exec(`BEGIN; ${step}; PRAGMA user_version = ${index + 1}; COMMIT`)
  }
}
