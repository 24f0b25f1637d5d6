/**
 * The type byte of a frame: bit 7 says that the session sealed it, the other bits what it is. Numbers are never used
 * again for something else.
 */
export const SEALED_BIT = 0x80

export const FRAME_TYPES = {
  // Before there is a session: signed, in clear.
  hello: 1,
  handshake: 2,
  resume: 3,
  /** In clear before the session, encrypted in it. */
  refuse: 4,
  // In a session: signed, payload encrypted.
  proof: 5,
  info: 6,
  offer: 7,
  peers: 8,
  ping: 9,
  pong: 10,
  rotation: 11,
  goodbye: 12,
  // Answers to commands.
  response: 16,
  event: 17,
  error: 18,
  cancel: 19,
  /** Bytes of a stream: only ever sealed. */
  data: 20,
} as const

/** Commands of Koinon itself take the types from here. */
export const COMMAND_TYPE_MIN = 32
/** Commands of plug-ins take the types from here. */
export const PLUGIN_TYPE_MIN = 64
export const COMMAND_TYPE_MAX = 0x7f
