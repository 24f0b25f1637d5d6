/** Generations over stages. */
export type * from './types.ts'
