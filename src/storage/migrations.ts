/**
 * The tables of `node.db`. Each step leads from the version of its index to the next; SQLite keeps the version in the
 * file's header. A step that was released is never changed. The CHECKs repeat bounds of `limits.ts` as they were then:
 * they stop a bug of ours from filling the disk, not a person with an editor, so rows are checked when they are read too.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE model_ids (
     path TEXT PRIMARY KEY,
     size INTEGER NOT NULL,
     modified_ns TEXT NOT NULL,
     id TEXT NOT NULL,
     used_at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE sessions (
     id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
     peer TEXT NOT NULL CHECK (length(peer) <= 128),
     resumption_secret BLOB NOT NULL CHECK (length(resumption_secret) = 32),
     resumptions INTEGER NOT NULL,
     version INTEGER NOT NULL,
     suite TEXT NOT NULL CHECK (length(suite) <= 128),
     created_at INTEGER NOT NULL,
     expires_at INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX sessions_by_peer ON sessions (peer, created_at);
   CREATE INDEX sessions_by_age ON sessions (created_at);
   CREATE INDEX sessions_by_expiry ON sessions (expires_at);

   CREATE TABLE replay (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     state BLOB NOT NULL CHECK (length(state) <= 8388608)
   ) STRICT;

   CREATE TABLE handovers (
     from_peer TEXT NOT NULL UNIQUE CHECK (length(from_peer) <= 128),
     to_peer TEXT NOT NULL CHECK (length(to_peer) <= 128),
     statement BLOB NOT NULL CHECK (length(statement) <= 4096),
     at INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX handovers_by_new ON handovers (to_peer);
   CREATE INDEX handovers_by_age ON handovers (at);

   CREATE TABLE penalties (
     subject TEXT NOT NULL UNIQUE CHECK (length(subject) <= 128),
     score REAL NOT NULL,
     at INTEGER NOT NULL,
     banned_until INTEGER NOT NULL,
     failures INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX penalties_by_age ON penalties (max(at, banned_until));

   CREATE TABLE ratings (
     subject TEXT NOT NULL CHECK (length(subject) <= 128),
     rater TEXT NOT NULL CHECK (length(rater) <= 128),
     score REAL NOT NULL CHECK (score BETWEEN -1 AND 1),
     comment TEXT NOT NULL CHECK (length(comment) <= 200),
     at INTEGER NOT NULL,
     UNIQUE (subject, rater)
   ) STRICT;
   CREATE INDEX ratings_by_subject ON ratings (subject, at);
   CREATE INDEX ratings_by_rater ON ratings (rater, at);
   CREATE INDEX ratings_by_age ON ratings (at);

   CREATE TABLE observations (
     peer TEXT NOT NULL UNIQUE CHECK (length(peer) <= 128),
     served INTEGER NOT NULL,
     failed INTEGER NOT NULL,
     refused INTEGER NOT NULL,
     at INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX observations_by_age ON observations (at)`,
  `CREATE TABLE audit (
     seq INTEGER PRIMARY KEY,
     at INTEGER NOT NULL,
     kind TEXT NOT NULL,
     peer TEXT NOT NULL,
     facts TEXT NOT NULL,
     previous BLOB NOT NULL,
     hash BLOB NOT NULL
   ) STRICT;

   CREATE TABLE audit_checkpoints (
     seq INTEGER PRIMARY KEY,
     at INTEGER NOT NULL,
     hash BLOB NOT NULL,
     public_key BLOB NOT NULL,
     signature BLOB NOT NULL
   ) STRICT;

   CREATE TABLE audit_state (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     anchor_seq INTEGER NOT NULL,
     anchor_hash BLOB NOT NULL,
     signer BLOB
   ) STRICT;
   INSERT INTO audit_state VALUES (1, 0, zeroblob(32), NULL)`,
  `CREATE TABLE hybrid_keys (
     peer TEXT NOT NULL UNIQUE CHECK (length(peer) <= 128),
     key BLOB NOT NULL,
     at INTEGER NOT NULL
   ) STRICT`,
  `CREATE TABLE known_peers (
     public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
     dht_node_id BLOB CHECK (length(dht_node_id) = 20),
     is_relay INTEGER NOT NULL,
     topic TEXT NOT NULL CHECK (length(topic) <= 64),
     source INTEGER NOT NULL,
     first_seen INTEGER NOT NULL,
     last_seen INTEGER NOT NULL,
     record BLOB CHECK (length(record) <= 3072)
   ) STRICT;
   CREATE INDEX known_peers_by_age ON known_peers (last_seen);

   CREATE TABLE discovery (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     sequence INTEGER NOT NULL
   ) STRICT`,
  `CREATE TABLE kad_entries (
     key TEXT NOT NULL UNIQUE CHECK (length(key) <= 256),
     value BLOB NOT NULL CHECK (length(value) <= 4096),
     expires_at INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX kad_entries_by_expiry ON kad_entries (expires_at)`,
  // Ids that were remembered by size and time of change alone are computed again: that time can be put back.
  `DROP TABLE model_ids;
   CREATE TABLE model_ids (
     path TEXT PRIMARY KEY,
     size INTEGER NOT NULL,
     modified_ns TEXT NOT NULL,
     changed_ns TEXT NOT NULL,
     inode TEXT NOT NULL,
     id TEXT NOT NULL,
     used_at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE models (
     id TEXT NOT NULL UNIQUE CHECK (length(id) = 64),
     core BLOB NOT NULL CHECK (length(core) <= 4194304),
     manifest BLOB CHECK (length(manifest) <= 16384),
     file TEXT,
     shared INTEGER NOT NULL,
     added_at INTEGER NOT NULL
   ) STRICT;

   CREATE TABLE model_votes (
     model TEXT NOT NULL CHECK (length(model) = 64),
     voter TEXT NOT NULL CHECK (length(voter) <= 128),
     trusted INTEGER NOT NULL CHECK (trusted IN (0, 1)),
     at INTEGER NOT NULL,
     envelope BLOB NOT NULL CHECK (length(envelope) <= 1280),
     UNIQUE (model, voter)
   ) STRICT;
   CREATE INDEX model_votes_by_model ON model_votes (model, at);
   CREATE INDEX model_votes_by_voter ON model_votes (voter, at);
   CREATE INDEX model_votes_by_age ON model_votes (at)`,
  // What of a model was run once in a throw-away process: "edges,0-4,8-16".
  `ALTER TABLE models ADD COLUMN tried TEXT NOT NULL DEFAULT ''`,
]
