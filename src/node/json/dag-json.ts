/** Bytes in JSON, as dag-json writes them: {"/": {"bytes": base64 without padding}}. */

/** Turns that form into bytes, wherever it is in the value. Undefined: some of it is no base64. */
export function fromDagJson(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    const items = value.map(fromDagJson)
    return items.includes(undefined) ? undefined : items
  }
  const text = bytesText(value)
  if (text !== undefined) return fromBase64(text)
  const entries = Object.entries(value).map(([key, field]) => [key, fromDagJson(field)] as const)
  return entries.some(([, field]) => field === undefined) ? undefined : Object.fromEntries(entries)
}

/** Turns bytes into that form, wherever they are in the value. */
export function toDagJson(value: unknown): unknown {
  if (value instanceof Uint8Array) return { '/': { bytes: toBase64(value).replace(/=+$/, '') } }
  if (Array.isArray(value)) return value.map(toDagJson)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, toDagJson(field)]))
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** With padding or without. Undefined: it is no base64. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  // Node ignores what does not fit; a text of four characters makes three bytes and nothing else does.
  const digits = text.replace(/=+$/, '').length
  return digits % 4 === 1 ? undefined : new Uint8Array(bytes)
}

/** The text of {"/": {"bytes": text}}. */
function bytesText(value: object): string | undefined {
  const inner: unknown = Object.keys(value).length === 1 && '/' in value ? value['/'] : undefined
  if (typeof inner !== 'object' || inner === null || Object.keys(inner).length !== 1 || !('bytes' in inner)) {
    return undefined
  }
  return typeof inner.bytes === 'string' ? inner.bytes : undefined
}
