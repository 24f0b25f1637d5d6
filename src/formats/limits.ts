/** Sizes and counts that bound what a model file or a chat template may cost. Listed in `docs/reference/limits.md`. */

/** Metadata entries of one GGUF file; real ones have 20 to 60. */
export const GGUF_METADATA_MAX = 65_536

/** Tensors of one GGUF file; the largest known models have a few thousand. */
export const GGUF_TENSORS_MAX = 65_536

/** Bytes of one metadata string: chat templates and embedded tokenizers reach some megabytes. */
export const GGUF_STRING_BYTES_MAX = 32 * 1024 * 1024

/** Bytes of a metadata key or tensor name. ggml itself holds 64 bytes of a tensor's name. */
export const GGUF_NAME_BYTES_MAX = 1024

/** Items of all metadata arrays together: four arrays over a vocabulary of 262 144 tokens need 1.3 million. */
export const GGUF_ARRAY_ITEMS_MAX = 8 * 1024 * 1024

/** Bytes of everything before the tensor data. */
export const GGUF_HEADER_BYTES_MAX = 128 * 1024 * 1024

/** Bytes fetched at a time while the header is read. */
export const GGUF_BLOCK_BYTES = 256 * 1024

/** Layers of one model. */
export const MODEL_LAYERS_MAX = 1_000

/** Numbers in a hidden row or a feed-forward row, and heads: beyond it a file lies. */
export const MODEL_WIDTH_MAX = 1_000_000

/** Positions that a model says it was trained for. */
export const MODEL_CONTEXT_MAX = 100_000_000

/** UTF-16 units of a model's name: offers to peers have room for 200. */
export const MODEL_NAME_SHOWN_MAX = 199

/** Stop texts of one request. OpenAI allows 4. */
export const STOP_TEXTS_MAX = 16

/** UTF-16 units of one stop text. */
export const STOP_TEXT_LENGTH_MAX = 1_024

/** Time that a chat template may take once its process is up, while it has the processor: real ones take one or two milliseconds. */
export const TEMPLATE_TIMEOUT_MS = 250

/** How often a chat template is begun, each time with twice the time, where others have the processor. */
export const TEMPLATE_TRIES_MAX = 4

/** Time that a template process may take to start: much on a machine that is busy loading a model. */
export const TEMPLATE_START_MS = 20_000

/** Time beyond the template's own after which a template process that says nothing is ended. */
export const TEMPLATE_GRACE_MS = 1_000

/** Heap of a template process, in MiB. */
export const TEMPLATE_HEAP_MB = 64

/** UTF-16 units of a chat template: the longest known ones have some 20 000. */
export const TEMPLATE_SOURCE_MAX = 256 * 1024

/** UTF-16 units of all messages that go into a template. */
export const TEMPLATE_INPUT_MAX = 1024 * 1024

/** Messages that go into a template. */
export const TEMPLATE_MESSAGES_MAX = 4_096

/** Bytes (UTF-8) that a template may make. */
export const TEMPLATE_OUTPUT_BYTES_MAX = 1024 * 1024

/** Template processes, one rendering each at a time. */
export const TEMPLATE_WORKERS_MAX = 2

/** Renderings that may wait for a process. */
export const TEMPLATE_QUEUE_MAX = 64

/** Lists and dictionaries within one another in bencoded bytes. */
export const BENCODE_DEPTH_MAX = 16

// What describes a model (`core.ts`, `torrent.ts`, `magnet.ts`, `manifest.ts`).

/** Bytes of a model's core; 65 536 tensors with names of a usual length. Real ones have 10 to 200 KB. */
export const CORE_BYTES_MAX = 4 * 1024 * 1024

/** Bytes of a model's file: the largest known one has 1.9 TiB. */
export const MODEL_FILE_BYTES_MAX = 2 * 1024 ** 4

/** Bytes before the first tensor: a header as long as one may be, and the alignment behind it. */
export const CORE_HEADER_BYTES_MAX = GGUF_HEADER_BYTES_MAX + 1024 * 1024

/** Offsets of tensors are multiples of it: GGUF's alignments are. */
export const CORE_ALIGNMENT = 8

/** Bytes of a torrent's info dictionary. That of a model has 300. */
export const TORRENT_INFO_BYTES_MAX = 1024 * 1024

/** Bytes of a .torrent file: the piece hashes of the largest model take 64 MiB. */
export const TORRENT_FILE_BYTES_MAX = 66 * 1024 * 1024

/** Files of a torrent that is looked at. */
export const TORRENT_FILES_MAX = 1_000

/** Pieces of a torrent. */
export const TORRENT_PIECES_MAX = 4 * 1024 * 1024

/** Entries of a dictionary of a .torrent file. */
export const TORRENT_KEYS_MAX = 1_000

/** Characters of the path of a file in a torrent, as it is shown. */
export const TORRENT_PATH_CHARS_MAX = 300

/** Characters of a magnet link. */
export const MAGNET_CHARS_MAX = 8_192

/** Peers that are read from a magnet link. */
export const MAGNET_PEERS_MAX = 32

/** Characters of the name in a magnet link; a longer one is cut. */
export const MAGNET_NAME_CHARS_MAX = 200

/** Bytes of a manifest: with its signature it fits into an envelope. */
export const MANIFEST_BYTES_MAX = 15 * 1024

/** UTF-16 units of a model's name in its manifest. */
export const MANIFEST_NAME_CHARS_MAX = 200

/** Characters of the name of an architecture. */
export const MANIFEST_ARCHITECTURE_CHARS_MAX = 40

/** UTF-16 units of what a manifest says about the licence: a name, or where it can be read. */
export const MANIFEST_LICENCE_CHARS_MAX = 200

/** Benchmark results of one model card. */
export const CARD_BENCHMARKS_MAX = 16

/** UTF-16 units of the name of a benchmark. */
export const CARD_BENCHMARK_NAME_CHARS_MAX = 60

/** UTF-16 units of the unit of a benchmark's score. */
export const CARD_BENCHMARK_UNIT_CHARS_MAX = 20

/** Places where a model card says that the file is. */
export const CARD_SOURCES_MAX = 8

/** Characters of such a URL. */
export const CARD_SOURCE_CHARS_MAX = 300

/** Probes of one test vector: of models with more layers some are left out. */
export const CARD_PROBES_MAX = 128

/** Characters of the profile of a test vector. */
export const CARD_PROFILE_CHARS_MAX = 200

/** UTF-16 units of the comment of a vote. */
export const VOTE_COMMENT_CHARS_MAX = 200

/** Bytes of a vote without its signature. */
export const VOTE_BYTES_MAX = 1_024

/** Threads that hash one file. A setting: this is the most that it can be. */
export const HASH_THREADS_MAX = 4

/** Pieces that a thread takes at a time when it hashes a file. */
export const HASH_RUN_PIECES = 8
