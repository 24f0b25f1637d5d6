/**
 * Node's functions answer with `Buffer`s, whose `slice` and `equals` are not those of a `Uint8Array`, and which may be
 * views on a pool that others share. Nothing of that leaves this module.
 */

/** The same memory as a plain array. For results that Node has allocated alone: a pool is never written to twice. */
export function plain(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
}

/** A copy that owns its memory. For what is small and kept: as a view it could keep a whole pool alive. */
export function owned(buffer: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer)
}

/** The same memory as a `Buffer`, which is what Node's types ask for. No copy: secrets should lie about only once. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
