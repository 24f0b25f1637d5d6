/** A whole node: builds the modules, wires them together, starts and stops them. */
export type * from './types.ts'
