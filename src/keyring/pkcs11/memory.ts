/**
 * Memory as PKCS #11 lays it out: CK_ULONG is the platform's `unsigned long` (4 bytes on Windows, else 8), and on Windows
 * structures are packed.
 */
import koffi from 'koffi'
import { endianness } from 'node:os'

const IS_PACKED = process.platform === 'win32'
const IS_LITTLE = endianness() === 'LE'
const POINTER_BYTES = koffi.sizeof('void *')

const ULONG_BYTES = koffi.sizeof('unsigned long')

/** CK_VERSION is two bytes; the pointers of CK_FUNCTION_LIST follow it. */
export const FUNCTION_LIST_OFFSET = IS_PACKED ? 2 : POINTER_BYTES

/** CK_ATTRIBUTE and CK_MECHANISM alike: a number, a pointer, a length. */
const RECORD = {
  pointer: IS_PACKED ? ULONG_BYTES : POINTER_BYTES,
  length: (IS_PACKED ? ULONG_BYTES : POINTER_BYTES) + POINTER_BYTES,
  size: (IS_PACKED ? ULONG_BYTES : POINTER_BYTES) + POINTER_BYTES + ULONG_BYTES,
} as const

/** CK_C_INITIALIZE_ARGS: four pointers to functions, flags, a pointer. */
const INITIALIZE_FLAGS = 4 * POINTER_BYTES

/** Numbers that the module writes or reads. */
export class Ulongs {
  readonly bytes: Uint8Array
  readonly #view: DataView

  constructor(count: number, first = 0) {
    // Bytes of a buffer of their own never move, as small arrays may.
    this.bytes = new Uint8Array(new ArrayBuffer(count * ULONG_BYTES))
    this.#view = new DataView(this.bytes.buffer)
    writeUlong(this.#view, 0, first)
  }

  at(index: number): number {
    return readUlong(this.#view, index * ULONG_BYTES)
  }
}

/**
 * A copy that a thread can read while the caller goes on: it has memory of its own, which does not move, and an address
 * even where it is empty.
 */
export function stableCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(Math.max(1, bytes.byteLength)))
  copy.set(bytes)
  return copy
}

/** One CK_ULONG as an attribute's value. */
export function ulongBytes(value: number): Uint8Array {
  return new Ulongs(1, value).bytes
}

/** CK_MECHANISM without a parameter, which for CKM_EDDSA means plain Ed25519 (RFC 8032, section 5.1). */
export function mechanismBytes(mechanism: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(RECORD.size))
  writeUlong(new DataView(bytes.buffer), 0, mechanism)
  return bytes
}

/** CK_C_INITIALIZE_ARGS that let the module use the system's locks: calls come from several threads, though in turn. */
export function initializeBytes(flags: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(6 * POINTER_BYTES))
  writeUlong(new DataView(bytes.buffer), INITIALIZE_FLAGS, flags)
  return bytes
}

/** A list of CK_ATTRIBUTE with its values, which live as long as it does. */
export class Template {
  readonly bytes: Uint8Array
  readonly count: number
  readonly values: readonly Uint8Array[]
  readonly #view: DataView

  constructor(attributes: readonly (readonly [type: number, value: Uint8Array])[]) {
    this.count = attributes.length
    this.bytes = new Uint8Array(new ArrayBuffer(attributes.length * RECORD.size))
    this.#view = new DataView(this.bytes.buffer)
    this.values = attributes.map(([, value]) => value)
    for (const [index, [type, value]] of attributes.entries()) {
      const offset = index * RECORD.size
      writeUlong(this.#view, offset, type)
      this.#view.setBigUint64(offset + RECORD.pointer, value.byteLength === 0 ? 0n : koffi.address(value), IS_LITTLE)
      writeUlong(this.#view, offset + RECORD.length, value.byteLength)
    }
  }

  /** What the module wrote; undefined where the object has no such attribute, or gives it to nobody. */
  valueAt(index: number): Uint8Array | undefined {
    const value = this.values[index]
    const length = readUlong(this.#view, index * RECORD.size + RECORD.length)
    return value === undefined || length > value.byteLength ? undefined : value.slice(0, length)
  }
}

export function readUlong(view: DataView, offset: number): number {
  return ULONG_BYTES === 4 ? view.getUint32(offset, IS_LITTLE) : Number(view.getBigUint64(offset, IS_LITTLE))
}

function writeUlong(view: DataView, offset: number, value: number): void {
  if (ULONG_BYTES === 4) view.setUint32(offset, value, IS_LITTLE)
  else view.setBigUint64(offset, BigInt(value), IS_LITTLE)
}
