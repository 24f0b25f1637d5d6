/** Bounds of sessions, frames, replay protection and commands. Each is listed in `docs/reference/limits.md`. */

// Sessions and their frames (`secure-session.ts`, `sealed-channel.ts`).

/** How far the time in a frame may lie from ours, corrected by the measured offset of the clocks, in milliseconds. */
export const FRAME_AGE_MS_MAX = 30_000

/** Control frames that may overtake one another: a sequence further back or further ahead is refused. */
export const REORDER_WINDOW = 256

/** Bytes of control messages under one key. AES-GCM would bear 1024 times as much; this is what a stolen key opens. */
export const CONTROL_REKEY_BYTES = 1024 * 1024 * 1024

/** Bytes of one stream's direction under one key: 2^32 blocks, so an attacker's advantage stays below 2^-62. */
export const CHANNEL_REKEY_BYTES = 64 * 1024 * 1024 * 1024

/** Frames under one key, of control or of a stream. */
export const REKEY_FRAMES = 2 ** 32

/** Age at which a key is replaced by the next frame that is sent, in milliseconds. */
export const REKEY_MS = 10 * 60 * 1000

/** Keys that a sender may be ahead of what has arrived, and that are kept behind it for what was overtaken. */
export const REKEYS_AHEAD_MAX = 4

/** How long the key before the newest one still opens control frames that were overtaken, in milliseconds. */
export const OLD_KEY_MS_MAX = 10_000

/** Streams of one side that may overtake one another when they begin. */
export const CHANNELS_AHEAD_MAX = 256

// Sealed streams (`sealed-stream.ts`).

/** Bytes of a stream in one sealed frame: a longer write is cut. */
export const SEALED_PART_BYTES_MAX = 256 * 1024

/** From the first byte of waiting for a stream's opening frame to having it, in milliseconds. */
export const SEALED_OPEN_MS_MAX = 10_000

// Replay filter (`replay-filter.ts`).

/** Frames that one generation of the replay filter remembers: 2184 a second for a minute. */
export const REPLAY_FRAMES_MAX = 2 ** 17

/** How far ahead of the accepted frames the persisted horizon lies, in milliseconds: a write to disk each so often. */
export const REPLAY_LEASE_MS = 5_000
