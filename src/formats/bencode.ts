/**
 * Bencode (BEP 3), behind checks. The library that decodes takes negative lengths (and then reads in a circle until the
 * memory is full), lengths beyond the end, fractions, keys that set a prototype, and integers that a double cannot hold.
 * So nothing reaches it that was not walked first: what is walked is what it reads, within the bounds.
 */
// @ts-expect-error The package has no types; what is used of it is stated below.
import bencode from 'bencode'
import { BENCODE_DEPTH_MAX } from './limits.ts'

/** What bencode can say: dictionaries have text keys here. */
export type BencodeValue = number | Uint8Array | readonly BencodeValue[] | { readonly [key: string]: BencodeValue }

const library = bencode as { encode(value: BencodeValue): Uint8Array; decode(bytes: Uint8Array): BencodeValue }

const [CODE_0, CODE_9, CODE_D, CODE_E, CODE_I, CODE_L, MINUS, COLON] = [48, 57, 100, 101, 105, 108, 45, 58]
const WRONG = -1
/** Digits of an integer that a double may hold exactly, and of a length that is looked at. */
const INTEGER_DIGITS_MAX = 16
const LENGTH_DIGITS_MAX = 7
const SHORT_KEY_BYTES = 16

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The value that bytes begin with, and where it ends: messages of BEP 9 have raw bytes behind it.
 * @returns undefined where they begin with no whole, well-formed value
 */
export function decodeBencodePrefix(
  bytes: Uint8Array,
): { readonly value: BencodeValue; readonly end: number } | undefined {
  const end = walk(bytes, 0, BENCODE_DEPTH_MAX)
  return end === WRONG ? undefined : { value: library.decode(bytes.subarray(0, end)), end }
}

/** The value; undefined where the bytes are not one whole, well-formed value. Keys may come in any order, each once. */
export function decodeBencode(bytes: Uint8Array): BencodeValue | undefined {
  if (walk(bytes, 0, BENCODE_DEPTH_MAX) !== bytes.byteLength) return undefined
  return library.decode(bytes)
}

/** The one canonical form; undefined for what bencode cannot say exactly. */
export function encodeBencode(value: BencodeValue): Uint8Array<ArrayBuffer> | undefined {
  return isSayable(value, BENCODE_DEPTH_MAX) ? new Uint8Array(library.encode(value)) : undefined
}

export function isDict(value: BencodeValue | undefined): value is { readonly [key: string]: BencodeValue } {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
}

/** Where the value at `at` ends. */
function walk(bytes: Uint8Array, at: number, depth: number): number {
  const code = bytes[at]
  if (code === CODE_I) return walkInteger(bytes, at + 1)
  if (code === CODE_L || code === CODE_D) {
    if (depth === 0) return WRONG
    return code === CODE_L ? walkList(bytes, at + 1, depth - 1) : walkDict(bytes, at + 1, depth - 1)
  }
  return walkString(bytes, at)?.end ?? WRONG
}

function walkInteger(bytes: Uint8Array, at: number): number {
  const digitsAt = bytes[at] === MINUS ? at + 1 : at
  const end = digitsEnd(bytes, digitsAt, INTEGER_DIGITS_MAX)
  if (bytes[end] !== CODE_E || hasIdleZero(bytes, digitsAt, end)) return WRONG
  if (digitsAt > at && bytes[digitsAt] === CODE_0) return WRONG // No minus zero.
  return Number.isSafeInteger(numberIn(bytes, digitsAt, end)) ? end + 1 : WRONG
}

function walkString(bytes: Uint8Array, at: number): { readonly from: number; readonly end: number } | undefined {
  const colonAt = digitsEnd(bytes, at, LENGTH_DIGITS_MAX)
  if (bytes[colonAt] !== COLON || hasIdleZero(bytes, at, colonAt)) return undefined
  const from = colonAt + 1
  const end = from + numberIn(bytes, at, colonAt)
  return end <= bytes.byteLength ? { from, end } : undefined
}

function walkList(bytes: Uint8Array, from: number, depth: number): number {
  let at = from
  while (at < bytes.byteLength && bytes[at] !== CODE_E) {
    at = walk(bytes, at, depth)
    if (at === WRONG) return WRONG
  }
  return at < bytes.byteLength ? at + 1 : WRONG
}

function walkDict(bytes: Uint8Array, from: number, depth: number): number {
  const keys = new Set<string>()
  let at = from
  while (at < bytes.byteLength && bytes[at] !== CODE_E) {
    const span = walkString(bytes, at)
    const key = span === undefined ? undefined : decodeKey(bytes.subarray(span.from, span.end))
    if (span === undefined || key === undefined || keys.has(key)) return WRONG
    keys.add(key)
    at = walk(bytes, span.end, depth)
    if (at === WRONG) return WRONG
  }
  return at < bytes.byteLength ? at + 1 : WRONG
}

/** The library gives other names to keys that are not UTF-8, or that hold the sign for such bytes. */
function decodeKey(bytes: Uint8Array): string | undefined {
  // Nearly all keys are ASCII, and the decoder costs more than the key.
  if (bytes.byteLength <= SHORT_KEY_BYTES && bytes.every(byte => byte < 0x80)) {
    const key = String.fromCharCode(...bytes)
    return isKey(key) ? key : undefined
  }
  try {
    const key = utf8.decode(bytes)
    return isKey(key) ? key : undefined
  } catch {
    return undefined // Not UTF-8.
  }
}

function isKey(key: string): boolean {
  return key !== '__proto__' && key.isWellFormed() && !key.includes('\uFFFD')
}

function digitsEnd(bytes: Uint8Array, from: number, digitsMax: number): number {
  let at = from
  while (at - from < digitsMax && (bytes[at] ?? 0) >= CODE_0 && (bytes[at] ?? 0) <= CODE_9) at++
  return at
}

/** No digits at all, or a zero before others. */
function hasIdleZero(bytes: Uint8Array, from: number, end: number): boolean {
  return end === from || (bytes[from] === CODE_0 && end > from + 1)
}

function numberIn(bytes: Uint8Array, from: number, end: number): number {
  let number = 0
  for (let at = from; at < end; at++) number = 10 * number + (bytes[at] ?? 0) - CODE_0
  return number
}

function isSayable(value: unknown, depth: number): boolean {
  if (typeof value === 'number') return Number.isSafeInteger(value)
  if (value instanceof Uint8Array) return true
  if (typeof value !== 'object' || value === null || depth === 0) return false
  if (Array.isArray(value)) return value.every(item => isSayable(item, depth - 1))
  const entries = Object.entries(value)
  // The library sorts by UTF-16 units, bencode by bytes: they differ where surrogates are involved.
  return entries.every(([key, item]) => isKey(key) && !/[\uD800-\uDFFF]/.test(key) && isSayable(item, depth - 1))
}
