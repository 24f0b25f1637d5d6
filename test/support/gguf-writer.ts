/** Writes GGUF headers, true ones and lying ones, for tests. The layout is drawn in `src/formats/gguf.ts`. */
import { concatBytes } from '#base'

const UINT32 = 4
const INT32 = 5
const FLOAT32 = 6
const BOOL = 7
const STRING = 8
const ARRAY = 9

export class GgufHeaderWriter {
  readonly #entries = new Map<string, Uint8Array>()
  readonly #tensors: Uint8Array[] = []
  readonly #version: number

  constructor(version = 3) {
    this.#version = version
  }

  /** Text, a boolean, an unsigned 32-bit integer, or (where it has a fraction) a 32-bit float. */
  set(key: string, value: string | number | boolean): void {
    if (typeof value === 'string') this.setRaw(key, STRING, text(value))
    else if (typeof value === 'boolean') this.setRaw(key, BOOL, Uint8Array.of(value ? 1 : 0))
    else if (Number.isInteger(value)) this.setRaw(key, UINT32, u32(value))
    else this.setFloat(key, value)
  }

  setFloat(key: string, value: number): void {
    this.setRaw(key, FLOAT32, new Uint8Array(Float32Array.of(value).buffer))
  }

  setTexts(key: string, values: readonly string[]): void {
    this.setRaw(key, ARRAY, concatBytes([u32(STRING), u64(values.length), ...values.map(text)]))
  }

  setIntegers(key: string, values: readonly number[]): void {
    this.setRaw(key, ARRAY, concatBytes([u32(INT32), u64(values.length), ...values.map(u32)]))
  }

  /** Any value type and bytes, for files that break the format. */
  setRaw(key: string, type: number, value: Uint8Array): void {
    this.#entries.set(key, concatBytes([text(key), u32(type), value]))
  }

  /** `offset` counts from the start of the tensor data. */
  addTensor(tensor: {
    readonly name: string
    readonly dims: readonly (number | bigint)[]
    readonly type: number
    readonly offset: number | bigint
  }): void {
    const { name, dims, type, offset } = tensor
    this.#tensors.push(concatBytes([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]))
  }

  /** The header without the padding behind it. */
  bytes(): Uint8Array<ArrayBuffer> {
    const counts = [u64(this.#tensors.length), u64(this.#entries.size)]
    const preamble = [new TextEncoder().encode('GGUF'), u32(this.#version), ...counts]
    return concatBytes([...preamble, ...this.#entries.values(), ...this.#tensors])
  }
}

export function u32(value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.of(value).buffer)
}

export function u64(value: number | bigint): Uint8Array<ArrayBuffer> {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)
}

function text(value: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(value)
  return concatBytes([u64(bytes.byteLength), bytes])
}
