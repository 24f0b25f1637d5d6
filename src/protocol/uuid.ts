/** UUIDs (RFC 9562), version 4: random. */
import type { Random } from '#base'

export function newUuid(random: Random): Uint8Array<ArrayBuffer> {
  const id = random.bytes(16)
  id[6] = ((id[6] ?? 0) & 0x0f) | 0x40
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80
  return id
}

/** The text form of a UUID: 8-4-4-4-12 hexadecimal digits. */
export function uuidText(bytes: Uint8Array): string {
  const hex = Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
