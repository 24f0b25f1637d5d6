/**
 * libp2p's record, the protobuf in which kad-dht gives values to its datastore and to peers
 * (https://github.com/libp2p/specs/tree/master/kad-dht#rpc-messages):
 *
 *   Record { bytes key = 1; bytes value = 2; string timeReceived = 5 }
 *
 * The library does not export its codec, and needs one written here only where values enter and leave its datastore.
 */
import { concatBytes } from '#base'

export type Libp2pRecord = { readonly key: Uint8Array; readonly value: Uint8Array }

const KEY_TAG = 0x0a
const VALUE_TAG = 0x12
const TIME_TAG = 0x2a
/** Length-delimited: the only wire type that a record has. */
const BYTES_TYPE = 2

/** @param timeReceived Unix milliseconds; kad-dht gives no record away that it thinks older than 48 hours */
export function encodeLibp2pRecord({ key, value }: Libp2pRecord, timeReceived: number): Uint8Array {
  const time = new TextEncoder().encode(new Date(timeReceived).toISOString().replace('Z', '000000Z'))
  return concatBytes([...field(KEY_TAG, key), ...field(VALUE_TAG, value), ...field(TIME_TAG, time)])
}

/** Undefined for anything but such a record. Fields of other numbers are passed over. */
export function decodeLibp2pRecord(bytes: Uint8Array): Libp2pRecord | undefined {
  let key: Uint8Array | undefined
  let value: Uint8Array | undefined
  for (let at = 0; at < bytes.byteLength; ) {
    const tag = readVarint(bytes, at)
    if (tag === undefined || (tag.value & 7) !== BYTES_TYPE) return undefined
    const size = readVarint(bytes, tag.end)
    if (size === undefined || size.end + size.value > bytes.byteLength) return undefined
    const content = bytes.slice(size.end, size.end + size.value)
    if (tag.value === KEY_TAG) key = content
    if (tag.value === VALUE_TAG) value = content
    at = size.end + size.value
  }
  return key === undefined || value === undefined ? undefined : { key, value }
}

function field(tag: number, content: Uint8Array): Uint8Array[] {
  return [Uint8Array.of(tag, ...varint(content.byteLength)), content]
}

/** Unsigned LEB128, the varint of protobuf and of multiformats. */
export function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80)
    rest = Math.floor(rest / 0x80)
  }
  bytes.push(rest)
  return bytes
}

/** Of 32 bits at most: more is nothing that a record of ours can hold. */
function readVarint(bytes: Uint8Array, from: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0
  for (let i = 0; i < 5; i++) {
    const byte = bytes[from + i]
    if (byte === undefined) return undefined
    value += (byte & 0x7f) * 2 ** (7 * i)
    if (byte < 0x80) return { value, end: from + i + 1 }
  }
  return undefined
}
