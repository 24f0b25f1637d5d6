/** Sizes and counts that bound what is kept. Each is listed in `docs/reference/limits.md`. */

const DAY_MS = 24 * 60 * 60 * 1000

/** Bytes of a key file: one key is about 250, encrypted. */
export const KEY_FILE_BYTES_MAX = 4096

/** Hand-over statements of a node's own keys that are kept; the oldest go first. */
export const HANDOVER_LINES_MAX = 32

/** Bytes of the list of these statements. */
export const HANDOVERS_BYTES_MAX = 24 * 1024

/** The newest of these statements, which peers are told: as many as they take. */
export const HANDOVERS_TOLD_MAX = 16

/** Bytes of a socket's path: Linux takes 107, macOS 103. */
export const SOCKET_PATH_BYTES_MAX = 100

/** Model ids that are remembered; the least recently used go first. */
export const MODEL_ID_CACHE_MAX = 1_000

/** Waiting for another program that holds `node.db`'s write lock: the event loop stands still meanwhile. */
export const DATABASE_BUSY_MS_MAX = 100

/** Between two log lines about a database that does not take what it should. */
export const DATABASE_WARNING_PERIOD_MS = 60_000

/** Sessions that can be resumed; the oldest go first. */
export const SESSIONS_KEPT_MAX = 10_000

/** Sessions with one peer that can be resumed: two nodes that dial each other at once have two for a moment. */
export const SESSIONS_KEPT_PER_PEER_MAX = 4

/** Bytes of the replay filter's state on disk. */
export const REPLAY_STATE_BYTES_MAX = 8 * 1024 * 1024

/** Peers' ML-DSA-65 keys that are remembered; the oldest go first. */
export const HYBRID_KEYS_KEPT_MAX = 10_000

/** Hand-overs of peers' keys that are remembered; the oldest go first, never those of this node. */
export const HANDOVERS_KEPT_MAX = 10_000

/** Keys that one peer has had in turn; beyond it the oldest hand-over is forgotten. */
export const KEY_CHAIN_MAX = 64

/** Peers and addresses with a penalty; those that were last heard of the longest time ago, and not banned, go first. */
export const PENALTIES_KEPT_MAX = 10_000

/** How long a penalty is kept after its last change and the end of its ban. */
export const PENALTY_AGE_MS_MAX = 30 * DAY_MS

/** Ratings of peers by peers, all together; the oldest go first. */
export const RATINGS_KEPT_MAX = 100_000

/** Ratings of one peer; the oldest go first. */
export const RATINGS_PER_SUBJECT_MAX = 1_000

/** Ratings that one peer has given; the oldest go first, so that it cannot push out what others said. */
export const RATINGS_PER_RATER_MAX = 1_000

/** Characters of the comment of a rating. */
export const RATING_COMMENT_CHARS_MAX = 200

/** Ratings that are shown of one peer, the newest first. */
export const RATINGS_SHOWN_MAX = 20

/** Peers whose work this node has counted; those seen the longest time ago go first. */
export const OBSERVED_PEERS_MAX = 10_000

/** Peers that are known, connected or not; those last seen the longest time ago go first. */
export const KNOWN_PEERS_KEPT_MAX = 2_000

/** Bytes of the signed record of such a peer. */
export const KNOWN_PEER_RECORD_BYTES_MAX = 3 * 1024

/** Characters of the topic under which such a peer was met. */
export const KNOWN_PEER_TOPIC_CHARS_MAX = 64

/** Entries of the audit log; the oldest go first. */
export const AUDIT_ENTRIES_MAX = 100_000

/** Entries that go in one turn, so that pruning never holds a node up: the log may be longer by as many for a moment. */
export const AUDIT_PRUNE_BATCH = 1_000

/** How long an entry of the audit log is kept. */
export const AUDIT_AGE_MS_MAX = 180 * DAY_MS

/** Between two looks for entries that are too old. */
export const AUDIT_PRUNE_PERIOD_MS = DAY_MS

/** Characters of the name of a kind of entry, and of the name of a fact. */
export const AUDIT_NAME_CHARS_MAX = 40

/** Characters of one fact; longer text is cut. */
export const AUDIT_TEXT_CHARS_MAX = 200

/** Bytes of all facts of one entry; what does not fit is left out. */
export const AUDIT_FACTS_BYTES_MAX = 2_048

/** Entries of one kind at once; what comes beyond is counted in one entry a minute. */
export const AUDIT_BURST_MAX = 100

/** Until one more entry of a kind may be written after a burst: 17 280 entries of a kind in a day. */
export const AUDIT_REFILL_MS = 5_000

/** Events of the same kind and peer within this time become one entry with a count. Doubles while they go on. */
export const AUDIT_FOLD_MS = 1_000

/** The longest time that events are counted before they are written. */
export const AUDIT_FOLD_MS_MAX = 60_000

/** Kinds and peers whose events are counted at the same time; those of others are counted by kind alone. */
export const AUDIT_FOLDS_MAX = 1_000

/** Entries until the node signs the end of the audit log. */
export const AUDIT_CHECKPOINT_ENTRIES = 64

/** The longest time that an entry stays unsigned while the node's key can sign. */
export const AUDIT_CHECKPOINT_MS_MAX = 60_000

/** Waiting for one signature of the audit log: a token or a service may take its time. */
export const AUDIT_SIGN_MS_MAX = 30_000

/** Waiting for the last signature when the node stops: a token or a service may not answer. */
export const AUDIT_CLOSE_MS_MAX = 3_000

// What is known about models (`manifests.ts`, `votes.ts`).

/** Models that a node knows; further ones are refused until one is removed. */
export const KNOWN_MODELS_MAX = 1_000

/** Bytes of the core of one. */
export const KNOWN_CORE_BYTES_MAX = 4 * 1024 * 1024

/** Bytes of all cores and manifests together. */
export const KNOWN_MODELS_BYTES_MAX = 256 * 1024 * 1024

/** Bytes of a signed manifest. */
export const MANIFEST_ENVELOPE_BYTES_MAX = 16 * 1024

/** Votes on models, all together; the oldest go first. */
export const VOTES_KEPT_MAX = 100_000

/** Votes on one model; the oldest go first. */
export const VOTES_PER_MODEL_MAX = 1_000

/** Votes that one peer has given; the oldest go first, so that it cannot push out what others said. */
export const VOTES_PER_VOTER_MAX = 1_000

/** Votes on one model that are shown and passed on, the newest first. */
export const VOTES_SHOWN_MAX = 100

/** Bytes of a signed vote. */
export const VOTE_ENVELOPE_BYTES_MAX = 1_280

// Attachments that arrive (`transfer-files.ts`).

/** Bytes of one read of an attachment's file: one chunk on the wire. */
export const ATTACHMENT_READ_BYTES = 252 * 1024

/** Bytes between two notes of how much of an arriving attachment is good: what a killed node fetches again at most. */
export const TRANSFER_NOTE_BYTES = 16 * 1024 * 1024

/** Bytes of such a note. */
export const TRANSFER_NOTE_TEXT_BYTES_MAX = 2_048

/** How long an unfinished attachment is kept. */
export const TRANSFER_KEPT_MS_MAX = DAY_MS

/** The thread that writes attachments ends when there was nothing to write for so long. */
export const TRANSFER_THREAD_IDLE_MS = 60_000

// What the DHT keeps (`key-value-store.ts`).

/** Entries that the DHT keeps between runs: records, sequence numbers, addresses. Those that expire first go first. */
export const KAD_ENTRIES_KEPT_MAX = 40_000

/** Bytes of one such entry. */
export const KAD_ENTRY_BYTES_MAX = 4 * 1024

/** Characters of the name of one. */
export const KAD_ENTRY_KEY_CHARS_MAX = 256

// Parts of model files, verified (`blobs/`).

/** Bytes of one file in the blob store: the hashes of its pieces take 64 bytes of memory for each MiB. */
export const BLOB_BYTES_MAX = 1024 ** 4

/** Files in the blob store. */
export const BLOBS_MAX = 1_000

/** Bytes of all files in the blob store. A setting: this is what it is when none is given. */
export const BLOB_QUOTA_BYTES = 256 * 1024 ** 3

/** Bytes of blocks that wait for the thread that verifies and writes them; further ones are refused. */
export const BLOB_QUEUE_BYTES_MAX = 64 * 1024 * 1024

/** Bytes of one turn of that thread: what comes meanwhile goes together with the next. */
export const BLOB_TURN_BYTES = 4 * 1024 * 1024

/** Turns that are on their way to that thread, so that it never waits. */
export const BLOB_TURNS_MAX = 2

/** Calls in one such turn. */
export const BLOB_TURN_CALLS_MAX = 256

/** Bytes of a write that is worth the way to yet another thread, so that more is verified meanwhile. */
export const BLOB_ASIDE_BYTES_MIN = 256 * 1024

/** How long a user's file that was touched while it was read again is left alone before the next try, in milliseconds. */
export const ADOPTED_RECHECK_MS = 10_000

/** Tries, before such a file counts as changed. */
export const ADOPTED_RECHECKS_MAX = 3

/** Threads that verify and write. A setting: this is the most that it can be. */
export const BLOB_THREADS_MAX = 4

/** Pieces of one file whose block hashes are in that thread's memory while they are written; 2 KiB each. */
export const BLOB_RECENT_LEAVES_MAX = 256

/** Bytes of buffers that are kept for reuse. */
export const BLOB_POOL_BYTES_MAX = 16 * 1024 * 1024

/** Bytes of blocks that are held because neither the hashes of their piece's blocks nor the rest of it has come. */
export const BLOB_HELD_BYTES_MAX = 32 * 1024 * 1024

/** Bytes that are written until they are put on the disk itself: what a loss of power costs hashing at most. */
export const BLOB_SYNC_BYTES = 512 * 1024 * 1024

/** How long what was written waits for that at most. */
export const BLOB_SYNC_MS = 30_000

/** Bytes by which a journal may outgrow what it says before it is written anew. */
export const JOURNAL_SLACK_BYTES = 256 * 1024

/** Bytes of a journal that are read. */
export const JOURNAL_BYTES_MAX = 64 * 1024 * 1024

/** Bytes of the note that says where an adopted file is. */
export const ADOPTION_BYTES_MAX = 16 * 1024
