/**
 * A bencoded dictionary as a list of spans. Keys of a .torrent's "piece layers" are hashes, which the decoder of
 * `bencode.ts` cannot name, and its values may be longer than that takes; nothing is copied or built here.
 */

/** Where a key's bytes and its value lie. */
export type DictEntry = { readonly key: Uint8Array; readonly value: Uint8Array }

const [CODE_0, CODE_9, CODE_D, CODE_E, CODE_I, CODE_L, MINUS, COLON] = [48, 57, 100, 101, 105, 108, 45, 58]
const LENGTH_DIGITS_MAX = 9
const INTEGER_DIGITS_MAX = 20

/**
 * Entries of a dictionary that is all of `bytes`, in their order; whether values are well-formed inside is left open.
 * @returns undefined for anything else, or with more than `entriesMax` entries
 */
export function splitDict(bytes: Uint8Array, entriesMax: number): DictEntry[] | undefined {
  if (bytes[0] !== CODE_D) return undefined
  const entries: DictEntry[] = []
  let at = 1
  while (bytes[at] !== CODE_E) {
    const key = stringAt(bytes, at)
    const end = key === undefined ? undefined : valueEnd(bytes, key.end)
    if (key === undefined || end === undefined || entries.length === entriesMax) return undefined
    entries.push({ key: bytes.subarray(key.from, key.end), value: bytes.subarray(key.end, end) })
    at = end
  }
  return at === bytes.byteLength - 1 ? entries : undefined
}

/** The bytes of a string that is all of `bytes`. */
export function stringIn(bytes: Uint8Array): Uint8Array | undefined {
  const span = stringAt(bytes, 0)
  return span?.end === bytes.byteLength ? bytes.subarray(span.from) : undefined
}

/** Where the value at `from` ends. Lists and dictionaries are counted, not entered: no depth costs anything. */
function valueEnd(bytes: Uint8Array, from: number): number | undefined {
  let at = from
  let open = 0
  do {
    const code = bytes[at]
    if (code === CODE_L || code === CODE_D) {
      open++
      at++
    } else if (code === CODE_E) {
      open--
      at++
    } else {
      const end = code === CODE_I ? integerEnd(bytes, at + 1) : stringAt(bytes, at)?.end
      if (end === undefined) return undefined
      at = end
    }
  } while (open > 0)
  return open === 0 ? at : undefined
}

function integerEnd(bytes: Uint8Array, from: number): number | undefined {
  const digitsAt = bytes[from] === MINUS ? from + 1 : from
  const end = digitsEnd(bytes, digitsAt, INTEGER_DIGITS_MAX)
  return end > digitsAt && bytes[end] === CODE_E ? end + 1 : undefined
}

function stringAt(bytes: Uint8Array, at: number): { readonly from: number; readonly end: number } | undefined {
  const colonAt = digitsEnd(bytes, at, LENGTH_DIGITS_MAX)
  if (colonAt === at || bytes[colonAt] !== COLON || (bytes[at] === CODE_0 && colonAt > at + 1)) return undefined
  let length = 0
  for (let digit = at; digit < colonAt; digit++) length = 10 * length + (bytes[digit] ?? 0) - CODE_0
  const from = colonAt + 1
  return length <= bytes.byteLength - from ? { from, end: from + length } : undefined
}

function digitsEnd(bytes: Uint8Array, from: number, digitsMax: number): number {
  let at = from
  while (at - from < digitsMax && (bytes[at] ?? 0) >= CODE_0 && (bytes[at] ?? 0) <= CODE_9) at++
  return at
}
