/** What a thread that hashes is told, and what it says. */

export type HashTask = {
  /** Of a file that is open in this process. */
  readonly descriptor: number
  readonly size: number
  /** An Int32: the first piece that no thread has taken. */
  readonly next: SharedArrayBuffer
  /** Where the hashes of the pieces go. */
  readonly layer: SharedArrayBuffer
  /** Where the hashes of the leaves go. */
  readonly leaves: SharedArrayBuffer
}

export type HashAnswer =
  /** A run was hashed. */
  | { readonly kind: 'run'; readonly bytes: number }
  /** The file ends before it should. */
  | { readonly kind: 'short'; readonly size: number }
  | { readonly kind: 'failed'; readonly reason: string }
