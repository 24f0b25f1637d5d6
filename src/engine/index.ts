/** The compute engine: ggml by FFI in child processes. The one module that knows ggml. */
export type * from './types.ts'
