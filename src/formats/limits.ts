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

/** Time that a chat template may take once its process is up: real ones take one or two milliseconds. */
export const TEMPLATE_TIMEOUT_MS = 250

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
