/** What sessions, replay protection and the registry ask of the parts around them. `storage` keeps, `net` carries. */
import type { RefusalReason } from '#wire'

/** What must outlive a connection, or a restart, for a session to go on. Secrets: kept in a private database only. */
export type StoredSession = {
  /** 16 bytes. */
  readonly id: Uint8Array
  /** Peer id of the other side. */
  readonly peer: string
  /** Proves to both sides that they are who they were (32 bytes); replaced at every resumption. */
  readonly resumptionSecret: Uint8Array
  /** How often the session was resumed: the high half of the epoch. */
  readonly resumptions: number
  readonly version: number
  readonly suite: string
  /** Unix milliseconds. */
  readonly createdAt: number
  readonly expiresAt: number
}

export interface SessionStore {
  /** The newest session with this peer that has not expired. */
  find(peer: string): StoredSession | undefined
  save(session: StoredSession): void
  remove(id: Uint8Array): void
}

/** The replay filter's state, as bytes of its own making. */
export interface ReplayStore {
  load(): Uint8Array | undefined
  save(state: Uint8Array): void
}

/** Which key speaks for a peer now (hand-overs that were verified). */
export interface PeerKeyStore {
  /** The peer id of the newest key that `peer` has handed over to, or `peer` itself. */
  current(peer: string): string
  /** All statements that lead from `peer` to its current key, the oldest first. */
  chain(peer: string): readonly Uint8Array[]
  /** Records a verified statement. */
  record(statement: {
    readonly from: string
    readonly to: string
    readonly bytes: Uint8Array
    readonly at: number
  }): void
  /** The ML-DSA-65 key that this id has proved before: from then on it must. */
  hybridKey(peer: string): Uint8Array | undefined
  /** Remembers the first such key. */
  pinHybridKey(peer: string, key: Uint8Array, at: number): void
}

/** Bans and scores that outlive a restart. */
export type StoredPenalty = {
  /** A peer id, or `ip:` and an address. */
  readonly subject: string
  readonly score: number
  /** Unix milliseconds of the score. */
  readonly at: number
  /** Unix milliseconds; 0: not banned. */
  readonly bannedUntil: number
  /** Failed authentications in a row. */
  readonly failures: number
}

export interface PenaltyStore {
  load(): readonly StoredPenalty[]
  save(penalty: StoredPenalty): void
  remove(subject: string): void
}

/** What the audit log records (PROTO-11). */
export type AuditKind =
  | 'authentication-failed'
  | 'refused'
  | 'banned'
  | 'replay'
  | 'not-authorised'
  | 'rate-limited'
  | 'key-created'
  | 'key-rotated'
  | 'peer-key-rotated'
  | 'peer-key-refused'
  | 'command'
  | 'log-pruned'
  | 'node-started'
  | 'node-stopped'

export interface AuditLog {
  /** Appends an entry. Facts are small and hold no secrets and no text of prompts. Never throws. */
  record(kind: AuditKind, facts: { readonly peer?: string } & Readonly<Record<string, string | number | boolean>>): void
}

/** Why a session refused a frame. `isHostile` false: it may happen between honest peers, and costs nobody anything. */
export type SessionFault = {
  readonly reason: RefusalReason
  readonly what: string
  readonly isHostile: boolean
}
