/**
 * Reads the header of a GGUF file: metadata and tensor index.
 *
 *   "GGUF" | version u32 | tensors u64 | entries u64
 *   entries times:  key string | type u32 | value
 *   tensors times:  name string | dimensions u32 | dims u64... | ggml type u32 | offset u64
 *   padding to the alignment, then tensor data; each offset counts from its start
 *
 * A string is its length (u64) and UTF-8 bytes; everything is little-endian. Versions 2 and 3 are equal in this order
 * of bytes. Source: ggml's `docs/gguf.md` and `gguf.cpp`.
 */
import type { ByteSource } from './byte-source.ts'
import { FormatError } from './errors.ts'
import { type GgmlType, GGML_TYPES, tensorBytes } from './ggml-types.ts'
import { HeaderReader } from './header-reader.ts'
import {
  GGUF_ARRAY_ITEMS_MAX,
  GGUF_METADATA_MAX,
  GGUF_NAME_BYTES_MAX,
  GGUF_STRING_BYTES_MAX,
  GGUF_TENSORS_MAX,
} from './limits.ts'
import { printable } from './printable.ts'

type GgufScalar = string | number | bigint | boolean

/** A metadata value. Integers of 64 bits are a bigint only where a number would not be exact. */
export type GgufValue = GgufScalar | readonly GgufScalar[]

export type GgufTensor = {
  readonly name: string
  /** As ggml counts: `dims[0]` is the length of a row, which lies contiguously. One to four of them. */
  readonly dims: readonly number[]
  readonly type: GgmlType
  /** Bytes from the start of the file. */
  readonly offset: number
  /** Bytes. */
  readonly size: number
}

export type GgufFile = {
  readonly version: number
  readonly metadata: ReadonlyMap<string, GgufValue>
  /** In the order of the file. */
  readonly tensors: readonly GgufTensor[]
  /** The same by name. */
  readonly tensorsByName: ReadonlyMap<string, GgufTensor>
  readonly alignment: number
  /** Where tensor data starts: bytes from the start of the file. */
  readonly dataOffset: number
  /** Size of the whole file in bytes. */
  readonly fileSize: number
}

const MAGIC = 0x46554747
const STRING = 8
const ARRAY = 9
const BOOL = 7

/** Smallest possible entry: a one-byte key and a one-byte value; smallest tensor entry: a one-byte name, one dimension. */
const ENTRY_BYTES_MIN = 14
const TENSOR_BYTES_MIN = 33

/** How much of a stranger's name a message shows. */
const NAME_SHOWN_MAX = 80

/** Scalar value types by id: bytes, and how to read them. */
const SCALARS: ReadonlyMap<number, readonly [size: number, get: (view: DataView, at: number) => number | bigint]> =
  new Map([
    [0, [1, (view: DataView, at: number) => view.getUint8(at)]],
    [1, [1, (view, at) => view.getInt8(at)]],
    [2, [2, (view, at) => view.getUint16(at, true)]],
    [3, [2, (view, at) => view.getInt16(at, true)]],
    [4, [4, (view, at) => view.getUint32(at, true)]],
    [5, [4, (view, at) => view.getInt32(at, true)]],
    [6, [4, (view, at) => view.getFloat32(at, true)]],
    [BOOL, [1, (view, at) => view.getUint8(at)]],
    [10, [8, (view, at) => exact(view.getBigUint64(at, true))]],
    [11, [8, (view, at) => exact(view.getBigInt64(at, true))]],
    [12, [8, (view, at) => view.getFloat64(at, true)]],
  ])

/**
 * Reads and checks a GGUF header. Reads blocks of 256 KiB from the start of the file, never its tensor data.
 * @throws FormatError for anything that is not a whole, consistent GGUF file; errors of the source pass through
 */
export async function readGguf(source: ByteSource): Promise<GgufFile> {
  const reader = new HeaderReader(source)
  const { version, tensorCount, entryCount } = await readPreamble(reader)
  const metadata = await readMetadata(reader, entryCount)
  const alignment = readAlignment(metadata)
  const entries = await readTensorEntries(reader, tensorCount)
  const dataOffset = roundUp(reader.offset, alignment)
  const tensors = entries.map(entry => placeTensor(entry, { alignment, dataOffset, fileSize: source.size }))
  refuseOverlaps(tensors)
  return {
    version,
    metadata,
    tensors,
    tensorsByName: new Map(tensors.map(tensor => [tensor.name, tensor])),
    alignment,
    dataOffset,
    fileSize: source.size,
  }
}

async function readPreamble(
  reader: HeaderReader,
): Promise<{ version: number; tensorCount: number; entryCount: number }> {
  if (reader.remaining >= 4) await reader.need(4)
  if (reader.remaining < 4 || reader.uint32() !== MAGIC) {
    throw new FormatError(
      { code: 'FORMAT_GGUF_MAGIC' },
      'this is not a GGUF file: it does not start with "GGUF". Koinon reads models in GGUF form only',
    )
  }
  await reader.need(20)
  const version = reader.uint32()
  if (version !== 2 && version !== 3) {
    const isSwapped = version > 0xffff
    throw new FormatError(
      { code: 'FORMAT_GGUF_VERSION', version },
      isSwapped
        ? 'this GGUF file is big-endian; only little-endian files are read'
        : `this GGUF file has version ${version}; versions 2 and 3 are read. Convert it again with a current llama.cpp`,
    )
  }
  const tensorCount = reader.count('tensors', { max: GGUF_TENSORS_MAX, itemBytes: TENSOR_BYTES_MIN })
  const entryCount = reader.count('metadata entries', { max: GGUF_METADATA_MAX, itemBytes: ENTRY_BYTES_MIN })
  return { version, tensorCount, entryCount }
}

async function readMetadata(reader: HeaderReader, count: number): Promise<Map<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>()
  let itemsLeft = GGUF_ARRAY_ITEMS_MAX
  for (let i = 0; i < count; i++) {
    const offset = reader.offset
    const key = await readString(reader, GGUF_NAME_BYTES_MAX)
    if (metadata.has(key)) throw badMetadata(key, offset, 'is there twice')
    await reader.need(4)
    const type = reader.uint32()
    if (type === ARRAY) {
      const items = await readArray(reader, key, itemsLeft)
      itemsLeft -= items.length
      metadata.set(key, items)
    } else {
      metadata.set(key, await readScalar(reader, key, type))
    }
  }
  return metadata
}

async function readArray(reader: HeaderReader, key: string, itemsMax: number): Promise<GgufScalar[]> {
  const offset = reader.offset
  await reader.need(12)
  const type = reader.uint32()
  const itemBytes = type === STRING ? 8 : SCALARS.get(type)?.[0]
  if (itemBytes === undefined) throw badMetadata(key, offset, `is an array of type ${type}, which is not read`)
  const count = reader.count('array items', { max: itemsMax, itemBytes })
  const items: GgufScalar[] = []
  for (let i = 0; i < count; i++) {
    // Vocabularies have hundreds of thousands of items: an await for each would take seconds.
    const item = readScalarAtHand(reader, key, type)
    items.push(item ?? (await readScalar(reader, key, type)))
  }
  return items
}

async function readScalar(reader: HeaderReader, key: string, type: number): Promise<GgufScalar> {
  if (type === STRING) return readString(reader, GGUF_STRING_BYTES_MAX)
  const size = SCALARS.get(type)?.[0]
  if (size === undefined) throw badMetadata(key, reader.offset, `has the unknown type ${type}`)
  await reader.need(size)
  const value = readScalarAtHand(reader, key, type)
  if (value === undefined) throw badMetadata(key, reader.offset, 'cannot be read')
  return value
}

/** Undefined where the bytes are not in the reader's block yet. */
function readScalarAtHand(reader: HeaderReader, key: string, type: number): GgufScalar | undefined {
  if (type === STRING) return reader.textAtHand()
  const scalar = SCALARS.get(type)
  if (scalar === undefined || !reader.has(scalar[0])) return undefined
  const value = reader.scalar(scalar[0], scalar[1])
  if (type !== BOOL) return value
  if (value !== 0 && value !== 1) throw badMetadata(key, reader.offset, `is a boolean of value ${value}`)
  return value === 1
}

async function readString(reader: HeaderReader, bytesMax: number): Promise<string> {
  await reader.need(8)
  const length = reader.count('bytes of text', { max: bytesMax, itemBytes: 1 })
  await reader.need(length)
  return reader.text(length)
}

function readAlignment(metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get('general.alignment') ?? 32
  const isPowerOfTwo = typeof alignment === 'number' && Number.isInteger(Math.log2(alignment))
  if (typeof alignment !== 'number' || !isPowerOfTwo || alignment < 1 || alignment > 2 ** 20) {
    throw badMetadata('general.alignment', 0, 'is not a power of two up to 1 MiB')
  }
  return alignment
}

type TensorEntry = { readonly name: string; readonly dims: number[]; readonly type: number; readonly offset: number }

async function readTensorEntries(reader: HeaderReader, count: number): Promise<TensorEntry[]> {
  const entries: TensorEntry[] = []
  const names = new Set<string>()
  for (let i = 0; i < count; i++) {
    const name = await readString(reader, GGUF_NAME_BYTES_MAX)
    if (names.has(name)) throw badTensor(name, 'is there twice')
    names.add(name)
    await reader.need(4)
    const dimensions = reader.uint32()
    if (dimensions < 1 || dimensions > 4) throw badTensor(name, `has ${dimensions} dimensions; 1 to 4 are possible`)
    await reader.need(8 * dimensions + 12)
    const dims = Array.from({ length: dimensions }, () => Number(reader.uint64()))
    const type = reader.uint32()
    entries.push({ name, dims, type, offset: Number(reader.uint64()) })
  }
  return entries
}

function placeTensor(
  entry: TensorEntry,
  file: { readonly alignment: number; readonly dataOffset: number; readonly fileSize: number },
): GgufTensor {
  const { name, dims } = entry
  const type = GGML_TYPES.get(entry.type)
  if (type === undefined) throw badTensor(name, `has type ${entry.type}, which ggml does not know`)
  if (dims.some(dim => dim < 1)) throw badTensor(name, `has an empty dimension: ${dims.join(' x ')}`)
  const rowLength = dims[0] ?? 0
  if (rowLength % type.blockSize !== 0) {
    throw badTensor(
      name,
      `has rows of ${rowLength} numbers, not a multiple of ${type.name}'s block of ${type.blockSize}`,
    )
  }
  if (entry.offset % file.alignment !== 0) {
    throw badTensor(name, `starts at data byte ${entry.offset}, not a multiple of the alignment ${file.alignment}`)
  }
  const offset = file.dataOffset + entry.offset
  const size = tensorBytes(type, dims)
  // Dimensions may multiply to anything up to 2^256: the sum is only used once it is known to be within the file.
  if (!(offset + size <= file.fileSize)) {
    throw new FormatError(
      { code: 'FORMAT_GGUF_TRUNCATED', offset, size: file.fileSize },
      `tensor "${printable(name, NAME_SHOWN_MAX)}" (${dims.join(' x ')}, ${type.name}) needs ${size} bytes at byte ${offset}, but the file ends at byte ${file.fileSize}: it is truncated or damaged`,
    )
  }
  return { name, dims, type, offset, size }
}

function refuseOverlaps(tensors: readonly GgufTensor[]): void {
  const byOffset = [...tensors].sort((a, b) => a.offset - b.offset)
  let previous: GgufTensor | undefined
  for (const tensor of byOffset) {
    if (previous !== undefined && tensor.offset < previous.offset + previous.size) {
      throw badTensor(tensor.name, `overlaps "${printable(previous.name, NAME_SHOWN_MAX)}" at byte ${tensor.offset}`)
    }
    previous = tensor
  }
}

function exact(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}

function badMetadata(key: string, offset: number, what: string): FormatError {
  const name = printable(key, NAME_SHOWN_MAX)
  return new FormatError(
    { code: 'FORMAT_GGUF_METADATA', key: name, offset },
    `metadata entry "${name}" ${what} (byte ${offset})`,
  )
}

function badTensor(tensor: string, what: string): FormatError {
  const name = printable(tensor, NAME_SHOWN_MAX)
  return new FormatError({ code: 'FORMAT_GGUF_TENSOR', tensor: name }, `tensor "${name}" ${what}`)
}
