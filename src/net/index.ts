/** The libp2p host. */
export type * from './types.ts'
