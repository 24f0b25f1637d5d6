/**
 * Reads a model's core, which `model-id.ts` writes and whose SHA-256 is the model's id. It comes from strangers and says
 * where in a file which tensor lies, so all of it is checked before anybody asks for a byte: one encoding, no tensor that
 * overlaps another, leaves the file, or has another size than its shape gives. Names are labels and never paths.
 */
import { toHex } from '#base'
import { SHA256_BYTES, sha256 } from '#crypto'
import { CborReader } from './cbor-reader.ts'
import { caught, type DescriptionFault, refusal } from './errors.ts'
import { layerOf } from './footprint.ts'
import { GGML_TYPES, type GgmlType } from './ggml-types.ts'
import type { GgufTensor } from './gguf.ts'
import {
  CORE_ALIGNMENT,
  CORE_BYTES_MAX,
  CORE_HEADER_BYTES_MAX,
  GGUF_NAME_BYTES_MAX,
  GGUF_TENSORS_MAX,
  MODEL_FILE_BYTES_MAX,
  MODEL_LAYERS_MAX,
} from './limits.ts'
import { CORE_FORMAT } from './model-id.ts'
import { printable } from './printable.ts'

export type CoreFile = {
  /** BEP 52 pieces root, 32 bytes. */
  readonly root: Uint8Array
  /** Bytes. */
  readonly length: number
}

/** What a model's bytes are, checked. */
export type ModelCore = {
  /** 64 hexadecimal digits. */
  readonly id: string
  /** One. */
  readonly files: readonly CoreFile[]
  /** In the order of the file's header; offsets from the start of the file. At least one. */
  readonly tensors: readonly GgufTensor[]
}

const DIMENSIONS_MAX = 4
const NAME_SHOWN_MAX = 80

/** Checks and reads a core. Takes time and memory in proportion to its bytes. */
export function decodeCore(bytes: Uint8Array): ModelCore | DescriptionFault {
  return caught(() => parseCore(bytes))
}

/** As `decodeCore`. @throws FormatError FORMAT_CORE_… */
export function parseCore(bytes: Uint8Array): ModelCore {
  if (bytes.byteLength > CORE_BYTES_MAX) {
    throw refusal('FORMAT_CORE_LIMIT', `a core of ${bytes.byteLength} bytes; at most ${CORE_BYTES_MAX} are read`)
  }
  const reader = new CborReader(bytes)
  if (reader.map() !== 3 || reader.text() !== 'files') throw malformed()
  const file = readFile(reader)
  if (reader.text() !== 'format') throw malformed()
  const format = reader.uint() ?? failed()
  if (format !== CORE_FORMAT) {
    throw refusal('FORMAT_CORE_VERSION', `a core of form ${format}; form ${CORE_FORMAT} is known: update Koinon`)
  }
  if (reader.text() !== 'tensors') throw malformed()
  const tensors = readTensors(reader, file.length)
  if (!reader.isAtEnd) throw malformed()
  refuseOverlaps(tensors)
  return { id: toHex(sha256(bytes)), files: [file], tensors }
}

/** The model's file. */
export function modelFileOf(core: ModelCore): CoreFile {
  const [file] = core.files
  if (file === undefined) throw new TypeError('a core without a file')
  return file
}

function readFile(reader: CborReader): CoreFile {
  const count = reader.array() ?? failed()
  if (count !== 1) throw refusal('FORMAT_CORE_FILES', `a model of ${count} files; models of one are known`)
  if (reader.map() !== 2 || reader.text() !== 'root') throw malformed()
  const root = new Uint8Array(reader.bytes() ?? failed())
  if (root.byteLength !== SHA256_BYTES || reader.text() !== 'length') throw malformed()
  const length = reader.uint() ?? failed()
  if (length > MODEL_FILE_BYTES_MAX) {
    throw refusal('FORMAT_CORE_LIMIT', `a file of ${length} bytes; at most ${MODEL_FILE_BYTES_MAX} are taken`)
  }
  return { root, length }
}

function readTensors(reader: CborReader, fileSize: number): GgufTensor[] {
  const count = reader.array() ?? failed()
  if (count < 1 || count > GGUF_TENSORS_MAX) {
    throw refusal('FORMAT_CORE_LIMIT', `a model of ${count} tensors; 1 to ${GGUF_TENSORS_MAX} are possible`)
  }
  const names = new Set<string>()
  const tensors: GgufTensor[] = []
  for (let i = 0; i < count; i++) {
    const tensor = readTensor(reader, fileSize)
    if (names.has(tensor.name)) throw badTensor(tensor.name, 'is there twice')
    names.add(tensor.name)
    tensors.push(tensor)
  }
  return tensors
}

/** [name, dims, ggml type, offset, size] */
function readTensor(reader: CborReader, fileSize: number): GgufTensor {
  if (reader.array() !== 5) throw malformed()
  const name = reader.text() ?? failed()
  if (name.length > GGUF_NAME_BYTES_MAX || new TextEncoder().encode(name).byteLength > GGUF_NAME_BYTES_MAX) {
    throw badTensor(name, `has a name of more than ${GGUF_NAME_BYTES_MAX} bytes`)
  }
  if ((layerOf(name) ?? 0) >= MODEL_LAYERS_MAX) throw badTensor(name, `is of a layer beyond ${MODEL_LAYERS_MAX}`)
  const dimensions = reader.array() ?? failed()
  if (dimensions < 1 || dimensions > DIMENSIONS_MAX) throw badTensor(name, `has ${dimensions} dimensions`)
  const dims = Array.from({ length: dimensions }, () => reader.uint() ?? failed())
  const typeId = reader.uint() ?? failed()
  const offset = reader.uint() ?? failed()
  const size = reader.uint() ?? failed()
  const type = GGML_TYPES.get(typeId)
  if (type === undefined) throw badTensor(name, `has type ${typeId}, which ggml does not know`)
  const expected = sizeOf(type, dims)
  if (expected === undefined) throw badTensor(name, `has a shape that ${type.name} cannot have: ${dims.join(' x ')}`)
  if (size !== expected) throw badTensor(name, `says ${size} bytes, but its shape takes ${expected}`)
  if (offset % CORE_ALIGNMENT !== 0) throw badTensor(name, `starts at byte ${offset}, which is not aligned`)
  // Both are below 2^53, so that what their sum loses is far beyond any file.
  if (offset === 0 || offset + size > fileSize)
    throw badTensor(name, `does not lie within the file's ${fileSize} bytes`)
  return { name, dims, type, offset, size }
}

/** Bytes of a tensor; undefined: no tensor has that shape, or nobody can count its bytes exactly. */
function sizeOf(type: GgmlType, dims: readonly number[]): number | undefined {
  let count = 1
  for (const dim of dims) {
    count *= dim
    if (dim < 1 || !Number.isSafeInteger(count)) return undefined
  }
  if ((dims[0] ?? 0) % type.blockSize !== 0) return undefined
  const size = (count / type.blockSize) * type.blockBytes
  return Number.isSafeInteger(size) ? size : undefined
}

function refuseOverlaps(tensors: readonly GgufTensor[]): void {
  const byOffset = [...tensors].sort((a, b) => a.offset - b.offset)
  if ((byOffset[0]?.offset ?? 0) > CORE_HEADER_BYTES_MAX) {
    throw refusal('FORMAT_CORE_LIMIT', `a header of more than ${CORE_HEADER_BYTES_MAX} bytes`)
  }
  for (const [at, tensor] of byOffset.entries()) {
    const previous = byOffset[at - 1]
    if (previous !== undefined && tensor.offset < previous.offset + previous.size) {
      throw badTensor(tensor.name, `overlaps "${printable(previous.name, NAME_SHOWN_MAX)}"`)
    }
  }
}

function badTensor(name: string, what: string): Error {
  return refusal('FORMAT_CORE_TENSOR', `tensor "${printable(name, NAME_SHOWN_MAX)}" of a core ${what}`)
}

function malformed(): Error {
  return refusal('FORMAT_CORE_MALFORMED', "bytes that are not a model's core in its canonical form")
}

function failed(): never {
  throw malformed()
}
