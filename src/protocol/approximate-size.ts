/** About how many bytes a message's body holds in memory: for bounds on what is kept, where exactness is not worth it. */

/** What a value costs beside its content. */
const OVERHEAD_BYTES = 8

/** @param value plain data without cycles, as it comes out of a schema */
export function approximateSize(value: unknown): number {
  if (typeof value === 'string') return OVERHEAD_BYTES + value.length
  if (value instanceof Uint8Array) return OVERHEAD_BYTES + value.byteLength
  if (typeof value !== 'object' || value === null) return OVERHEAD_BYTES
  let size = OVERHEAD_BYTES
  for (const [key, field] of Object.entries(value)) size += key.length + approximateSize(field)
  return size
}
