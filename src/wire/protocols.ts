/** Every protocol id that Koinon speaks, in one place. The form is `/koinon/NAME/MAJOR`. */

/** This software's name and version, as peers and people read it. */
export const AGENT = 'koinon/0.1.0'

export const PROTOCOLS = {
  /** Admission and what a node offers: the first stream on every connection. */
  hello: '/koinon/hello/1',
  /** Generations over stages: OPEN, CANCEL, steps. */
  stage: '/koinon/stage/1',
} as const

export type ProtocolId = (typeof PROTOCOLS)[keyof typeof PROTOCOLS]
