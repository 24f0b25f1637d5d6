/** Sizes and counts that bound what an engine does. Each is listed in `docs/reference/limits.md`. */

/** Threads of one compute: more than any machine has that this runs on. */
export const THREADS_MAX = 4_096

/** Devices and extra buffer types that are looked at; machines have a handful. */
export const BACKEND_DEVICES_MAX = 64

/** Rows of one step. llama.cpp cuts prompts at the same number, and equal cuts are part of equal results. */
export const STEP_ROWS_MAX = 512

/** Generations that one stage can hold at once; as in a node's offer. */
export const SLOTS_MAX = 1_024

/** Positions of one slot. */
export const CONTEXT_MAX = 10_000_000

/** Decoding graphs that are kept; each costs about 0.3 MB at 16 layers. */
export const GRAPHS_KEPT_MAX = 64

/**
 * Largest magnitude of a number in a hidden row. Trained models stay below 1e6 (Gemma 3 27B comes to 8e5, most to 1e4);
 * up to here the squares of a row of 65 536 numbers, which the next norm adds up, stay within f32.
 */
export const HIDDEN_MAGNITUDE_MAX = 2 ** 30

/** Largest magnitude of a logit. Heads give below 1e3; differences of this size mean that the softmax knows one token only. */
export const LOGIT_MAGNITUDE_MAX = 2 ** 20

/** Tokens that one call embeds. */
export const EMBED_TOKENS_MAX = 4_096

/** Payload bytes of one message between the node and an engine child: 1024 rows of a model of width 16 384. */
export const CHILD_FRAME_BYTES_MAX = 64 * 1024 * 1024

/** Requests that wait for one engine child; the next one is refused with ENGINE_BUSY. */
export const CHILD_WAITING_MAX = 256

/** Bytes that wait in the pipe to one engine child; beyond it requests are refused with ENGINE_BUSY. */
export const CHILD_WAITING_BYTES_MAX = 256 * 1024 * 1024

/** From the start of an engine child until it says that it takes commands. */
export const CHILD_START_MS_MAX = 30_000

/** Longest silence while an engine child loads: a large tensor from a slow disk takes seconds. */
export const CHILD_LOAD_SILENCE_MS_MAX = 180_000

/** Longest wait for the answer to one request, with those before it; then the child counts as hung and is killed. */
export const CHILD_REQUEST_MS_MAX = 600_000

/** From asking an engine child to end until it is killed. */
export const CHILD_STOP_MS_MAX = 3_000

/** Restarts of one engine child within a minute; one crash more and it stays down. */
export const CHILD_RESTARTS_MAX = 3

/** The minute over which restarts are counted. */
export const CHILD_RESTART_WINDOW_MS = 60_000

/** What is kept of an engine child's stderr for the crash report. */
export const CHILD_STDERR_BYTES_MAX = 4096

/** JavaScript heap of an engine child. Weights and KV rows lie outside of it; the file's description inside. */
export const CHILD_HEAP_BYTES_MAX = 1024 * 1024 * 1024

/** Memory of an engine child beyond weights, KV rows, work and heap: libraries, threads' stacks, vocabulary and samplers. */
export const CHILD_MARGIN_BYTES = 512 * 1024 * 1024

/** Files and pipes that an engine child may have open. */
export const CHILD_FILES_MAX = 256

/** The same where it uses a graphics card, whose driver opens its devices many times. */
export const CHILD_GPU_FILES_MAX = 4_096

/** Time between two looks at the processor time of an engine child, in milliseconds. */
export const CHILD_PROCESSOR_LOOK_MS = 5_000

/** Processor time that an engine child may use beyond its rates, in milliseconds; then it is killed. */
export const CHILD_PROCESSOR_BURST_MS = 10_000

/** Threads whose time an engine child may use beside those that compute, while something is asked of it. */
export const CHILD_PROCESSOR_SPARE_THREADS = 1

/** Processors that an engine child may use while nothing is asked of it. */
export const CHILD_PROCESSOR_IDLE_SHARE = 0.1

/** How long after an answer an engine child still counts as asked, in milliseconds. */
export const CHILD_IDLE_AFTER_MS = 10_000

/** Largest relative deviation from a test vector that was made with the same numeric profile, where results are equal. */
export const TRIAL_SAME_PROFILE_DEVIATION_MAX = 1e-4

/** The same for another profile: other processors, graphics cards and threads round elsewhere. docs/decisions/0013 has the numbers. */
export const TRIAL_OTHER_PROFILE_DEVIATION_MAX = 0.02

/** Samplers open at once in one edge engine: one per generation. */
export const SAMPLERS_MAX = 256

/** One text to tokenize. */
export const TEXT_BYTES_MAX = 4 * 1024 * 1024

/** One token's text; a vocabulary with a longer one is refused where it is asked for. */
export const PIECE_BYTES_MAX = 64 * 1024

/** Alternatives with log-probabilities for one token, as in OpenAI's API. */
export const TOP_LOGPROBS_MAX = 20

/** Entries of one request's logit bias. */
export const LOGIT_BIAS_MAX = 1024

/** Tokens that penalties look back. */
export const PENALTY_TOKENS_MAX = 65_536
